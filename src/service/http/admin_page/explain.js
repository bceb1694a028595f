// Which rule a descriptor meets, and why not the others.

import { get } from "./api.js";
import { at, el, link, quoted, shown } from "./render.js";

const form = at("explain-form");
const fields = { domain: at("explain-domain"), descriptor: at("explain-descriptor") };
let asked = null;

/** Explains what the address of the view says, or leaves what it says to begin with to be completed. */
export function enter(query) {
  const begun = query.get("begin");
  const said = { domain: query.get("domain") ?? "", descriptor: begun ?? query.get("descriptor") ?? "" };
  for (const [name, field] of Object.entries(fields)) {
    field.value = said[name];
  }
  asked = begun === null && said.domain && said.descriptor ? said : null;
  at("explanation").replaceChildren();
  if (begun !== null) {
    fields.descriptor.focus();
  }
}

/** Asks, and shows what is answered. */
export async function ask(signal) {
  if (!asked) {
    return;
  }
  const told = await get("explain", asked, signal);
  at("explanation").replaceChildren(...answer(told));
}

/** Calls back when something else is to be explained. */
export function onChoice(changed) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    changed(new URLSearchParams(Object.entries(fields).map(([name, field]) => [name, field.value])));
  });
}

function answer({ rule, limits, steps, hints, text }) {
  return [
    el("h3", {}, rule ? el("span", {}, "Rule ", quoted(rule)) : "No rule applies"),
    el("ol", { class: "steps" }, ...steps.map(step)),
    ...(hints ?? []).map((hint) => el("p", {}, shown(hint, 1000))),
    el("ul", { class: "limits" }, ...limits.map(limit)),
    el("details", {}, el("summary", {}, "As the command prints it"),
      el("pre", { tabindex: "0", role: "group", "aria-label": "What the command prints" }, text.split("\n").map((line) => shown(line, 1000)).join("\n"))),
  ];
}

function step({ entry: [key, value], matched, why, passed_over: others }) {
  const rest = others?.length ? el("span", { class: "quiet" }, `, rather than ${shown(others.join(", "))}`) : null;
  return el("li", {},
    el("span", { class: matched ? "yes" : "no" }, matched ? "✓ " : "✕ "),
    quoted(value ? `${key}=${value}` : key), matched ? " meets " : ": ", quoted(why), rest);
}

function limit({ text, bucket }) {
  return el("li", {}, shown(text), ", in ", link("bucket", { key: bucket }, quoted(bucket)));
}
