// One descriptor's buckets, filling and draining: asked for again and again, and in between filled by their rate.

import { Gauge } from "./gauge.js";
import { get, post } from "./api.js";
import { at, counted, el, facts, lasting, moment, quoted, shown, write } from "./render.js";

/** The most buckets that are shown. */
const MOST = 12;

const form = at("bucket-form");
const fields = { domain: at("bucket-domain"), descriptor: at("bucket-descriptor"), key: at("bucket-key") };
const still = window.matchMedia("(prefers-reduced-motion: reduce)");

/** Which buckets are watched, as the server is asked for them. */
let watched = null;
let cards = new Map();
/** Whether the last question was answered: only then does anything flow. */
let isFresh = false;
let canChange = null;
/** In the memory of this page, and nowhere else. */
let token = null;

/** Watches what the address of the view says. */
export function enter(query) {
  const said = Object.fromEntries(Object.keys(fields).map((name) => [name, query.get(name) ?? ""]));
  for (const [name, field] of Object.entries(fields)) {
    field.value = said[name];
  }
  if (said.key) {
    watched = { key: said.key };
  } else {
    watched = said.descriptor || said.domain ? { domain: said.domain, descriptor: said.descriptor } : null;
  }
  forget();
}

/** Asks, and shows what is answered. */
export async function ask(signal) {
  if (watched) {
    const told = await get("buckets", watched, signal);
    tell(told.buckets);
    isFresh = true;
  }
}

/** The server did not tell. What was asked for may not be there; else what is shown is only old. */
export function missed({ status }) {
  isFresh = false;
  if (status >= 400 && status < 500) {
    forget();
  }
}

function forget() {
  cards = new Map();
  at("buckets").replaceChildren();
}

/** Whether the server lets buckets be changed is known. */
export function allow(can) {
  if (can === canChange) {
    return;
  }
  canChange = can;
  at("bucket-change").replaceChildren(can ? tokenField() : el("p", { class: "quiet" },
    "Buckets can be reset and set here when the server has an ADMIN_TOKEN."));
  forget();
}

/** Draws what has flowed in since; called before each picture. */
export function animate() {
  if (isFresh && !still.matches) {
    cards.forEach(({ gauge }) => gauge.draw(performance.now()));
  }
}

/** Calls back when another bucket is asked for. */
export function onChoice(changed) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const said = Object.entries(fields).map(([name, field]) => [name, field.value]);
    const query = fields.key.value.trim() ? said.slice(2) : said.slice(0, 2);
    changed(new URLSearchParams(query));
  });
}

function tell(buckets) {
  const few = buckets.slice(0, MOST);
  if (few.length !== cards.size || few.some(({ key }) => !cards.has(key))) {
    // A long key is shortened and tells no descriptor; the one that was asked for does.
    const which = (key) => (buckets.length === 1 ? watched : { key });
    cards = new Map(few.map((bucket) => [bucket.key, card(bucket, which(bucket.key))]));
    const none = el("p", { class: "quiet" }, "No limit applies: there is no bucket.");
    at("buckets").replaceChildren(...(few.length ? Array.from(cards.values(), ({ element }) => element) : [none]));
  }
  few.forEach((bucket) => cards.get(bucket.key).tell(bucket));
}

function card(first, which) {
  const gauge = new Gauge(first);
  const list = el("dl");
  const said = el("p", { role: "status" });
  const element = el("section", { class: "tile bucket" },
    el("h3", {}, quoted(first.key)),
    el("p", { class: "quiet" }, shown(first.limit)),
    gauge.element, list, canChange ? changes(first.key, which, said) : null, said);
  const tellOf = (bucket) => {
    gauge.tell(bucket, performance.now());
    facts(list, told(bucket));
  };
  return { element, gauge, tell: tellOf };
}

function told(bucket) {
  const { last_denied: denied, refill_per_second: refill } = bucket;
  return [
    ["Rule", bucket.rule ? shown(bucket.rule) : "the request's own limit"],
    ["Debt", bucket.debt > 0 ? counted(bucket.debt, "token") : null],
    [bucket.window ? "Window ends in" : "Full in", bucket.full_in_us > 0 ? lasting(bucket.full_in_us / 1e6) : "it is full"],
    ["One token again in", bucket.retry_in_us > 0 ? lasting(bucket.retry_in_us / 1e6) : null],
    ["Flows in", bucket.window || !refill ? null : inflow(refill)],
    ["Decided by", shown(bucket.decided_by).replaceAll("_", " ")],
    ["Last denied", denied ? `${moment(denied.at_us)}, ${counted(denied.hits, "hit")}, by rule ${shown(denied.rule)}` : "not that this instance knows"],
    ["That request", denied ? quoted(denied.request) : null],
  ];
}

function inflow(perSecond) {
  return perSecond >= 1 ? `${counted(Math.round(perSecond * 10) / 10, "token")} per second` : `one token in ${lasting(1 / perSecond)}`;
}

// --- Changing ---

function tokenField() {
  const input = el("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false" });
  input.addEventListener("input", () => {
    token = input.value;
  });
  return el("label", { class: "fields", for: "token" }, "ADMIN_TOKEN, to reset or set; this page forgets it when it is closed", input);
}

function changes(key, which, said) {
  const of = shown(key, 60);
  const tokens = el("input", { type: "number", step: "1", required: true, "aria-label": `Tokens for ${of}` });
  const reset = el("button", { type: "button", "aria-label": `Reset ${of}` }, "Reset");
  const form = el("form", { class: "change" }, reset, tokens,
    el("button", { type: "submit", "aria-label": `Set ${of}` }, "Set"));
  reset.addEventListener("click", () => change("buckets/reset", which, said, "It was reset."));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    change("buckets/set", { ...which, tokens: tokens.valueAsNumber }, said, `It was set to ${counted(tokens.valueAsNumber, "token")}.`);
  });
  return form;
}

async function change(path, body, said, done) {
  if (!token) {
    write(said, "Please type the ADMIN_TOKEN first.");
    at("token").focus();
    return;
  }
  write(said, "…");
  try {
    await post(path, body, token);
    write(said, done);
  } catch (failure) {
    write(said, failure.message);
  }
}
