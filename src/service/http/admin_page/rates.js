// Rates from counters that only grow: the difference of two answers, by the server's own clock.

import { MINUTES } from "./chart.js";

const POLICIES = ["local", "allow", "deny", "error"];

const CAUSES = ["buckets", "remembered_denial", "no_limit", "fallback_local", "fallback_allow", "fallback_deny"];

/** Longer than this between two answers, the line is broken: nobody looked meanwhile. */
const GAP_SECONDS = 10;

/** How far back the times to answer are summed. */
const RECENT_SECONDS = 60;

/** Sums of the decisions in a status: allowed, denied, and decided by a failure policy instead of Redis. */
export function totals({ decisions: { ok, over_limit: over }, fallback_decisions: fallback }) {
  const sum = (counts, names) => names.reduce((total, name) => total + (counts[name] ?? 0), 0);
  return {
    admitted: sum(ok, CAUSES),
    denied: sum(over, CAUSES),
    fallback: sum(fallback, POLICIES),
  };
}

/** The last minutes of one server, as far as this page has seen them. */
export class History {
  /** {at, status, totals, rates}: the oldest first. */
  samples = [];

  add(status) {
    const at = status.now_us / 1e6;
    const sample = { at, status, totals: totals(status), rates: null };
    const before = this.samples.at(-1);
    if (before && !follows(before, sample)) {
      // Another process answers: its counters say nothing about those before.
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

  /** How long answers took of late; `pick` finds the times in a status. */
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
  const answers = after.count - before.count;
  if (answers <= 0) {
    return null;
  }
  const earlier = new Map(before.buckets.map(({ le, count }) => [le, count]));
  const within = (part) => after.buckets
    .find(({ le, count }) => count - (earlier.get(le) ?? 0) >= part * answers)?.le ?? Infinity;
  return {
    mean: (after.sum_seconds - before.sum_seconds) / answers,
    half: within(0.5),
    most: within(0.99),
    longest: after.buckets.at(-1)?.le ?? 0,
  };
}
