//! What is wrong with a configuration: where, what, and what to write instead.

use std::collections::BTreeSet;
use std::fmt;

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mistake {
    /// The name of the file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it; empty when there is nothing to add.
    pub advice: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            what,
            advice,
        } = self;
        write!(f, "{file}:{line}:{column}: {what}")?;
        if advice.is_empty() {
            Ok(())
        } else {
            write!(f, "; {advice}")
        }
    }
}

/// All that is wrong with a configuration, sorted by file, line and column; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The mistakes in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Mistake] {
        &self.0
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl IntoIterator for Mistakes {
    type Item = Mistake;
    type IntoIter = std::vec::IntoIter<Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
}

impl At {
    /// Where a file begins.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// Collects mistakes. A set, because a part of a file that aliases repeat is read repeatedly.
#[derive(Debug, Default)]
pub(super) struct Report(BTreeSet<Mistake>);

impl Report {
    pub(super) fn add(
        &mut self,
        file: &str,
        at: At,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.0.insert(Mistake {
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            what: what.into(),
            advice: advice.into(),
        });
    }

    /// `Ok` when there is no mistake.
    pub(super) fn into_result(self) -> Result<(), Mistakes> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Mistakes(self.0.into_iter().collect()))
    }
}
