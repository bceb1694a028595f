//! Reads scalars: strings, booleans, numbers and keywords.

use std::fmt::Display;

use super::{Field, Fields, Reader, described};
use crate::mistake::At;
use crate::spelling::{nearest, shown};
use crate::yaml::{Meaning, Node, Scalar, meaning};

impl<T> Field<T> {
    fn map<U>(self, value: Option<U>) -> Field<U> {
        Field {
            at: self.at,
            is_wrong: self.is_wrong || (self.value.is_some() && value.is_none()),
            value,
        }
    }
}

impl Reader<'_> {
    /// Reads a string. A number or a boolean is read as its text.
    pub(super) fn text(&mut self, fields: &mut Fields<'_>, name: &'static str) -> Field<String> {
        let field = fields.take(name);
        let value = field.value.and_then(|node| {
            let scalar = self.scalar(node, name, "a text")?;
            if matches!(scalar.meaning(), Meaning::Float(_)) {
                let text = shown(&scalar.text);
                let what = format!("error checking config: {name} is the fraction {text}");
                self.mistake(
                    field.at,
                    what,
                    format!("put it in quotes: {name}: \"{text}\""),
                );
                return None;
            }
            Some(scalar.text.clone())
        });
        field.map(value)
    }

    /// Reads a boolean; `false` if it is missing.
    pub(super) fn flag(&mut self, fields: &mut Fields<'_>, name: &'static str) -> bool {
        let field = fields.take(name);
        let Some(scalar) = field
            .value
            .and_then(|node| self.scalar(node, name, "true or false"))
        else {
            return false;
        };
        if let Meaning::Bool(flag) = scalar.meaning() {
            return flag;
        }
        let text = shown(&scalar.text);
        if let Meaning::Bool(meant) = meaning(&scalar.text) {
            let what = format!("{name} must be true or false, but is the text '{text}'");
            self.mistake(
                field.at,
                what,
                format!("write {name}: {meant}, without quotes"),
            );
        } else {
            let what = format!("{name} must be true or false, but is '{text}'");
            self.mistake(field.at, what, format!("write {name}: true, or remove it"));
        }
        false
    }

    /// Reads a whole number of at least `least`.
    pub(super) fn count(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
        least: u32,
    ) -> Field<u32> {
        let field = fields.take(name);
        let value = field.value.and_then(|node| {
            let scalar = self.scalar(node, name, "a whole number")?;
            let count = match scalar.meaning() {
                Meaning::Int(int) => u32::try_from(int).ok().filter(|&count| count >= least),
                _ => None,
            };
            if count.is_none() {
                let what = format!(
                    "{name} must be a whole number from {least} to {}, but is {}",
                    u32::MAX,
                    described(node)
                );
                self.mistake(field.at, what, count_advice(name, scalar));
            }
            count
        });
        field.map(value)
    }

    /// Reads a keyword.
    pub(super) fn word<T: Copy>(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
        words: &[&'static str],
        meanings: &[T],
    ) -> Field<T> {
        let field = self.text(fields, name);
        let Some(text) = &field.value else {
            return Field {
                at: field.at,
                value: None,
                is_wrong: field.is_wrong,
            };
        };
        let found = words.iter().position(|word| word == text);
        let value = found.and_then(|i| meanings.get(i)).copied();
        if value.is_none() {
            let what = format!("{name} cannot be '{}'", shown(text));
            let advice = choice(text, words);
            self.mistake(field.at, what, advice);
        }
        field.map(value)
    }

    /// Returns a scalar, or reports an error that names what is `expected`.
    fn scalar<'n>(
        &mut self,
        node: &'n Node,
        name: &str,
        expected: impl Display,
    ) -> Option<&'n Scalar> {
        let scalar = node.scalar();
        if scalar.is_none() {
            let at: At = node.at;
            let what = format!("{name} must be {expected}, but is {}", described(node));
            self.mistake(at, what, format!("write it on one line: \"{name}: ...\""));
        }
        scalar
    }
}

fn count_advice(name: &str, scalar: &Scalar) -> String {
    match meaning(&scalar.text) {
        Meaning::Int(int) if !scalar.plain && int >= 0 => {
            format!("write {name}: {int}, without quotes")
        }
        Meaning::Float(float) if float.fract() == 0.0 && (1.0..1e9).contains(&float) => {
            format!("write {name}: {float}")
        }
        Meaning::Float(_) => "round it, or choose a longer period".to_owned(),
        Meaning::Int(int) if int > i128::from(u32::MAX) && name == "requests_per_unit" => {
            "choose a shorter period, or unlimited: true in rate_limit for no limit".to_owned()
        }
        Meaning::Int(_) if name == "requests_per_unit" => "write 0 to deny everything".to_owned(),
        Meaning::Int(_) => format!("leave {name} out for its default"),
        _ => "write it in digits".to_owned(),
    }
}

/// Returns advice for a word that is not one of `words`.
pub(super) fn choice(text: &str, words: &[&'static str]) -> String {
    match nearest(text, words.iter().copied()) {
        Some(meant) => format!("did you mean '{meant}'?"),
        None => format!("use one of {}", words.join(", ")),
    }
}
