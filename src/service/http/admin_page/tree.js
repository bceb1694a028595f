// The tree of a page of rules. It is built once; then only changes are written.

import { Spark } from "./chart.js";
import { count, el, facts, link, quoted, rate, shown, write } from "./render.js";

/** Number of rates in a sparkline, and number of rates for which a mark is shown. */
const LENGTH = 60;
const RECENT = 15;

/** Maximum number of limits in the summary of a rule. */
const MAX_LIMITS = 3;

/** Builds the tree of these rules. The measured rates of the previous tree are kept. */
export function tree(rules, before) {
  const built = new Tree();
  rules.forEach((rule) => built.add(rule, before));
  return built;
}

class Tree {
  element = el("ul", { class: "tree" });
  nodes = new Map();
  rows = [];

  add(rule, before) {
    const path = [rule.domain, ...rule.segments];
    let node = { list: this.element };
    path.forEach((segment, depth) => {
      node = this.#node(node, path.slice(0, depth + 1), segment);
    });
    if (node.row) {
      // Different rules can have the same segments: ("a", "b_c") and ("a_b", "c").
      node = this.#node(node, [...path, rule.file, rule.line], path.at(-1));
    }
    const row = new Row(rule, before?.row(rule));
    node.row = row;
    this.rows.push(row);
    node.summary.append(...row.parts);
    node.details.classList.add("rule");
    node.details.insertBefore(row.more, node.list);
  }

  /** Opens all nodes with children, except those that were closed in the previous tree. */
  unfold(before) {
    for (const [name, { details, list }] of this.nodes) {
      details.open = before?.nodes.get(name)?.details.open ?? list.children.length > 0;
    }
  }

  /** Updates the counts of the same rules in the same order. */
  update(rules, now) {
    rules.forEach((rule, index) => this.rows[index].update(rule, now));
  }

  focus(path) {
    this.nodes.get(path)?.summary.focus();
  }

  row({ path, file, line }) {
    return this.rows.find(({ is }) => is.path === path && is.file === file && is.line === line);
  }

  #node(parent, path, segment) {
    const name = JSON.stringify(path);
    const known = this.nodes.get(name);
    if (known) {
      return known;
    }
    const summary = el("summary", {}, el("span", { class: "name" }, quoted(segment, 80)));
    const list = el("ul");
    const details = el("details", { "data-path": name }, summary, list);
    parent.list.append(el("li", {}, details));
    const node = { summary, list, details };
    this.nodes.set(name, node);
    return node;
  }
}

/** The row of a rule. */
class Row {
  constructor(rule, before) {
    this.is = rule;
    this.rates = before?.rates ?? [];
    this.last = before?.last ?? null;
    this.spark = new Spark(["admitted", rule.shadow_mode ? "would be denied" : "denied"], LENGTH);
    this.mark = el("span", { class: "mark", hidden: true });
    this.rate = el("span", { class: "rate" });
    const flags = [
      rule.shadow_mode && "shadow", rule.quota_mode && "quota", rule.candidate && "candidate",
    ].filter(Boolean).map((flag) => el("span", { class: "flag" }, flag));
    const limits = el("span", { class: "limit quiet" }, shown(summary(rule)));
    this.parts = [limits, ...flags, this.mark, el("span", { class: "live" }, this.rate, this.spark.drawing)];
    this.list = el("dl");
    this.more = el("div", { class: "more" }, this.list, example(rule));
  }

  update(rule, now) {
    this.#measure(rule.hits, now);
    const recent = this.rates.slice(-RECENT);
    const [within, over] = [this.rates.map((r) => r.within), this.rates.map((r) => r.denied + r.would_deny)];
    this.spark.draw([within, over]);
    const isCounted = !rule.unlimited || rule.hits.within > 0;
    write(this.rate, isCounted ? live(rule, this.rates.at(-1)) : "not counted");
    this.#mark(recent);
    facts(this.list, counts(rule));
  }

  /** Marks a rule that denies hits, would deny them without shadow mode, or is near its limit. */
  #mark(recent) {
    const some = (name) => recent.some((rates) => rates[name] > 0);
    const isDenying = some("denied");
    const marks = [[isDenying, "✕ denying"], [some("would_deny"), "✕ would deny"], [some("near"), "▲ near limit"]];
    const text = marks.find(([is]) => is)?.[1] ?? "";
    this.mark.hidden = text === "";
    this.mark.classList.toggle("denying", isDenying);
    write(this.mark, text);
  }

  #measure(hits, now) {
    const { last } = this;
    this.last = { hits, now };
    if (!last || now <= last.now) {
      return;
    }
    const perSecond = (name) => (hits[name] - last.hits[name]) / (now - last.now);
    const names = ["within", "denied", "would_deny", "near"];
    const rates = Object.fromEntries(names.map((name) => [name, perSecond(name)]));
    if (Math.min(...Object.values(rates)) < 0) {
      // Another process responded, whose counters began at zero.
      this.rates = [];
      return;
    }
    this.rates.push(rates);
    this.rates.splice(0, this.rates.length - LENGTH);
  }
}

/** Formats the counts and the current rates. */
function live({ hits }, now) {
  const text = (name, word) => {
    const perSecond = now?.[name] > 0 ? ` (${rate(now[name])}/s)` : "";
    return `${count(hits[name])} ${word}${perSecond}`;
  };
  const over = [["denied", "denied"], ["would_deny", "would be denied"]].filter(([name]) => hits[name] > 0);
  return [["within", "admitted"], ...over].map(([name, word]) => text(name, word)).join(", ");
}

function summary({ limits, unlimited }) {
  if (unlimited) {
    return "unlimited";
  }
  const named = limits.slice(0, MAX_LIMITS).map(({ text }) => text);
  const rest = limits.length - named.length;
  return named.join("; ") + (rest > 0 ? `; and ${rest} more` : "");
}

function counts(rule) {
  const { hits, candidate } = rule;
  return [
    ["Hits within the limit", count(hits.within)],
    ["Denied", count(hits.denied)],
    ["Would be denied without shadow mode", rule.shadow_mode || hits.would_deny ? count(hits.would_deny) : null],
    ["Near the limit", count(hits.near)],
    ["Over the limit", count(hits.over)],
    ["Denied from memory", hits.remembered ? count(hits.remembered) : null],
    ["Over the limit, allowed by shadow mode", rule.shadow_mode || hits.shadow ? count(hits.shadow) : null],
    ["Given back", hits.given_back ? count(hits.given_back) : null],
    ["Candidate", candidate
      ? `${shown(candidate.text)}: would admit ${count(candidate.hits.would_admit)} hits, deny ${count(candidate.hits.would_deny)}`
      : null],
    ["When hits are charged", rule.use && shown(rule.use.text)],
    ["Failure policy", rule.on_store_failure && shown(rule.on_store_failure)],
    ["Defined in", `${shown(rule.file)}, line ${rule.line}`],
  ];
}

/** Creates a link to an explanation with the entries of the rule. Values that the rule does not have must be entered. */
function example({ domain, entries }) {
  const begin = entries.map(([key, value]) => `${typed(key)}=${typed(value ?? "")}`).join(",");
  return el("p", {}, link("explain", { domain, begin }, "Explain a descriptor"));
}

/** Escapes a part of a descriptor. */
function typed(text) {
  return text.replace(/[\\=,]/g, "\\$&");
}
