// The first view: rates of allowed and denied requests, causes, response times, and the state of store and source.

import { RateChart } from "./chart.js";
import { get } from "./api.js";
import { renew } from "./table.js";
import { deniedTable } from "./top.js";
import { byId, count, counted, el, facts, duration, rate, shown, write } from "./render.js";

const RATES = [
  ["admitted", "Allowed"],
  ["denied", "Denied"],
  ["fallback", "Decided by failure policy"],
];

const CAUSES = [
  ["buckets", "buckets"],
  ["remembered_denial", "remembered denial"],
  ["no_limit", "no limit"],
  ["fallback_local", "failure policy local"],
  ["fallback_allow", "failure policy allow"],
  ["fallback_deny", "failure policy deny"],
];

const tiles = RATES.map(([name, title]) => tile(name, title));
const causes = CAUSES.map(([name, title]) => cause(name, title));
byId("rates").append(...tiles.map(({ element }) => element));
byId("causes").tBodies[0].append(...causes.map(({ row }) => row));

/** Shows the history of the last minutes. */
export function update(history) {
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
  facts(byId("latency"), [
    ["Response time", times(history.times(({ answers }) => answers))],
    ["Redis round trip", status.store.latency ? times(history.times(({ store }) => store.latency)) : null],
    ["Errors, since start", `${count(status.errors.service)} invalid requests, ${count(status.errors.store)} by failure policy “error”`],
  ]);
  facts(byId("store"), state(status));
}

/** Requests what the status does not contain. */
export async function load(signal) {
  const { denied } = await get("top", { window: "minute", limit: 5 }, signal);
  renew(byId("most-denied"), deniedTable("Most denied, last minute", denied));
}

/** Replaces outdated data by the error. */
export function failed({ message }) {
  renew(byId("most-denied"), el("p", { class: "quiet" }, message));
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
    return "no requests in the last minute";
  }
  const upTo = (le) => Number.isFinite(le) ? `within ${duration(le)}` : `longer than ${duration(found.longest)}`;
  return `${duration(found.mean)} on average, 50 % ${upTo(found.half)}, 99 % ${upTo(found.most)}`;
}

/** Formats the counts that are not zero with their names. */
function named(counts) {
  const some = Object.entries(counts).filter(([, number]) => number > 0);
  return some.map(([name, number]) => `${name} ${count(number)}`).join(", ") || "none";
}

/** Sums the failed calls to all Redis servers by kind. */
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
    ["Store", store.kind === "redis" ? "Redis" : "memory"],
    ["State", store.degraded ? "degraded" : "available"],
    ["Buckets", store.buckets === null ? null : `${count(store.buckets)} of at most ${count(store.max_buckets)}`],
    ["Breakers", breakers.length ? el("ul", {}, ...breakers.map((text) => el("li", {}, text))) : null],
    ["Redis servers", servers.length ? el("ul", {}, ...servers.map((text) => el("li", {}, text))) : null],
    ["Failure policy", store.kind === "redis" ? shown(store.failure_mode) : null],
    ["Decisions by failure policy, since start", store.kind === "redis" ? named(fallback) : null],
    ["Failed calls to Redis, since start", store.kind === "redis" ? named(failures(store.breakers)) : null],
    ["Remembered denials", store.kind === "redis" ? count(store.remembered_denials) : null],
    ["Buckets of failure policy local", store.kind === "redis" ? count(store.fallback_buckets) : null],
    ["Configuration source", `${source.kind === "xds" ? "xDS server" : "files"} ${shown(source.origin)}`],
    ["Connected", source.connected === null ? null : source.connected ? "yes" : "no"],
    ["Rules", `${count(configuration.rules)} in ${counted(configuration.domains, "domain")}`],
  ];
}
