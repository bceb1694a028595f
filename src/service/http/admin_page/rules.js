// The rules as a tree, with what each admits and denies. The server searches; a page of the list at a time is
// shown, however many there are.

import { get } from "./api.js";
import { tree } from "./tree.js";
import { at, count, counted, write } from "./render.js";

/** The most rules that are shown at once. */
const PAGE = 200;

/** So long the typing has to rest before the server searches. */
const REST_MS = 200;

const shownNow = { search: "", offset: 0, total: 0 };
const search = at("rules-search");
let drawn = null;

/** Asks, and shows what is answered. */
export async function ask(signal) {
  const { search: text, offset } = shownNow;
  const told = await get("rules", { search: text, offset, limit: PAGE }, signal);
  shownNow.total = told.total;
  if (told.rules.length === 0 && offset > 0) {
    // There are fewer rules than there were.
    shownNow.offset = 0;
    return ask(signal);
  }
  const identity = JSON.stringify(told.rules.map(({ path, file, line, limits }) => [path, file, line, limits]));
  const question = JSON.stringify([text, offset]);
  if (drawn?.identity !== identity || drawn.question !== question) {
    const next = tree(told.rules, drawn?.tree);
    // What was found by another question is all in sight.
    next.unfold(drawn?.question === question ? drawn.tree : null);
    drawn = { identity, question, tree: next };
    const focused = document.activeElement?.closest?.("#rules-tree details")?.dataset.path;
    at("rules-tree").replaceChildren(drawn.tree.element);
    drawn.tree.focus(focused);
  }
  drawn.tree.tell(told.rules, told.now_us / 1e6);
  write(at("rules-count"), heading(told.rules.length));
  at("rules-pager").hidden = shownNow.total <= PAGE;
  at("rules-before").disabled = offset === 0;
  at("rules-after").disabled = offset + PAGE >= shownNow.total;
}

/** Calls back when others are to be shown. */
export function onChoice(changed) {
  let resting = 0;
  search.addEventListener("input", () => {
    clearTimeout(resting);
    resting = setTimeout(() => {
      Object.assign(shownNow, { search: search.value.trim(), offset: 0 });
      changed();
    }, REST_MS);
  });
  search.form.addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => () => {
    shownNow.offset = Math.max(0, shownNow.offset + by);
    at("rules-title").focus();
    changed();
  };
  at("rules-before").addEventListener("click", turn(-PAGE));
  at("rules-after").addEventListener("click", turn(PAGE));
}

function heading(here) {
  const { search: text, offset, total } = shownNow;
  const found = text ? `${counted(total, "rule matches", "rules match")}` : counted(total, "rule");
  return total > here ? `${found}; ${count(offset + 1)} to ${count(offset + here)} are shown` : found;
}
