// The buckets of one descriptor. They are requested repeatedly; in between, the refill is animated.

import { Gauge } from "./gauge.js";
import { get, post } from "./api.js";
import { byId, counted, el, facts, duration, moment, quoted, shown, write } from "./render.js";

/** Maximum number of buckets that are shown. */
const MAX_BUCKETS = 12;

const form = byId("bucket-form");
const fields = { domain: byId("bucket-domain"), descriptor: byId("bucket-descriptor"), key: byId("bucket-key") };
const still = window.matchMedia("(prefers-reduced-motion: reduce)");

/** The query for the buckets that are watched. */
let watched = null;
let cards = new Map();
/** Whether the last request succeeded; only then the refill is animated. */
let isFresh = false;
let canChange = null;
/** Only stored in the memory of this page. */
let token = null;

/** Watches the buckets that the URL names. */
export function enter(query) {
  const named = Object.fromEntries(Object.keys(fields).map((name) => [name, query.get(name) ?? ""]));
  for (const [name, field] of Object.entries(fields)) {
    field.value = named[name];
  }
  if (named.key) {
    watched = { key: named.key };
  } else {
    watched = named.descriptor || named.domain ? { domain: named.domain, descriptor: named.descriptor } : null;
  }
  clear();
}

/** Requests and shows the buckets. */
export async function load(signal) {
  if (watched) {
    const answer = await get("buckets", watched, signal);
    show(answer.buckets);
    isFresh = true;
  }
}

/** Removes the buckets if the request was invalid; otherwise they are only outdated. */
export function failed({ status }) {
  isFresh = false;
  if (status >= 400 && status < 500) {
    clear();
  }
}

function clear() {
  cards = new Map();
  byId("buckets").replaceChildren();
}

/** Sets whether the server allows changes. */
export function setCanChange(can) {
  if (can === canChange) {
    return;
  }
  canChange = can;
  byId("bucket-change").replaceChildren(can ? tokenField() : el("p", { class: "quiet" },
    "Buckets can be reset and set here if the server has an ADMIN_TOKEN."));
  clear();
}

/** Draws the refill since the last response; called for each animation frame. */
export function animate() {
  if (isFresh && !still.matches) {
    cards.forEach(({ gauge }) => gauge.draw(performance.now()));
  }
}

/** Calls back when the form is submitted. */
export function onChoice(changed) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const entered = Object.entries(fields).map(([name, field]) => [name, field.value]);
    const query = fields.key.value.trim() ? entered.slice(2) : entered.slice(0, 2);
    changed(new URLSearchParams(query));
  });
}

function show(buckets) {
  const few = buckets.slice(0, MAX_BUCKETS);
  if (few.length !== cards.size || few.some(({ key }) => !cards.has(key))) {
    // A long key contains a hash instead of the descriptor, so that a single bucket is named by the query.
    const which = (key) => (buckets.length === 1 ? watched : { key });
    cards = new Map(few.map((bucket) => [bucket.key, card(bucket, which(bucket.key))]));
    const none = el("p", { class: "quiet" }, "No limit applies, so that there is no bucket.");
    byId("buckets").replaceChildren(...(few.length ? Array.from(cards.values(), ({ element }) => element) : [none]));
  }
  few.forEach((bucket) => cards.get(bucket.key).update(bucket));
}

function card(first, which) {
  const gauge = new Gauge(first);
  const list = el("dl");
  const result = el("p", { role: "status" });
  const element = el("section", { class: "tile bucket" },
    el("h3", {}, quoted(first.key)),
    el("p", { class: "quiet" }, shown(first.limit)),
    gauge.element, list, canChange ? changes(first.key, which, result) : null, result);
  const update = (bucket) => {
    gauge.update(bucket, performance.now());
    facts(list, details(bucket));
  };
  return { element, gauge, update };
}

function details(bucket) {
  const { last_denied: denied, refill_per_second: refill } = bucket;
  return [
    ["Rule", bucket.rule ? shown(bucket.rule) : "none: the request brings the limit"],
    ["Debt", bucket.debt > 0 ? counted(bucket.debt, "token") : null],
    [bucket.window ? "Window ends in" : "Full in", bucket.full_in_us > 0 ? duration(bucket.full_in_us / 1e6) : "full"],
    ["Next token in", bucket.retry_in_us > 0 ? duration(bucket.retry_in_us / 1e6) : null],
    ["Refill", bucket.window || !refill ? null : refillText(refill)],
    ["Decided by", shown(bucket.decided_by).replaceAll("_", " ")],
    ["Last denied", denied ? `${moment(denied.at_us)}, ${counted(denied.hits, "hit")}, by rule ${shown(denied.rule)}` : "never, as far as this instance knows"],
    ["Denied request", denied ? quoted(denied.request) : null],
  ];
}

function refillText(perSecond) {
  return perSecond >= 1 ? `${counted(Math.round(perSecond * 10) / 10, "token")} per second` : `one token in ${duration(1 / perSecond)}`;
}

// --- Changing ---

function tokenField() {
  const input = el("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false" });
  input.addEventListener("input", () => {
    token = input.value;
  });
  return el("label", { class: "fields", for: "token" }, "ADMIN_TOKEN, to reset or set buckets; only stored until the page is closed", input);
}

function changes(key, which, result) {
  const of = shown(key, 60);
  const tokens = el("input", { type: "number", step: "1", required: true, "aria-label": `Tokens for ${of}` });
  const reset = el("button", { type: "button", "aria-label": `Reset ${of}` }, "Reset");
  const form = el("form", { class: "change" }, reset, tokens,
    el("button", { type: "submit", "aria-label": `Set ${of}` }, "Set"));
  reset.addEventListener("click", () => change("buckets/reset", which, result, "The bucket was reset."));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    change("buckets/set", { ...which, tokens: tokens.valueAsNumber }, result, `The bucket was set to ${counted(tokens.valueAsNumber, "token")}.`);
  });
  return form;
}

async function change(path, body, result, done) {
  if (!token) {
    write(result, "Enter the ADMIN_TOKEN first.");
    byId("token").focus();
    return;
  }
  write(result, "…");
  try {
    await post(path, body, token);
    write(result, done);
  } catch (error) {
    write(result, error.message);
  }
}
