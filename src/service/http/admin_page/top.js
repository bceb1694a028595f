// The hottest and the most denied descriptors.

import { get } from "./api.js";
import { renew, table } from "./table.js";
import { at, count, el, link, moment, quoted, write } from "./render.js";

const ROWS = 20;
const choices = Array.from(document.querySelectorAll("#top [data-window]"));
let chosen = "minute";

/** Asks, and shows what is answered. */
export async function ask(signal) {
  const window = chosen;
  const told = await get("top", { window, limit: ROWS }, signal);
  const { total_hits: hits, total_denied: denied, total_would_deny: shadow, error } = told;
  const off = error > 0 ? ` A count may be too high by up to ${count(error)}.` : "";
  const passed = shadow > 0 ? `; shadow mode let ${count(shadow)} pass that would be denied` : "";
  write(at("top-total"), `${count(hits)} hits in the last ${window}, ${count(denied)} of them denied${passed}.${off}`);
  renew(at("top-denied"), deniedTable(`Most denied, last ${window}`, told.denied));
  at("top-would-deny-section").hidden = told.would_deny.length === 0;
  renew(at("top-would-deny"), shadowTable(`Would be denied, last ${window}`, told.would_deny));
  renew(at("top-hottest"), hottestTable(`Hottest, last ${window}`, told.hottest));
}

/** Calls back when somebody chose another length of time. */
export function onChoice(changed) {
  for (const button of choices) {
    button.addEventListener("click", () => {
      chosen = button.dataset.window;
      for (const other of choices) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      changed();
    });
  }
}

/** A table of who was denied most. */
export function deniedTable(label, rows) {
  if (rows.length === 0) {
    return el("p", { class: "quiet" }, "Nobody was denied.");
  }
  return denials(label, ["Denied", "Last request denied"], rows, ({ denied }) => denied);
}

/** The same of what shadow mode let pass. */
function shadowTable(label, rows) {
  return denials(label, ["Would be denied", "Last such request"], rows, ({ would_deny: denied }) => denied);
}

function denials(label, [counted, last], rows, number) {
  const columns = [["Bucket"], [counted, "n"], ["Hits", "n"], ["Last", "n"], [last]];
  return table(label, columns, rows.map((row) => [row.key, [
    bucket(row),
    count(number(row)),
    row.hits === null ? "–" : count(row.hits),
    row.last_denied_us ? moment(row.last_denied_us) : "–",
    row.request ? quoted(row.request, 160) : "–",
  ]]));
}

function hottestTable(label, rows) {
  if (rows.length === 0) {
    return el("p", { class: "quiet" }, "Nobody asked.");
  }
  const hasShadow = rows.some(({ would_deny: denied }) => denied > 0);
  const columns = [["Bucket"], ["Hits", "n"], ["Denied", "n"], ["Would be denied", "n"]];
  return table(label, columns.slice(0, hasShadow ? 4 : 3), rows.map((row) => [row.key, [
    bucket(row),
    count(row.hits),
    count(row.denied),
    ...(hasShadow ? [count(row.would_deny)] : []),
  ]]));
}

function bucket({ key, rule }) {
  const of = rule ? el("span", { class: "quiet" }, " of ", quoted(rule, 80)) : null;
  return el("div", { class: "key" }, link("bucket", { key }, quoted(key, 80)), of);
}
