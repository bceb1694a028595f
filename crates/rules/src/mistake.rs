//! Errors in a configuration: their position, the cause, and advice.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// An error or a warning about a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mistake {
    /// The name of the file or the value.
    pub file: String,
    /// The position in the file or the value.
    pub position: Position,
    /// The cause.
    pub what: String,
    /// What to do; empty if the cause says enough.
    pub advice: String,
}

/// A position in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// A position in a text.
    Text {
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// A position in a value: a descriptor, or the top.
    Value {
        /// The number of the descriptor in order, from 2; 1 is the top.
        number: usize,
        /// The domain and the entries of the descriptor, such as `shop.path_/cart`.
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

/// The errors in a configuration, sorted by file and position. Never empty, and at most `MAX_MISTAKES`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The errors in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Mistake] {
        &self.0
    }
}

/// Returns the last line of a list of errors that omits `more` of them; empty if none is omitted.
#[must_use]
pub fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more if more + MAX_LISTED >= MAX_MISTAKES => format!("\n... and at least {more} more"),
        more => format!("\n... and {more} more"),
    }
}

/// Formats the first [`MAX_LISTED`] errors on a line each, and the number of further ones.
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

/// A position in a file. In a value, the line is the number of the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// The line, from 1.
    pub(super) line: usize,
    /// The column in characters, from 1.
    pub(super) column: usize,
}

impl At {
    /// The first position in a file.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// Collects up to [`MAX_MISTAKES`] errors and as many warnings.
///
/// They are sets because a node with several aliases is read several times.
#[derive(Debug, Default)]
pub(super) struct Report {
    mistakes: BTreeSet<Mistake>,
    warnings: BTreeSet<Mistake>,
    /// The paths of the descriptors of values by number, by the name of the value.
    paths: HashMap<String, Vec<String>>,
}

impl Report {
    /// Adds the paths of a value's descriptors, the first of which is the top.
    pub(super) fn number(&mut self, file: &str, paths: Vec<String>) {
        self.paths.insert(file.to_owned(), paths);
    }

    /// Whether the configuration with this name is a text.
    pub(super) fn has_lines(&self, file: &str) -> bool {
        !self.paths.contains_key(file)
    }

    /// A line of a file, formatted for messages about another line.
    pub(super) fn line(&self, file: &str, line: usize) -> String {
        match self.position(file, At { line, column: 1 }) {
            Position::Text { line, .. } => format!("{file}:{line}"),
            Position::Value { path, .. } => format!("{file}: {path}"),
        }
    }

    /// A position in a file, formatted for messages about another position.
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

    /// Whether the maximum number of errors is reached, so that reading stops.
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

    /// Adds a warning.
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

    /// Returns the warnings if there is no error.
    pub(super) fn into_result(self) -> Result<Vec<Mistake>, Mistakes> {
        if self.mistakes.is_empty() {
            return Ok(self.warnings.into_iter().collect());
        }
        Err(Mistakes(self.mistakes.into_iter().collect()))
    }
}
