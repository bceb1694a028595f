// The level of a bucket: a number, a bar, and a chart of the last minute.

import { Plot } from "./chart.js";
import { count, counted, el, shown, write } from "./render.js";

const SECONDS = 60;

/** Shows the level of one bucket. */
export class Gauge {
  #points = [];
  #bucket = null;
  #at = 0;
  #plot = new Plot(140);

  constructor({ key }) {
    this.number = el("span", { class: "number" });
    this.of = el("span");
    this.bar = el("rect", { x: 0, y: 0, height: 10 });
    this.meter = el("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "bar", role: "meter",
      "aria-label": `Tokens in ${shown(key, 80)}`, "aria-valuemin": "0" }, this.bar);
    this.element = el("div", { class: "gauge" },
      el("p", {}, this.number, this.of), this.meter, this.#plot.drawing);
  }

  /** Sets the level at `now` of the clock of this page. */
  update(bucket, now) {
    if (this.#bucket) {
      this.#points.push([now, this.#level(now)]);
    }
    this.#bucket = bucket;
    this.#at = now;
    this.#points.push([now, this.#level(now)]);
    // One point before the beginning of the chart is kept, where the line enters.
    while (this.#points.length > 1 && this.#points[1][0] < now - SECONDS * 1000) {
      this.#points.shift();
    }
    this.#describe();
    this.draw(now);
  }

  /** Draws the level at `now`, assuming that no tokens were taken since the last update. */
  draw(now) {
    if (!this.#bucket) {
      return;
    }
    const { capacity, remaining, debt } = this.#bucket;
    const level = this.#level(now);
    write(this.number, count(Math.max(remaining - debt, Math.floor(level + 1e-6))));
    this.bar.setAttribute("width", String(Math.max(0, Math.min(100, (100 * level) / Math.max(1, capacity)))));
    const points = [...this.#points, [now, level]].map(([at, value]) => [(now - at) / 1000, value]);
    const values = points.map(([, value]) => value);
    this.#plot.draw([points], SECONDS, [Math.min(0, ...values), Math.max(capacity, ...values)]);
  }

  /** Returns the exact level, computed from the time until the bucket is full. */
  #level(now) {
    const { capacity, remaining, debt, full_in_us: fullIn, refill_per_second: refill, window } = this.#bucket;
    if (window || !refill) {
      return remaining - debt;
    }
    const left = Math.max(0, fullIn / 1e6 - (now - this.#at) / 1000);
    return capacity - left * refill;
  }

  #describe() {
    const { capacity, remaining, debt } = this.#bucket;
    const tokens = counted(capacity, "token");
    write(this.of, ` of ${tokens} left`);
    write(this.#plot.most, count(capacity));
    this.meter.setAttribute("aria-valuemax", String(capacity));
    this.meter.setAttribute("aria-valuenow", String(remaining));
    this.meter.setAttribute("aria-valuetext", `${count(remaining)} of ${tokens}`);
    const levels = this.#points.map(([, level]) => Math.floor(level + 1e-6));
    this.#plot.describe(`Tokens in the last ${SECONDS} seconds: between ${count(Math.min(...levels))} and `
      + `${count(Math.max(...levels))}, ${count(remaining - debt)} now`);
  }
}
