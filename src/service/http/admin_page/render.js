// How things are written on the page, and how elements are made. What comes from clients and rules gets onto
// the page only here, and only as text.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "polyline", "line", "rect", "path", "text"]);

// What would be invisible, or would change the order of what is around it.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}]/gu;

/** The longest text from outside that is shown in full. */
const LONGEST = 240;

/** Makes an element. A child is an element or text. */
export function el(name, attributes = {}, ...children) {
  const made = DRAWN.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) {
      made.setAttribute(key, value === true ? "" : value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** The element with this id. */
export function at(id) {
  return document.getElementById(id);
}

/** Changes a text only when it is another one: what did not change is not read out again. */
export function write(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Text from outside: with what cannot be seen written out, and shortened. */
export function shown(text, longest = LONGEST) {
  const all = Array.from(String(text));
  const cut = all.slice(0, longest).join("");
  const visible = cut.replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
  const more = all.length - longest;
  return more > 0 ? `${visible}… (${count(more)} more characters)` : visible;
}

/** Text from outside as an element, which reads in its own direction. */
export function quoted(text, longest) {
  return el("bdi", { class: "code" }, shown(text, longest));
}

const COUNT = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SMALL = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const TINY = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

/** A whole number. */
export function count(number) {
  return COUNT.format(number);
}

/** A number of things, with the word for them. */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** How many per second. */
export function rate(perSecond) {
  if (perSecond === null) {
    return "–";
  }
  if (perSecond >= 100) {
    return COUNT.format(perSecond);
  }
  return (perSecond >= 1 || perSecond === 0 ? SMALL : TINY).format(perSecond);
}

/** A length of time in seconds, by at most two units. */
export function lasting(seconds) {
  if (seconds < 1) {
    return seconds <= 0 ? "0 s" : `${TINY.format(seconds * 1000)} ms`;
  }
  if (seconds < 60) {
    return `${SMALL.format(seconds)} s`;
  }
  const whole = Math.round(seconds);
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, length]) => whole >= length);
  const [name, length] = units[first];
  const next = units[first + 1];
  const rest = next ? Math.floor((whole % length) / next[1]) : 0;
  return `${Math.floor(whole / length)} ${name}${rest ? ` ${rest} ${next[0]}` : ""}`;
}

/** A moment, in the time of whoever reads it. */
export function moment(us) {
  const date = new Date(us / 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString("en-GB") : date.toLocaleString("en-GB");
}

/** The rows of a list of facts; what is null is left out. */
export function facts(list, rows) {
  const kept = rows.filter(([, value]) => value !== null && value !== undefined);
  const terms = kept.map(([term]) => term).join("\n");
  if (list.dataset.terms !== terms) {
    list.dataset.terms = terms;
    list.replaceChildren(...kept.map(([term]) => el("div", {}, el("dt", {}, term), el("dd"))));
  }
  kept.forEach(([, value], index) => {
    const place = list.children[index].lastElementChild;
    if (!(value instanceof Node)) {
      write(place, String(value));
    } else if (!place.firstChild?.isEqualNode(value)) {
      place.replaceChildren(value);
    }
  });
}

/** A link to a view of this page. */
export function link(view, query, child) {
  return el("a", { href: `#${view}?${new URLSearchParams(query)}` }, child);
}
