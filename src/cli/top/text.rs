//! A report as text, and texts that do a terminal no harm.

use std::fmt::Write as _;

use super::report::{Align, Report, Table};

/// A text that clients may have chosen, without what a terminal would obey, or what turns the text around it.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if is_harmful(char) {
            plain.extend(char.escape_unicode());
        } else {
            plain.push(char);
        }
    }
    plain
}

/// JSON with the same characters written as JSON can.
pub(super) fn harmless_json(json: &str) -> String {
    let mut harmless = String::with_capacity(json.len());
    for char in json.chars() {
        if is_harmful(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(harmless, "\\u{unit:04x}");
            }
        } else {
            harmless.push(char);
        }
    }
    harmless
}

/// Controls of both ranges, and what has no width of its own but an effect: directions, joiners, tags.
fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The report, for a page of any width.
pub(super) fn printed(report: &Report) -> String {
    let mut text = String::new();
    for line in report.alarms.iter().map(|alarm| format!("! {alarm}")) {
        let _ = writeln!(text, "{line}");
    }
    for line in &report.facts {
        let _ = writeln!(text, "{line}");
    }
    for table in [&report.rules, &report.hottest, &report.denied] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, expected) in [
            ("rk:shop|client=alice", "rk:shop|client=alice"),
            ("\u{1b}[2J\r\n\u{7}", "\\u{1b}[2J\\u{d}\\u{a}\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{200b}", "a\\u{202e}b\\u{200b}"),
            ("für 日本", "für 日本"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }

    #[test]
    fn json_stays_what_it_was() {
        let value = serde_json::json!({"key": "a\u{9b}\u{202e}\u{e0001}\u{1b}b"});
        let harmless = harmless_json(&value.to_string());
        assert!(harmless.chars().all(|char| !is_harmful(char)), "{harmless}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&harmless).unwrap(),
            value
        );
    }
}
