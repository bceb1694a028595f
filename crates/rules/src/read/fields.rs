//! Reads maps, whose keys must be known.

use super::{Reader, described, raw};
use crate::mistake::At;
use crate::spelling::{nearest, shown};
use crate::vocabulary::{self, Place};
use crate::yaml::{Entry, Kind, Node};

/// Keys of Envoy's own configuration that are often written into rules by mistake.
const ENVOY: [&str; 9] = [
    "actions",
    "entries",
    "generic_key",
    "header_value_match",
    "hits_addend",
    "metadata_key",
    "rate_limits",
    "remote_address",
    "request_headers",
];

/// The value of a key in a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<T> {
    /// The position of the value; of the key if the value is missing; of the map if the key is missing.
    pub(super) at: At,
    /// `None` if the value is missing or wrong.
    pub(super) value: Option<T>,
    /// Whether the value is wrong, which has been reported.
    pub(super) is_wrong: bool,
}

impl<T> Field<T> {
    pub(super) fn is_given(&self) -> bool {
        self.value.is_some() || self.is_wrong
    }
}

/// The keys of a map that have not been read yet.
pub(super) struct Fields<'n> {
    place: Place,
    at: At,
    unread: Vec<(&'n str, &'n Entry)>,
    /// The positions of unknown keys that are probably misspellings of these keys.
    misspelt: Vec<(&'static str, At)>,
}

impl<'n> Fields<'n> {
    /// The position of a key's value; of the map if the key is missing.
    pub(super) fn value_at(&self, name: &str) -> At {
        let found = self.unread.iter().find(|&&(key, _)| key == name);
        found.map_or(self.at, |(_, entry)| entry.value.at)
    }

    /// Whether a key that has not been read yet has a value, also if it is probably misspelled.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut unread = self.unread.iter();
        unread.any(|&(key, entry)| key == name && !entry.value.is_null()) || self.is_misspelt(name)
    }

    /// Whether an unknown key is probably a misspelling of this one.
    pub(super) fn is_misspelt(&self, name: &str) -> bool {
        self.misspelt.iter().any(|&(meant, _)| meant == name)
    }

    /// Takes the value of a key. Null counts as missing. A key that is misspelled counts as wrong, so that it is not reported
    /// as missing, too.
    pub(super) fn take(&mut self, name: &'static str) -> Field<&'n Node> {
        debug_assert!(
            self.place.keys().any(|key| key.name == name),
            "{name} is in no schema"
        );
        let found = self.unread.iter().position(|&(key, _)| key == name);
        let Some((_, entry)) = found.map(|i| self.unread.swap_remove(i)) else {
            let misspelt = self.misspelt.iter().find(|&&(meant, _)| meant == name);
            return Field {
                at: misspelt.map_or(self.at, |&(_, at)| at),
                value: None,
                is_wrong: misspelt.is_some(),
            };
        };
        if entry.value.is_null() {
            return Field {
                at: entry.key.at,
                value: None,
                is_wrong: false,
            };
        }
        Field {
            at: entry.value.at,
            value: Some(&*entry.value),
            is_wrong: false,
        }
    }
}

impl Reader<'_> {
    /// Returns the keys of a map, which must be strings.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, place: Place) -> Option<Fields<'n>> {
        let Kind::Map(entries) = &node.kind else {
            let what = format!("{} must be a map, but is {}", place.name(), described(node));
            let keys: Vec<_> = place.keys().map(|key| key.name).take(3).collect();
            self.mistake(
                node.at,
                what,
                format!("write keys such as {}", keys.join(", ")),
            );
            return None;
        };
        let unread: Vec<_> = entries
            .iter()
            .filter_map(|entry| Some((self.map_key(entry)?, entry)))
            .collect();
        let misspelt = unread
            .iter()
            .filter(|&&(key, _)| vocabulary::KEYS.iter().all(|known| known.name != key))
            .filter_map(|&(key, entry)| {
                Some((
                    nearest(key, place.keys().map(|key| key.name))?,
                    entry.key.at,
                ))
            })
            .collect();
        Some(Fields {
            place,
            at: node.at,
            unread,
            misspelt,
        })
    }

    fn map_key<'n>(&mut self, entry: &'n Entry) -> Option<&'n str> {
        let key = entry.key.string();
        if key.is_none() {
            let what = format!(
                "config error, key is not of type string: {}",
                raw(&entry.key)
            );
            self.mistake(
                entry.key.at,
                what,
                "remove it, or use one of the known keys",
            );
        }
        key
    }

    /// Reports the keys that have not been read.
    pub(super) fn finish(&mut self, fields: Fields<'_>) {
        for (key, entry) in fields.unread {
            debug_assert!(
                fields.place.keys().all(|known| known.name != key),
                "{key} is not read"
            );
            self.unknown_key(key, entry.key.at, fields.place);
        }
    }

    fn unknown_key(&mut self, key: &str, at: At, place: Place) {
        if let Some(home) = vocabulary::home_of(key, place) {
            let what = format!("{key} belongs {}, not in {}", home.home(), place.name());
            // envoyproxy/ratelimit accepts its keys in any map.
            match vocabulary::is_of_reference(key) && place != Place::Candidate {
                true => self.ignored(
                    at,
                    what,
                    "it has no effect here: move it there, or remove it",
                ),
                false => self.mistake(at, what, "move it there"),
            }
            return;
        }
        let what = format!(
            "config error, unknown key '{}' in {}",
            shown(key),
            place.name()
        );
        let everywhere = || vocabulary::KEYS.iter().map(|key| key.name);
        let advice = if ENVOY.contains(&key) {
            "it belongs to Envoy's rate_limits, which say what descriptors Envoy sends; here, write key and value"
                .to_owned()
        } else if let Some(meant) = nearest(key, place.keys().map(|key| key.name)) {
            format!("did you mean '{meant}'?")
        } else if let Some(meant) = nearest(key, everywhere()) {
            let home = vocabulary::home_of(meant, place).map_or("", Place::home);
            format!("did you mean '{meant}', which belongs {home}?")
        } else {
            let known: Vec<_> = place.keys().map(|key| key.name).collect();
            format!("the keys known here are {}", known.join(", "))
        };
        self.mistake(at, what, advice);
    }
}
