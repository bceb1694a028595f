// Problems that need attention, shown at the top in red.

import { byId, counted, el, moment, shown } from "./render.js";

let lastUpdate = null;
let current = "";

/** Shows the problems of a status. */
export function showStatus(status) {
  lastUpdate = status.now_us;
  show(problems(status));
}

/** Shows that the server does not respond. */
export function showUnavailable(message) {
  show([[lastUpdate === null ? message : `${message} The page shows the state of ${moment(lastUpdate)}.`]]);
}

function problems({ store, healthy, source, configuration }) {
  const found = [];
  if (store.degraded) {
    found.push([`Redis is unavailable or too slow: the failure policy “${shown(store.failure_mode)}” decides requests.`]);
  }
  const { rejected } = configuration;
  if (rejected) {
    const mistakes = rejected.mistakes.length + (rejected.more ?? 0);
    const instead = configuration.loaded_us ? "the previous one stays active" : "no configuration is active";
    found.push([`The configuration of ${moment(rejected.at_us)} was rejected for ${counted(mistakes, "error")}; ${instead}. `,
      el("a", { href: "#configuration" }, "Show errors")]);
  }
  if (source.connected === false) {
    found.push([`The management server ${shown(source.origin)} is not connected: the active configuration can be outdated.`]);
  }
  if (!healthy) {
    found.push(["This instance is not healthy: it reports NOT_SERVING."]);
  }
  return found;
}

function show(found) {
  const lines = found.map((parts) => el("p", {}, ...parts));
  const text = lines.map((line) => line.textContent).join("\n");
  if (text !== current) {
    current = text;
    byId("banner").replaceChildren(...lines);
  }
}
