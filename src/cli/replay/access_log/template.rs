//! Templates that build a descriptor from the fields of a line: `client={x_client},path={path|no_query}`.

use std::str::FromStr;

use super::Fields;
use crate::limiter::{Entry, Typed};
use crate::text::Text;

/// Template of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Template(Vec<(Text, Vec<Piece>)>);

/// Part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field { name: String, filters: Vec<Filter> },
}

/// Conversion of the text of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    /// An address without its port.
    Host,
    /// Text before the first comma.
    First,
    /// Text after the last comma.
    Last,
    /// A path without its query.
    NoQuery,
    /// In lower case.
    Lower,
}

impl Filter {
    const ALL: [(&str, Self); 5] = [
        ("host", Self::Host),
        ("first", Self::First),
        ("last", Self::Last),
        ("no_query", Self::NoQuery),
        ("lower", Self::Lower),
    ];

    fn apply(self, text: &str) -> String {
        match self {
            Self::Host => host(text).to_owned(),
            Self::First => text.split(',').next().unwrap_or_default().trim().to_owned(),
            Self::Last => text
                .rsplit(',')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned(),
            Self::NoQuery => text.split('?').next().unwrap_or_default().to_owned(),
            Self::Lower => text.to_lowercase(),
        }
    }
}

/// Removes the port of `192.0.2.1:443` and `[2001:db8::1]:443`; returns other texts unchanged.
fn host(address: &str) -> &str {
    if let Some((host, _)) = address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return host;
    }
    match address.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        _ => address,
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Typed(entries) = text.parse()?;
        let entries = entries.into_iter();
        let entries = entries.map(|entry| {
            let value = entry.value.as_str().ok_or_else(|| {
                format!(
                    "{} is not UTF-8, but lines of a log are; write it in UTF-8",
                    entry.value
                )
            })?;
            Ok((entry.key, pieces(value)?))
        });
        entries.collect::<Result<_, String>>().map(Self)
    }
}

fn pieces(value: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('{') {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let (field, after) = behind.split_once('}').ok_or_else(|| {
            format!("{value:?} has a {{ without a }}; write the name of a field between them")
        })?;
        pieces.push(field_of(field)?);
        rest = after;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn field_of(text: &str) -> Result<Piece, String> {
    let mut parts = text.split('|').map(str::trim);
    let name = parts.next().unwrap_or_default();
    if name.is_empty() {
        return Err("{} names no field; write the name of one, such as {path}".to_owned());
    }
    let filters = parts.map(|part| {
        let known = Filter::ALL.iter().find(|(name, _)| *name == part);
        known.map(|&(_, filter)| filter).ok_or_else(|| {
            let known = Filter::ALL.map(|(name, _)| name).join(", ");
            format!("{{{text}}}: unknown filter {part:?}; write one of {known}")
        })
    });
    Ok(Piece::Field {
        name: name.to_owned(),
        filters: filters.collect::<Result<_, _>>()?,
    })
}

impl Template {
    /// Builds the entries; `None` if a field of them is missing or empty.
    pub(super) fn fill(&self, fields: &impl Fields) -> Option<Vec<Entry>> {
        let entries = self.0.iter().map(|(key, pieces)| {
            let value = pieces.iter().map(|piece| piece.fill(fields));
            Some(Entry {
                key: key.clone(),
                value: value.collect::<Option<String>>()?.into(),
            })
        });
        entries.collect()
    }
}

impl Piece {
    fn fill(&self, fields: &impl Fields) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Field { name, filters } => {
                let apply = |text: String, filter: &Filter| filter.apply(&text);
                Some(filters.iter().fold(fields.get(name)?, apply))
            }
        }
    }
}
