// The rules as a tree, with the hits that each admits and denies. The server searches and returns one page at a time.

import { get } from "./api.js";
import { tree } from "./tree.js";
import { byId, count, counted, write } from "./render.js";

/** Number of rules on a page. */
const PAGE = 200;

/** Pause after typing before the server searches. */
const DEBOUNCE_MS = 200;

const shownNow = { search: "", offset: 0, total: 0 };
const search = byId("rules-search");
let drawn = null;

/** Requests and shows a page of rules. */
export async function load(signal) {
  const { search: text, offset } = shownNow;
  const page = await get("rules", { search: text, offset, limit: PAGE }, signal);
  shownNow.total = page.total;
  if (page.rules.length === 0 && offset > 0) {
    // The number of rules has decreased.
    shownNow.offset = 0;
    return load(signal);
  }
  const identity = JSON.stringify(page.rules.map(({ path, file, line, limits }) => [path, file, line, limits]));
  const query = JSON.stringify([text, offset]);
  if (drawn?.identity !== identity || drawn.query !== query) {
    const next = tree(page.rules, drawn?.tree);
    // The result of a new query is completely unfolded.
    next.unfold(drawn?.query === query ? drawn.tree : null);
    drawn = { identity, query, tree: next };
    const focused = document.activeElement?.closest?.("#rules-tree details")?.dataset.path;
    byId("rules-tree").replaceChildren(drawn.tree.element);
    drawn.tree.focus(focused);
  }
  drawn.tree.update(page.rules, page.now_us / 1e6);
  write(byId("rules-count"), heading(page.rules.length));
  byId("rules-pager").hidden = shownNow.total <= PAGE;
  byId("rules-before").disabled = offset === 0;
  byId("rules-after").disabled = offset + PAGE >= shownNow.total;
}

/** Calls back when the search or the page changes. */
export function onChoice(changed) {
  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      Object.assign(shownNow, { search: search.value.trim(), offset: 0 });
      changed();
    }, DEBOUNCE_MS);
  });
  search.form.addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => () => {
    shownNow.offset = Math.max(0, shownNow.offset + by);
    byId("rules-title").focus();
    changed();
  };
  byId("rules-before").addEventListener("click", turn(-PAGE));
  byId("rules-after").addEventListener("click", turn(PAGE));
}

function heading(onPage) {
  const { search: text, offset, total } = shownNow;
  const found = text ? `${counted(total, "rule matches", "rules match")}` : counted(total, "rule");
  return total > onPage ? `${found}; ${count(offset + 1)} to ${count(offset + onPage)} are shown` : found;
}
