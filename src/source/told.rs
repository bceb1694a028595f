//! What is told of mistakes: enough to begin with, however many there are, and fit for a log.

use std::fmt;

use crate::rules::{MAX_LISTED, and_more};

/// The most bytes of a mistake. Together they fit a message of gRPC many times.
const MAX_BYTES: usize = 2 << 10;

/// The first of the mistakes, each fit for a line, and how many more there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The first.
    pub mistakes: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

/// A line each, and one for those that are left out.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistakes.join("\n"))?;
        f.write_str(&and_more(self.more))
    }
}

/// What is told of the mistakes.
pub(super) fn told(mistakes: impl IntoIterator<Item = String>) -> Told {
    let mut mistakes = mistakes.into_iter();
    let first = mistakes.by_ref().take(MAX_LISTED);
    Told {
        mistakes: first.map(|mistake| line(&mistake)).collect(),
        more: mistakes.count(),
    }
}

/// A mistake on one line that can be printed, cut where it is too long.
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
    fn few_mistakes_are_told_as_they_are() {
        assert_eq!(
            told(["one".to_owned(), "two \u{e9}".to_owned()]).to_string(),
            "one\ntwo \u{e9}"
        );
        let just_enough = vec!["x".to_owned(); MAX_LISTED];
        assert_eq!(
            told(just_enough.clone()).to_string(),
            just_enough.join("\n")
        );
    }

    #[test]
    fn many_and_long_ones_are_cut_and_counted() {
        let mistakes = (0..500).map(|i| format!("{i}\n{}", "\u{e9}".repeat(50_000 / (i + 1))));
        let told = told(mistakes).to_string();
        assert!(told.len() < 300_000, "{}", told.len());
        assert!(told.starts_with("0\\n\u{e9}"), "{told}");
        assert!(told.ends_with("\n... and 400 more"), "{told}");
        assert_eq!(told.lines().count(), 101);
    }
}
