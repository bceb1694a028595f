// Rates of counters: the differences of two responses, by the clock of the server.

import { MINUTES } from "./chart.js";

const POLICIES = ["local", "allow", "deny", "error"];

const CAUSES = ["buckets", "remembered_denial", "no_limit", "fallback_local", "fallback_allow", "fallback_deny"];

/** A longer time between two responses interrupts the line: the page was hidden. */
const GAP_SECONDS = 10;

/** Time range of response times. */
const RECENT_SECONDS = 60;

/** Returns the total number of decisions in a status: allowed, denied, and decided by a failure policy. */
export function totals({ decisions: { ok, over_limit: over }, fallback_decisions: fallback }) {
  const sum = (counts, names) => names.reduce((total, name) => total + (counts[name] ?? 0), 0);
  return {
    admitted: sum(ok, CAUSES),
    denied: sum(over, CAUSES),
    fallback: sum(fallback, POLICIES),
  };
}

/** The last minutes of one server, since the page was loaded. */
export class History {
  /** {at, status, totals, rates}: the oldest first. */
  samples = [];

  add(status) {
    const at = status.now_us / 1e6;
    const sample = { at, status, totals: totals(status), rates: null };
    const before = this.samples.at(-1);
    if (before && !follows(before, sample)) {
      // Another process responded, whose counters began at zero.
      this.samples = [];
    } else if (before && at <= before.at) {
      return;
    } else if (before && at - before.at <= GAP_SECONDS) {
      const perSecond = (name) => (sample.totals[name] - before.totals[name]) / (at - before.at);
      sample.rates = Object.fromEntries(Object.keys(sample.totals).map((name) => [name, perSecond(name)]));
    }
    this.samples.push(sample);
    while (this.samples[0].at < at - MINUTES * 60) {
      this.samples.shift();
    }
  }

  get last() {
    return this.samples.at(-1);
  }

  points(name) {
    return this.samples.map(({ at, rates }) => [at, rates && rates[name]]);
  }

  /** Returns the latest response times; `pick` selects a distribution of a status. */
  times(pick) {
    const last = this.last;
    const first = this.samples.find(({ at }) => at >= last.at - RECENT_SECONDS);
    const [after, before] = [pick(last.status), first === last ? null : pick(first.status)];
    return after && before ? since(before, after) : null;
  }
}

function follows(before, after) {
  const grew = Object.keys(after.totals).every((name) => after.totals[name] >= before.totals[name]);
  const older = after.status.uptime_seconds >= before.status.uptime_seconds;
  return grew && older && after.status.instance === before.status.instance;
}

function since(before, after) {
  const count = after.count - before.count;
  if (count <= 0) {
    return null;
  }
  const earlier = new Map(before.buckets.map(({ le, count: upTo }) => [le, upTo]));
  const within = (part) => after.buckets
    .find(({ le, count: upTo }) => upTo - (earlier.get(le) ?? 0) >= part * count)?.le ?? Infinity;
  return {
    mean: (after.sum_seconds - before.sum_seconds) / count,
    half: within(0.5),
    most: within(0.99),
    longest: after.buckets.at(-1)?.le ?? 0,
  };
}
