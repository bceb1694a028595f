// Formats values and creates elements. Texts from clients and rules are only inserted here, and only as text nodes.

const SVG = "http://www.w3.org/2000/svg";
const SVG_ELEMENTS = new Set(["svg", "polyline", "line", "rect", "path", "text"]);

// Characters that are invisible or change the order of others.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}]/gu;

/** Maximum length of an untrusted text. */
const MAX_LENGTH = 240;

/** Creates an element. A child is an element or a text. */
export function el(name, attributes = {}, ...children) {
  const created = SVG_ELEMENTS.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) {
      created.setAttribute(key, value === true ? "" : value);
    }
  }
  created.append(...children.filter((child) => child !== null && child !== undefined));
  return created;
}

/** Returns the element with an id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Sets the text of an element if it differs, so that screen readers do not repeat it. */
export function write(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Returns an untrusted text with invisible characters escaped, truncated. */
export function shown(text, length = MAX_LENGTH) {
  const all = Array.from(String(text));
  const start = all.slice(0, length).join("");
  const visible = start.replace(INVISIBLE, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
  const more = all.length - length;
  return more > 0 ? `${visible}… (${count(more)} more characters)` : visible;
}

/** Returns an untrusted text as an element with its own text direction. */
export function quoted(text, length) {
  return el("bdi", { class: "code" }, shown(text, length));
}

const COUNT = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SMALL = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const TINY = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

/** Formats an integer. */
export function count(number) {
  return COUNT.format(number);
}

/** Formats a number of things with their noun. */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** Formats a rate per second; null is unknown. */
export function rate(perSecond) {
  if (perSecond === null) {
    return "–";
  }
  if (perSecond >= 100) {
    return COUNT.format(perSecond);
  }
  return (perSecond >= 1 || perSecond === 0 ? SMALL : TINY).format(perSecond);
}

/** Formats a duration in seconds with at most two units. */
export function duration(seconds) {
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

/** Formats a time in microseconds in the time zone of the browser. */
export function moment(us) {
  const date = new Date(us / 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString("en-GB") : date.toLocaleString("en-GB");
}

/** Updates a list of terms and values. Rows whose value is null are omitted. */
export function facts(list, rows) {
  const kept = rows.filter(([, value]) => value !== null && value !== undefined);
  const terms = kept.map(([term]) => term).join("\n");
  if (list.dataset.terms !== terms) {
    list.dataset.terms = terms;
    list.replaceChildren(...kept.map(([term]) => el("div", {}, el("dt", {}, term), el("dd"))));
  }
  kept.forEach(([, value], index) => {
    const cell = list.children[index].lastElementChild;
    if (!(value instanceof Node)) {
      write(cell, String(value));
    } else if (!cell.firstChild?.isEqualNode(value)) {
      cell.replaceChildren(value);
    }
  });
}

/** Creates a link to a view of this page. */
export function link(view, query, child) {
  return el("a", { href: `#${view}?${new URLSearchParams(query)}` }, child);
}
