// The configuration in force, and the mistakes of the last one that was rejected.

import { get } from "./api.js";
import { table } from "./table.js";
import { at, count, counted, el, facts, moment, quoted, shown, write } from "./render.js";

/** The most that is shown; `/rlconfig` has it all. */
const FILES = 200;
const LINES = 400;

let seen = null;

/** The server told what is in force: true when more has to be asked. */
export function tell({ configuration, source }) {
  facts(at("in-force"), [
    ["Version", configuration.version && shown(configuration.version)],
    ["From", shown(source.origin)],
    ["In force since", configuration.loaded_us ? moment(configuration.loaded_us) : "nothing is loaded yet"],
    ["Domains", count(configuration.domains)],
    ["Rules", count(configuration.rules)],
  ]);
  tellRejected(configuration.rejected);
  const now = JSON.stringify([configuration.version, configuration.loaded_us]);
  const isOther = seen !== now;
  seen = now;
  return isOther;
}

/** Asks for the text, and shows it. */
export async function ask(signal) {
  const { files, text } = await get("configuration", {}, signal);
  const rows = files.slice(0, FILES).map(({ name, rules }) => [name, [quoted(name), count(rules)]]);
  at("files").replaceChildren(
    rows.length ? table("Files", [["File"], ["Rules", "n"]], rows) : el("p", { class: "quiet" }, "There are none."),
    el("p", { class: "quiet" }, files.length > FILES ? `and ${counted(files.length - FILES, "more file")}` : ""));
  const lines = text.split("\n").filter(Boolean);
  write(at("limits"), lines.slice(0, LINES).map((line) => shown(line)).join("\n"));
  const more = lines.length - LINES;
  at("more-limits").replaceChildren(...(more > 0
    ? [`and ${counted(more, "more line")}: `, el("a", { href: "rlconfig" }, "all of them as text")] : []));
}

function tellRejected(rejected) {
  at("rejected").hidden = !rejected;
  if (!rejected) {
    return;
  }
  write(at("rejected-when"), `Rejected ${moment(rejected.at_us)}. What is told below is what is in force.`);
  const list = at("mistakes");
  const told = JSON.stringify(rejected);
  if (list.dataset.told !== told) {
    list.dataset.told = told;
    list.replaceChildren(...rejected.mistakes.map((mistake) => el("li", {}, quoted(mistake, 1000))));
  }
  write(at("more-mistakes"), rejected.more > 0 ? `and ${counted(rejected.more, "more mistake")}` : "");
}
