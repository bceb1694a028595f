//! Formats the report as text.

use std::fmt::Write as _;

use super::report::{Align, Report, Table};

/// Formats the report.
pub(super) fn printed(report: &Report) -> String {
    let mut text = String::new();
    for line in report.alarms.iter().map(|alarm| format!("! {alarm}")) {
        let _ = writeln!(text, "{line}");
    }
    for line in &report.facts {
        let _ = writeln!(text, "{line}");
    }
    let tables = [&report.rules, &report.hottest, &report.denied];
    for table in tables.into_iter().chain(&report.would_deny) {
        print_table(table, &mut text);
    }
    text
}

fn print_table(table: &Table, text: &mut String) {
    let _ = writeln!(text, "\n{}", table.title);
    if table.rows.is_empty() {
        let _ = writeln!(text, "  none");
        return;
    }
    let heads: Vec<String> = table
        .columns
        .iter()
        .map(|column| column.name.to_owned())
        .collect();
    let width = |at: usize| {
        let cells = table.rows.iter().chain([&heads]);
        cells
            .map(|row| row[at].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    for row in [&heads].into_iter().chain(&table.rows) {
        let mut line = String::new();
        for ((cell, column), &width) in row.iter().zip(&table.columns).zip(&widths) {
            let _ = match column.align {
                Align::Left => write!(line, "  {cell:<width$}"),
                Align::Right => write!(line, "  {cell:>width$}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}
