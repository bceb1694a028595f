// What somebody has to know at once, in red.

import { at, counted, el, moment, shown } from "./render.js";

let heard = null;
let said = "";

/** The server answered. */
export function answered(status) {
  heard = status.now_us;
  say(troubles(status));
}

/** The server did not answer. */
export function silent(why) {
  say([[heard === null ? why : `${why} What is shown is of ${moment(heard)}.`]]);
}

function troubles({ store, healthy, source, configuration }) {
  const found = [];
  if (store.degraded) {
    found.push([`Redis does not answer, or not in time: the failure policy “${shown(store.failure_mode)}” decides requests.`]);
  }
  const { rejected } = configuration;
  if (rejected) {
    const mistakes = rejected.mistakes.length + (rejected.more ?? 0);
    const instead = configuration.loaded_us ? "the one before it stays in force" : "none is in force yet";
    found.push([`The configuration of ${moment(rejected.at_us)} was rejected for ${counted(mistakes, "mistake")}; ${instead}. `,
      el("a", { href: "#configuration" }, "See the mistakes")]);
  }
  if (source.connected === false) {
    found.push([`The source of rules ${shown(source.origin)} cannot be reached: the rules in force may be old.`]);
  }
  if (!healthy) {
    found.push(["This instance asks for no requests: its health is not serving."]);
  }
  return found;
}

function say(found) {
  const lines = found.map((parts) => el("p", {}, ...parts));
  const text = lines.map((line) => line.textContent).join("\n");
  if (text !== said) {
    said = text;
    at("banner").replaceChildren(...lines);
  }
}
