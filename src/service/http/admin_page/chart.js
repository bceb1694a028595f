// Charts of values over time as SVG.

import { el, rate, write } from "./render.js";

/** Maximum time range of a chart of rates. */
export const MINUTES = 5;

/** Height of the labels below a chart. */
const LABEL_HEIGHT = 16;

/** An area chart from the oldest value to now, as wide as its container. */
export class Plot {
  #ago;

  constructor(height) {
    this.base = height - LABEL_HEIGHT;
    this.width = 320;
    this.line = el("path", { class: "line" });
    this.area = el("path", { class: "area" });
    this.zero = el("line", { class: "axis" });
    this.ceiling = el("line", { class: "axis", y1: 1, y2: 1, "stroke-dasharray": "2 4" });
    this.most = el("text", { x: 2, y: 12 });
    this.#ago = el("text", { x: 2, y: height - 3 });
    this.now = el("text", { y: height - 3, "text-anchor": "end" }, "now");
    this.drawing = el("svg", { role: "img", class: "chart", height },
      this.ceiling, this.zero, this.area, this.line, this.most, this.#ago, this.now);
    this.#fit(this.width);
    new ResizeObserver(([{ contentRect }]) => this.#fit(contentRect.width)).observe(this.drawing);
  }

  /** Draws runs of [seconds ago, value] in the last `back` seconds, with values from `least` to `most`. */
  draw(runs, back, [least, most]) {
    const x = (ago) => r(this.width * (1 - ago / back));
    const y = (value) => r(this.base - ((this.base - 2) * (value - least)) / (most > least ? most - least : 1));
    const path = (run) => run.map(([ago, value], i) => `${i ? "L" : "M"}${x(ago)} ${y(value)}`).join("");
    const floor = y(0);
    this.line.setAttribute("d", runs.map(path).join(""));
    this.area.setAttribute("d", runs
      .map((run) => `${path(run)}L${x(run.at(-1)[0])} ${floor}L${x(run[0][0])} ${floor}Z`).join(""));
    this.zero.setAttribute("y1", floor);
    this.zero.setAttribute("y2", floor);
    write(this.#ago, back < 120 ? `${back} s ago` : `${back / 60} min ago`);
  }

  /** Sets the description for screen readers. */
  describe(text) {
    if (this.drawing.getAttribute("aria-label") !== text) {
      this.drawing.setAttribute("aria-label", text);
    }
  }

  #fit(width) {
    if (width > 0) {
      this.width = width;
      this.now.setAttribute("x", width - 2);
      for (const line of [this.zero, this.ceiling]) {
        line.setAttribute("x2", width);
      }
    }
  }
}

/** A chart of one rate in the last minutes, with its own scale. */
export class RateChart {
  #plot = new Plot(100);

  constructor(name) {
    this.name = name;
    this.drawing = this.#plot.drawing;
  }

  /** `points`: [seconds, per second or null], the oldest first. */
  draw(points, now) {
    const known = points.map(([, value]) => value).filter((value) => value !== null);
    const most = Math.max(...known, 0);
    const minutes = Math.min(MINUTES, Math.max(1, Math.ceil((now - points[0][0]) / 60)));
    const since = points.map(([at, value]) => [now - at, value]);
    this.#plot.draw(unbroken(since), minutes * 60, [0, most]);
    write(this.#plot.most, most > 0 ? `${rate(most)}/s` : "");
    const summary = known.length === 0
      ? "no data yet"
      : `between ${rate(Math.min(...known))} and ${rate(most)} per second, ${rate(known.at(-1))} now`;
    this.#plot.describe(`${this.name} in the last ${minutes} min: ${summary}`);
  }
}

/** A small line chart without axes. `names` are the classes of the lines. */
export class Spark {
  constructor(names, length) {
    this.length = length;
    this.lines = names.map((name) => el("polyline", { class: `line ${name}` }));
    this.drawing = el("svg", { viewBox: "0 0 100 20", preserveAspectRatio: "none", class: "spark",
      "aria-hidden": "true" }, ...this.lines);
  }

  /** Draws the values of each line on a common scale, the newest at the right. */
  draw(series) {
    const most = Math.max(...series.flat(), 0);
    const step = 100 / (this.length - 1);
    series.forEach((values, index) => {
      const from = this.length - values.length;
      const points = values.map((value, i) =>
        `${r((from + i) * step)},${r(19 - (most > 0 ? (18 * value) / most : 0))}`);
      // A line at zero is not drawn.
      this.lines[index].setAttribute("points", values.some((value) => value > 0) ? points.join(" ") : "");
    });
  }
}

function unbroken(points) {
  const runs = [[]];
  for (const point of points) {
    if (point[1] === null) {
      runs.push([]);
    } else {
      runs.at(-1).push(point);
    }
  }
  return runs.filter((run) => run.length > 0);
}

function r(number) {
  return Math.round(number * 10) / 10;
}
