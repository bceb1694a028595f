// The active configuration, and the errors of the rejected one that came after it.

import { get } from "./api.js";
import { table } from "./table.js";
import { byId, count, counted, el, facts, moment, quoted, shown, write } from "./render.js";

/** Maximum number of files and lines that are shown; `/rlconfig` has all lines. */
const MAX_FILES = 200;
const MAX_LINES = 400;

let current = null;

/** Shows the configuration of a status. Returns whether its text must be requested. */
export function update({ configuration, source }) {
  facts(byId("active"), [
    ["Version", configuration.version && shown(configuration.version)],
    ["Source", shown(source.origin)],
    ["Active since", configuration.loaded_us ? moment(configuration.loaded_us) : "no configuration is active"],
    ["Domains", count(configuration.domains)],
    ["Rules", count(configuration.rules)],
  ]);
  showRejected(configuration.rejected);
  const now = JSON.stringify([configuration.version, configuration.loaded_us]);
  const hasChanged = current !== now;
  current = now;
  return hasChanged;
}

/** Requests and shows the text of the configuration. */
export async function load(signal) {
  const { files, text } = await get("configuration", {}, signal);
  const rows = files.slice(0, MAX_FILES).map(({ name, rules }) => [name, [quoted(name), count(rules)]]);
  byId("files").replaceChildren(
    rows.length ? table("Files", [["File"], ["Rules", "n"]], rows) : el("p", { class: "quiet" }, "none"),
    el("p", { class: "quiet" }, files.length > MAX_FILES ? `and ${counted(files.length - MAX_FILES, "more file")}` : ""));
  const lines = text.split("\n").filter(Boolean);
  write(byId("limits"), lines.slice(0, MAX_LINES).map((line) => shown(line)).join("\n"));
  const more = lines.length - MAX_LINES;
  byId("more-limits").replaceChildren(...(more > 0
    ? [`and ${counted(more, "more line")}: `, el("a", { href: "rlconfig" }, "all of them as text")] : []));
}

function showRejected(rejected) {
  byId("rejected").hidden = !rejected;
  if (!rejected) {
    return;
  }
  write(byId("rejected-when"), `Rejected ${moment(rejected.at_us)}. The active configuration is shown below.`);
  const list = byId("mistakes");
  const shownNow = JSON.stringify(rejected);
  if (list.dataset.shown !== shownNow) {
    list.dataset.shown = shownNow;
    list.replaceChildren(...rejected.mistakes.map((mistake) => el("li", {}, quoted(mistake, 1000))));
  }
  write(byId("more-mistakes"), rejected.more > 0 ? `and ${counted(rejected.more, "more error")}` : "");
}
