//! What is told of mistakes: enough to begin with, however many there are, and fit for a log.

/// The most mistakes that are told, and the most bytes of each. Together they fit a message of gRPC many times.
const MAX_MISTAKES: usize = 100;
const MAX_BYTES: usize = 2 << 10;

/// The first of the mistakes, a line each, and how many more there are.
pub(super) fn told(mistakes: impl IntoIterator<Item = String>) -> String {
    let mut mistakes = mistakes.into_iter();
    let first = mistakes.by_ref().take(MAX_MISTAKES);
    let mut lines: Vec<String> = first.map(|mistake| line(&mistake)).collect();
    let more = mistakes.count();
    if more > 0 {
        lines.push(format!("... and {more} more"));
    }
    lines.join("\n")
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
            told(["one".to_owned(), "two \u{e9}".to_owned()]),
            "one\ntwo \u{e9}"
        );
        let just_enough = vec!["x".to_owned(); MAX_MISTAKES];
        assert_eq!(told(just_enough.clone()), just_enough.join("\n"));
    }

    #[test]
    fn many_and_long_ones_are_cut_and_counted() {
        let mistakes = (0..100_000).map(|i| format!("{i}\n{}", "\u{e9}".repeat(50_000 / (i + 1))));
        let told = told(mistakes);
        assert!(told.len() < 300_000, "{}", told.len());
        assert!(told.starts_with("0\\n\u{e9}"), "{told}");
        assert!(told.ends_with("\n... and 99900 more"), "{told}");
        assert_eq!(told.lines().count(), 101);
    }
}
