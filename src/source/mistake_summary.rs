//! A summary of mistakes that is short enough for a log and for a gRPC message.

use std::fmt;

use crate::rules::{MAX_LISTED, and_more};

/// Maximum size of one mistake in bytes. A summary of such mistakes is far below the limit of a gRPC message.
const MAX_BYTES: usize = 2 << 10;

/// The first mistakes, each on one line, and the number of further ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MistakeSummary {
    /// The first mistakes.
    pub mistakes: Vec<String>,
    /// Number of further mistakes.
    pub more: usize,
}

impl MistakeSummary {
    /// Summarizes mistakes. Control characters are escaped and long mistakes are truncated.
    pub(super) fn new(mistakes: impl IntoIterator<Item = String>) -> Self {
        let mut mistakes = mistakes.into_iter();
        let first = mistakes.by_ref().take(MAX_LISTED);
        Self {
            mistakes: first.map(|mistake| line(&mistake)).collect(),
            more: mistakes.count(),
        }
    }
}

/// Prints one line per mistake, and one with the number of further ones.
impl fmt::Display for MistakeSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistakes.join("\n"))?;
        f.write_str(&and_more(self.more))
    }
}

/// Returns a mistake on one printable line, truncated if it is too long.
fn line(mistake: &str) -> String {
    let mut line = String::with_capacity(mistake.len().min(MAX_BYTES));
    for c in mistake.chars() {
        if line.len() >= MAX_BYTES {
            line.push_str("...");
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_mistakes_are_printed_unchanged() {
        let two = ["one".to_owned(), "two \u{e9}".to_owned()];
        assert_eq!(MistakeSummary::new(two).to_string(), "one\ntwo \u{e9}");
        let all = vec!["x".to_owned(); MAX_LISTED];
        assert_eq!(MistakeSummary::new(all.clone()).to_string(), all.join("\n"));
    }

    #[test]
    fn many_and_long_mistakes_are_truncated_and_counted() {
        let mistakes = (0..500).map(|i| format!("{i}\n{}", "\u{e9}".repeat(50_000 / (i + 1))));
        let summary = MistakeSummary::new(mistakes).to_string();
        assert!(summary.len() < 300_000, "{}", summary.len());
        assert!(summary.starts_with("0\\n\u{e9}"), "{summary}");
        assert!(summary.ends_with("\n... and 400 more"), "{summary}");
        assert_eq!(summary.lines().count(), 101);
    }
}
