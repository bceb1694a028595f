//! What is wrong with a configuration: where, what, and what to write instead.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mistake {
    /// The name of the file, or of what came instead of one.
    pub file: String,
    /// Where in it.
    pub position: Position,
    /// What is wrong.
    pub what: String,
    /// What to do about it; empty when there is nothing to add.
    pub advice: String,
}

/// Where in a configuration something is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// In a text.
    Text {
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// Among values that never were a text: at a descriptor, or at the top.
    Value {
        /// Which descriptor it is, in their order, from 2; 1 is the top.
        number: usize,
        /// The domain and the entries down to the descriptor, such as `shop.path_/cart`.
        path: String,
    },
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            position,
            what,
            advice,
        } = self;
        match position {
            Position::Text { line, column } => write!(f, "{file}:{line}:{column}: {what}")?,
            Position::Value { path, .. } => write!(f, "{file}: {path}: {what}")?,
        }
        if advice.is_empty() {
            Ok(())
        } else {
            write!(f, "; {advice}")
        }
    }
}

/// Number of mistakes after which a configuration is not read any further.
pub(super) const MAX_MISTAKES: usize = 1_000;

/// Number of mistakes that messages list; the others are counted.
pub const MAX_LISTED: usize = 100;

/// What is wrong with a configuration, sorted by file and position; never empty, and at most `MAX_MISTAKES` of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The mistakes in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Mistake] {
        &self.0
    }
}

/// The end of a list of mistakes that leaves out `more` of them; empty when nothing is left out.
#[must_use]
pub fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more if more + MAX_LISTED >= MAX_MISTAKES => format!("\n... and at least {more} more"),
        more => format!("\n... and {more} more"),
    }
}

/// The first [`MAX_LISTED`] mistakes, a line each, and how many more there are.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().take(MAX_LISTED).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        f.write_str(&and_more(self.0.len().saturating_sub(MAX_LISTED)))
    }
}

impl IntoIterator for Mistakes {
    type Item = Mistake;
    type IntoIter = std::vec::IntoIter<Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A place in a file. Among values, the line is the number of the descriptor.
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

/// Collects mistakes up to [`MAX_MISTAKES`], and warnings up to as many. Sets, because a part of a file that
/// aliases repeat is read repeatedly.
#[derive(Debug, Default)]
pub(super) struct Report {
    mistakes: BTreeSet<Mistake>,
    warnings: BTreeSet<Mistake>,
    /// What the numbers of descriptors stand for, where there are no lines; by the name of the file.
    paths: HashMap<String, Vec<String>>,
}

impl Report {
    /// Notes that a file has no lines but these descriptors, the first of which is the top.
    pub(super) fn number(&mut self, file: &str, paths: Vec<String>) {
        self.paths.insert(file.to_owned(), paths);
    }

    /// Whether a file has lines, and was so written by people.
    pub(super) fn has_lines(&self, file: &str) -> bool {
        !self.paths.contains_key(file)
    }

    /// A line of a file, as messages about another one name it.
    pub(super) fn line(&self, file: &str, line: usize) -> String {
        match self.position(file, At { line, column: 1 }) {
            Position::Text { line, .. } => format!("{file}:{line}"),
            Position::Value { path, .. } => format!("{file}: {path}"),
        }
    }

    /// A place in a file, likewise.
    pub(super) fn place(&self, file: &str, at: At) -> String {
        match self.position(file, at) {
            Position::Text { line, column } => format!("{file}:{line}:{column}"),
            Position::Value { path, .. } => format!("{file}: {path}"),
        }
    }

    fn position(&self, file: &str, at: At) -> Position {
        let At { line, column } = at;
        match self.paths.get(file).and_then(|paths| paths.get(line - 1)) {
            Some(path) => Position::Value {
                number: line,
                path: path.clone(),
            },
            None => Position::Text { line, column },
        }
    }

    /// Whether there are so many mistakes that nothing more is read.
    pub(super) fn is_full(&self) -> bool {
        self.mistakes.len() >= MAX_MISTAKES
    }

    pub(super) fn add(
        &mut self,
        file: &str,
        at: At,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        if !self.is_full() {
            let mistake = self.mistake(file, at, what.into(), advice.into());
            self.mistakes.insert(mistake);
        }
    }

    /// Adds something that does not keep the configuration from being loaded.
    pub(super) fn warn(
        &mut self,
        file: &str,
        at: At,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        if self.warnings.len() < MAX_MISTAKES {
            let warning = self.mistake(file, at, what.into(), advice.into());
            self.warnings.insert(warning);
        }
    }

    fn mistake(&self, file: &str, at: At, what: String, advice: String) -> Mistake {
        Mistake {
            file: file.to_owned(),
            position: self.position(file, at),
            what,
            advice,
        }
    }

    /// The warnings when there is no mistake.
    pub(super) fn into_result(self) -> Result<Vec<Mistake>, Mistakes> {
        if self.mistakes.is_empty() {
            return Ok(self.warnings.into_iter().collect());
        }
        Err(Mistakes(self.mistakes.into_iter().collect()))
    }
}
