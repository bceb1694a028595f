// Tables that are refreshed without moving the focus.

import { el } from "./render.js";

/** Creates a table that scrolls horizontally. `columns` are [title, "n" for numbers], `rows` are [key, cells]. */
export function table(label, columns, rows) {
  const head = columns.map(([title, kind]) => el("th", { scope: "col", class: kind }, title));
  const body = rows.map(([key, cells]) => el("tr", { "data-key": key },
    ...cells.map((cell, index) => el("td", { class: columns[index][1] }, cell))));
  const created = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, created);
}

/** Replaces the content of a container. If it is the same table, only the cells that differ are replaced. */
export function renew(container, content) {
  const existing = container.firstElementChild;
  const [old, fresh] = [existing, content].map((part) => part?.querySelector("tbody"));
  if (!old || !fresh || existing.getAttribute("aria-label") !== content.getAttribute("aria-label")) {
    container.replaceChildren(content);
    return;
  }
  const focused = container.contains(document.activeElement) ? document.activeElement : null;
  renewRows(old, Array.from(fresh.rows));
  if (focused && document.activeElement !== focused) {
    // The row of the focused element has moved or was removed.
    (focused.isConnected ? focused : existing).focus({ preventScroll: true });
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
