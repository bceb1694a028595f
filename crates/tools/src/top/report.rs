//! The contents of the screen and of the printed report: alarms, facts and tables. All texts are safe for a terminal.

mod facts;
mod numbers;
mod tables;

use clap::ValueEnum;

use super::sample::{Sample, Window};

/// What to show.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) address: String,
    pub(super) window: Window,
    pub(super) sort: Sort,
}

/// Order of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// Hits per second
    Rate,
    /// Denied hits per second
    Denied,
    /// Hits since the server started
    Total,
    /// Path of the rule
    Name,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Rate => Self::Denied,
            Self::Denied => Self::Total,
            Self::Total => Self::Name,
            Self::Name => Self::Rate,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Denied => "denied",
            Self::Total => "total",
            Self::Name => "name",
        }
    }
}

/// The report on a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    /// Problems that need attention.
    pub(super) alarms: Vec<String>,
    pub(super) facts: Vec<String>,
    pub(super) rules: Table,
    pub(super) hottest: Table,
    pub(super) denied: Table,
    /// Buckets that shadow mode allowed, if there are any.
    pub(super) would_deny: Option<Table>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) align: Align,
    /// Width on a screen; `None` fills the rest.
    pub(super) width: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

const fn left(name: &'static str, width: Option<u16>) -> Column {
    Column {
        name,
        align: Align::Left,
        width,
    }
}

const fn right(name: &'static str, width: u16) -> Column {
    Column {
        name,
        align: Align::Right,
        width: Some(width),
    }
}

impl Report {
    /// Reports on a sample; rates need an earlier sample.
    pub(super) fn new(view: &View, before: Option<&Sample>, now: &Sample) -> Self {
        let seconds = before.and_then(|before| now.seconds_since(before));
        let span = before.zip(seconds);
        Self {
            alarms: facts::alarms(&now.status),
            facts: vec![
                facts::headline(view, &now.status),
                facts::decisions(span, now),
                facts::latencies(span, now),
                facts::store(&now.status),
                facts::configuration(&now.status),
            ],
            rules: tables::rules(view.sort, span, now),
            hottest: tables::hottest(now),
            denied: tables::most_denied(now),
            would_deny: tables::would_deny(now),
        }
    }
}

/// The earlier sample, and the seconds since then.
type Span<'s> = Option<(&'s Sample, f64)>;

#[cfg(test)]
pub(super) mod tests;
