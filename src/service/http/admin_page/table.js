// Tables that are told again and again, without taking the focus from who reads them.

import { el } from "./render.js";

/** A table that may be scrolled sideways. `columns`: [title, "n" for numbers]; `rows`: [key, cells]. */
export function table(label, columns, rows) {
  const head = columns.map(([title, kind]) => el("th", { scope: "col", class: kind }, title));
  const body = rows.map(([key, cells]) => el("tr", { "data-key": key },
    ...cells.map((cell, index) => el("td", { class: columns[index][1] }, cell))));
  const made = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, made);
}

/** Puts what was made into its place. Of a table that is there already, only what differs is changed. */
export function renew(place, made) {
  const there = place.firstElementChild;
  const [old, fresh] = [there, made].map((part) => part?.querySelector("tbody"));
  if (!old || !fresh || there.getAttribute("aria-label") !== made.getAttribute("aria-label")) {
    place.replaceChildren(made);
    return;
  }
  const held = place.contains(document.activeElement) ? document.activeElement : null;
  renewRows(old, Array.from(fresh.rows));
  if (held && document.activeElement !== held) {
    // Its row has moved, or is gone.
    (held.isConnected ? held : there).focus({ preventScroll: true });
  }
}

function renewRows(old, fresh) {
  const known = new Map(Array.from(old.rows, (row) => [row.dataset.key, row]));
  fresh.forEach((row, index) => {
    const kept = known.get(row.dataset.key) ?? row;
    if (kept !== row) {
      Array.from(row.cells).forEach((cell, column) => {
        if (!kept.cells[column].isEqualNode(cell)) {
          kept.cells[column].replaceWith(cell);
        }
      });
    }
    if (old.rows[index] !== kept) {
      old.insertBefore(kept, old.rows[index] ?? null);
    }
  });
  while (old.rows.length > fresh.length) {
    old.lastElementChild.remove();
  }
}
