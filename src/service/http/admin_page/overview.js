// The first view: how much is admitted and denied, by what, how fast, and in which state the parts are.

import { RateChart } from "./chart.js";
import { get } from "./api.js";
import { renew } from "./table.js";
import { deniedTable } from "./top.js";
import { at, count, counted, el, facts, lasting, rate, shown, write } from "./render.js";

const RATES = [
  ["admitted", "Admitted"],
  ["denied", "Denied"],
  ["fallback", "Decided by fallback"],
];

const CAUSES = [
  ["buckets", "buckets"],
  ["remembered_denial", "a remembered denial"],
  ["no_limit", "no limit applies"],
  ["fallback_local", "fallback: buckets of this instance"],
  ["fallback_allow", "fallback: allow"],
  ["fallback_deny", "fallback: deny"],
];

const tiles = RATES.map(([name, title]) => tile(name, title));
const causes = CAUSES.map(([name, title]) => cause(name, title));
at("rates").append(...tiles.map(({ element }) => element));
at("causes").tBodies[0].append(...causes.map(({ row }) => row));

/** Shows the last minutes. */
export function tell(history) {
  const { at: now, status, totals, rates } = history.last;
  for (const { name, chart, number, total } of tiles) {
    write(number, rate(rates && rates[name]));
    write(total, count(totals[name]));
    chart.draw(history.points(name), now);
  }
  for (const { name, ok, over } of causes) {
    write(ok, count(status.decisions.ok[name]));
    write(over, count(status.decisions.over_limit[name]));
  }
  facts(at("latency"), [
    ["Callers waited", times(history.times(({ answers }) => answers))],
    ["Redis took", status.store.latency ? times(history.times(({ store }) => store.latency)) : null],
    ["Errors, since start", `${count(status.errors.service)} invalid requests, ${count(status.errors.store)} by failure policy “error”`],
  ]);
  facts(at("store"), state(status));
}

/** Asks what is not in the status. */
export async function ask(signal) {
  const { denied } = await get("top", { window: "minute", limit: 5 }, signal);
  renew(at("most-denied"), deniedTable("Most denied, last minute", denied));
}

/** The server does not tell it: nothing old is shown in its place. */
export function missed({ message }) {
  renew(at("most-denied"), el("p", { class: "quiet" }, message));
}

function tile(name, title) {
  const chart = new RateChart(title);
  const number = el("span", { class: "number", id: `rate-${name}` }, "–");
  const total = el("span", { id: `total-${name}` }, "–");
  const element = el("section", { class: `tile ${name}`, "aria-labelledby": `title-${name}` },
    el("h3", { id: `title-${name}` }, title),
    el("p", {}, number, " per second"),
    chart.drawing,
    el("p", { class: "quiet" }, total, " since start"));
  return { name, element, chart, number, total };
}

function cause(name, title) {
  const ok = el("td", { class: "n", id: `ok-${name}` });
  const over = el("td", { class: "n", id: `over-${name}` });
  return { name, ok, over, row: el("tr", {}, el("th", { scope: "row" }, title), ok, over) };
}

function times(found) {
  if (!found) {
    return "nothing in the last minute";
  }
  const upTo = (le) => Number.isFinite(le) ? `within ${lasting(le)}` : `longer than ${lasting(found.longest)}`;
  return `${lasting(found.mean)} on average, half ${upTo(found.half)}, 99 of 100 ${upTo(found.most)}`;
}

/** The counts that are not zero, each with its name. */
function named(counts) {
  const some = Object.entries(counts).filter(([, number]) => number > 0);
  return some.map(([name, number]) => `${name} ${count(number)}`).join(", ") || "none";
}

/** Failed calls to all Redises, by kind. */
function failures(breakers) {
  const sums = {};
  for (const [kind, number] of breakers.flatMap(({ failures: of }) => Object.entries(of))) {
    sums[kind] = (sums[kind] ?? 0) + number;
  }
  return sums;
}

function state({ store, source, configuration, fallback_decisions: fallback }) {
  const servers = store.breakers.filter(({ server }) => server).map(({ name, server }) =>
    `${shown(name, 80)}: ${server.version ? shown(server.version, 80) : "unknown version"}, protocol ${server.protocol}`);
  const breakers = store.breakers.map(({ name, state: is, times_opened: opened }) =>
    `${shown(name, 80)}: ${is.replace("_", " ")}${opened ? `, opened ${counted(opened, "time")}` : ""}`);
  return [
    ["Store", store.kind === "redis" ? "Redis" : "memory of this instance"],
    ["State", store.degraded ? "degraded" : "good"],
    ["Buckets", store.buckets === null ? null : `${count(store.buckets)} of at most ${count(store.max_buckets)}`],
    ["Breakers", breakers.length ? el("ul", {}, ...breakers.map((text) => el("li", {}, text))) : null],
    ["Redis servers", servers.length ? el("ul", {}, ...servers.map((text) => el("li", {}, text))) : null],
    ["When the store fails", store.kind === "redis" ? shown(store.failure_mode) : null],
    ["Decisions by fallback, since start", store.kind === "redis" ? named(fallback) : null],
    ["Failed calls to Redis, since start", store.kind === "redis" ? named(failures(store.breakers)) : null],
    ["Remembered denials", store.kind === "redis" ? count(store.remembered_denials) : null],
    ["Buckets of the fallback", store.kind === "redis" ? count(store.fallback_buckets) : null],
    ["Rules from", `${source.kind === "xds" ? "xDS server" : "files"} ${shown(source.origin)}`],
    ["Connected", source.connected === null ? null : source.connected ? "yes" : "no"],
    ["Rules", `${count(configuration.rules)} in ${counted(configuration.domains, "domain")}`],
  ];
}
