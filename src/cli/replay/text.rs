//! Formats the report as text.

use std::fmt::Write as _;

use super::comparison::Comparison;
use super::frequent::Frequent;
use super::report::{MOST, Report, Side, Span, grouped, limits, percent};
use super::tally::{Denied, RuleTally};
use super::timestamp;

/// Formats the report.
pub(super) fn text(report: &Report) -> String {
    let Span { first, last } = report.span;
    let mut text = format!(
        "requests: {}, from {} to {} (UTC, {})\n",
        grouped(report.requests),
        timestamp::readable(first),
        timestamp::readable(last),
        duration(last - first)
    );
    for note in report.notes() {
        let _ = writeln!(text, "note: {note}");
    }
    for side in &report.sides {
        text.push('\n');
        text += &of_side(side);
    }
    for (title, comparison) in report.comparisons() {
        let _ = write!(text, "\n{title}\n");
        text += &of_comparison(comparison);
    }
    text
}

/// Formats a duration.
pub(super) fn duration(micros: u64) -> String {
    let whole = std::time::Duration::from_micros(micros);
    let seconds = whole.as_secs();
    if seconds < 60 {
        return format!("{whole:?}");
    }
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

fn of_side(side: &Side) -> String {
    let tally = &side.tally;
    let mut text = format!(
        "{}: {} admitted, {} denied ({})\n",
        side.name,
        grouped(side.admitted()),
        grouped(tally.denied),
        percent(tally.denied, tally.requests)
    );
    text += &rules(side);
    if side.unmatched() > 0 {
        let _ = writeln!(
            text,
            "  rules that matched nothing: {}",
            grouped(side.unmatched() as u64)
        );
    }
    if tally.free > 0 {
        let _ = writeln!(
            text,
            "  descriptors that no limit applied to: {}",
            grouped(tally.free)
        );
    }
    text += &denied_first("denied first (UTC)", &tally.first);
    text += &most("denied most", &tally.most);
    text
}

/// Table of the rules that matched, each with its limits and notes.
fn rules(side: &Side) -> String {
    let own = &side.tally.own;
    let mut text = String::new();
    let mut rows = vec![row([
        "rule",
        "requests",
        "denied",
        "",
        "hits",
        "denied hits",
        "first denied (UTC)",
    ])];
    let mut notes = Vec::new();
    for (rule, tally) in side.met() {
        rows.push(rule_row(&rule.path, tally));
        notes.push((limits(rule), tally.shadowed.requests, tally.refunded));
    }
    if own.asked.requests > 0 {
        rows.push(rule_row("limits in requests", own));
        notes.push((String::new(), 0, own.refunded));
    }
    if rows.len() > 1 {
        let lines = table(&rows);
        let mut lines = lines.into_iter();
        let _ = writeln!(text, "  {}", lines.next().unwrap_or_default());
        for (line, (limits, shadowed, refunded)) in lines.zip(notes) {
            let _ = writeln!(text, "  {line}");
            if !limits.is_empty() {
                let _ = writeln!(text, "      {limits}");
            }
            if shadowed > 0 {
                let _ = writeln!(
                    text,
                    "      denied without shadow mode: {}",
                    grouped(shadowed)
                );
            }
            if refunded > 0 {
                let _ = writeln!(text, "      hits refunded: {}", grouped(refunded));
            }
        }
    }
    text
}

fn rule_row(name: &str, tally: &RuleTally) -> [String; 7] {
    let first = tally.first_denied.as_ref();
    row([
        name,
        &grouped(tally.asked.requests),
        &grouped(tally.denied.requests),
        &percent(tally.denied.requests, tally.asked.requests),
        &grouped(tally.asked.hits),
        &grouped(tally.denied.hits),
        &first.map_or_else(
            || "never".to_owned(),
            |first| timestamp::readable(first.time),
        ),
    ])
}

fn of_comparison(comparison: &Comparison) -> String {
    let mut text = String::new();
    if comparison.changed() == 0 && comparison.changed_descriptors == 0 {
        let _ = writeln!(
            text,
            "  all {} requests have the same verdict: {} admitted, {} denied",
            grouped(comparison.compared()),
            grouped(comparison.admitted),
            grouped(comparison.denied)
        );
    } else {
        let _ = writeln!(
            text,
            "  newly denied: {}; newly admitted: {}; unchanged: {}",
            grouped(comparison.newly_denied),
            grouped(comparison.newly_admitted),
            grouped(comparison.admitted + comparison.denied)
        );
    }
    if !comparison.rules.is_empty() {
        let mut rows = vec![row(["rule", "now denied", "hits", "now admitted", "hits"])];
        for (rule, change) in &comparison.rules {
            rows.push(row([
                rule,
                &grouped(change.newly_denied.requests),
                &grouped(change.newly_denied.hits),
                &grouped(change.newly_admitted.requests),
                &grouped(change.newly_admitted.hits),
            ]));
        }
        for line in table(&rows) {
            let _ = writeln!(text, "  {line}");
        }
    }
    for (change, count) in &comparison.rule_changes {
        let name = |rule: &Option<String>| rule.clone().unwrap_or_else(|| "no rule".to_owned());
        let _ = writeln!(
            text,
            "  matched {1} before and {2} now: {0} descriptors",
            grouped(*count),
            name(&change.from),
            name(&change.to)
        );
    }
    text += &denied_first("first newly denied (UTC)", &comparison.first);
    text += &most("most often newly denied", &comparison.most_denied);
    text += &most("most often newly admitted", &comparison.most_admitted);
    text
}

fn denied_first(title: &str, first: &[Denied]) -> String {
    let rows: Vec<_> = first
        .iter()
        .map(|denied| {
            let rule = denied.rule.as_deref().unwrap_or("a limit in the request");
            row([
                &timestamp::readable(denied.time),
                &denied.descriptor,
                &format!("by {rule}"),
            ])
        })
        .collect();
    let mut text = String::new();
    if !rows.is_empty() {
        let _ = writeln!(text, "  {title}");
    }
    for line in left_table(&rows) {
        let _ = writeln!(text, "    {line}");
    }
    text
}

fn most(title: &str, frequent: &Frequent) -> String {
    let most = frequent.most(MOST);
    let mut text = String::new();
    if most.is_empty() {
        return text;
    }
    let _ = write!(text, "  {title}");
    match frequent.max_error() {
        0 => text.push('\n'),
        error => {
            let _ = writeln!(text, " (counts may be too low by up to {})", grouped(error));
        }
    }
    let width = grouped(most[0].1).len();
    for (descriptor, count) in most {
        let _ = writeln!(text, "    {:>width$}  {descriptor}", grouped(count));
    }
    text
}

// --- Tables ---

fn row<const N: usize>(cells: [&str; N]) -> [String; N] {
    cells.map(str::to_owned)
}

/// Lines with aligned columns: the first column to the left, the others, which are numbers, to the right.
fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    lines(rows, |column| column > 0)
}

/// Lines with aligned columns, all to the left.
fn left_table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    lines(rows, |_| false)
}

fn lines<const N: usize>(rows: &[[String; N]], is_right: impl Fn(usize) -> bool) -> Vec<String> {
    let length = |cell: &String| cell.chars().count();
    let width = |column: usize| {
        rows.iter()
            .map(|row| length(&row[column]))
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            let _ = match is_right(column) {
                true => write!(line, "{cell:>width$}"),
                false => write!(line, "{cell:<width$}"),
            };
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
