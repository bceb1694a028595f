// Buckets with the most hits, and with the most denied hits.

import { get } from "./api.js";
import { renew, table } from "./table.js";
import { byId, count, el, link, moment, quoted, write } from "./render.js";

const ROWS = 20;
const choices = Array.from(document.querySelectorAll("#top [data-window]"));
let chosen = "minute";

/** Requests and shows the buckets. */
export async function load(signal) {
  const window = chosen;
  const top = await get("top", { window, limit: ROWS }, signal);
  const { total_hits: hits, total_denied: denied, total_would_deny: shadow, error } = top;
  const note = error > 0 ? ` Counts can be too high by up to ${count(error)}.` : "";
  const passed = shadow > 0 ? `; shadow mode allowed ${count(shadow)} that would be denied` : "";
  write(byId("top-total"), `${count(hits)} hits in the last ${window}, ${count(denied)} of them denied${passed}.${note}`);
  renew(byId("top-denied"), deniedTable(`Most denied, last ${window}`, top.denied));
  byId("top-would-deny-section").hidden = top.would_deny.length === 0;
  renew(byId("top-would-deny"), shadowTable(`Would be denied, last ${window}`, top.would_deny));
  renew(byId("top-hottest"), hottestTable(`Hottest, last ${window}`, top.hottest));
}

/** Calls back when another time window is selected. */
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

/** Creates a table of the buckets with the most denied hits. */
export function deniedTable(label, rows) {
  if (rows.length === 0) {
    return el("p", { class: "quiet" }, "No hits were denied.");
  }
  return denials(label, ["Denied", "Last request denied"], rows, ({ denied }) => denied);
}

/** Creates a table of the buckets with the most hits that shadow mode allowed. */
function shadowTable(label, rows) {
  return denials(label, ["Would be denied", "Last request"], rows, ({ would_deny: denied }) => denied);
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
    return el("p", { class: "quiet" }, "There were no hits.");
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
