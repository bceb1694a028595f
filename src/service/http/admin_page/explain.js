// Explains which rule applies to a descriptor, and why the others do not.

import { get } from "./api.js";
import { byId, el, link, quoted, shown } from "./render.js";

const form = byId("explain-form");
const fields = { domain: byId("explain-domain"), descriptor: byId("explain-descriptor") };
let query = null;

/** Explains the descriptor that the URL names. With `begin`, the URL has the beginning of a descriptor, to be completed in the form. */
export function enter(parameters) {
  const begin = parameters.get("begin");
  const named = { domain: parameters.get("domain") ?? "", descriptor: begin ?? parameters.get("descriptor") ?? "" };
  for (const [name, field] of Object.entries(fields)) {
    field.value = named[name];
  }
  query = begin === null && named.domain && named.descriptor ? named : null;
  byId("explanation").replaceChildren();
  if (begin !== null) {
    fields.descriptor.focus();
  }
}

/** Requests and shows the explanation. */
export async function load(signal) {
  if (!query) {
    return;
  }
  const explanation = await get("explain", query, signal);
  byId("explanation").replaceChildren(...elements(explanation));
}

/** Calls back when the form is submitted. */
export function onChoice(changed) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    changed(new URLSearchParams(Object.entries(fields).map(([name, field]) => [name, field.value])));
  });
}

function elements({ rule, limits, steps, hints, text }) {
  return [
    el("h3", {}, rule ? el("span", {}, "Rule ", quoted(rule)) : "No rule applies"),
    el("ol", { class: "steps" }, ...steps.map(step)),
    ...(hints ?? []).map((hint) => el("p", {}, shown(hint, 1000))),
    el("ul", { class: "limits" }, ...limits.map(limit)),
    el("details", {}, el("summary", {}, "Output of ratekeeper explain"),
      el("pre", { tabindex: "0", role: "group", "aria-label": "Output of ratekeeper explain" }, text.split("\n").map((line) => shown(line, 1000)).join("\n"))),
  ];
}

function step({ entry: [key, value], matched, why, passed_over: others }) {
  const rest = others?.length ? el("span", { class: "quiet" }, `, takes precedence over ${shown(others.join(", "))}`) : null;
  return el("li", {},
    el("span", { class: matched ? "yes" : "no" }, matched ? "✓ " : "✕ "),
    quoted(value ? `${key}=${value}` : key), matched ? " matches " : ": ", quoted(why), rest);
}

function limit({ text, bucket }) {
  return el("li", {}, shown(text), ", in ", link("bucket", { key: bucket }, quoted(bucket)));
}
