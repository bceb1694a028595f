//! Maps: their keys are known words, and each is read once.

use super::{Reader, described, raw};
use crate::mistake::At;
use crate::spelling::{nearest, shown};
use crate::vocabulary::{self, Place};
use crate::yaml::{Entry, Kind, Node};

/// Keys of Envoy's own configuration that people write into rules.
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

/// What a map says of one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<T> {
    /// The value's place; of a missing value, the key's; of a missing key, the map's.
    pub(super) at: At,
    /// `None` when there is none, or when it is wrong.
    pub(super) value: Option<T>,
    /// It is there, but wrong, which has been reported.
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
    /// Where keys stand that were probably meant to be these.
    misspelt: Vec<(&'static str, At)>,
}

impl<'n> Fields<'n> {
    /// Where the value of a key begins; of a missing key, where the map does.
    pub(super) fn value_at(&self, name: &str) -> At {
        let found = self.unread.iter().find(|&&(key, _)| key == name);
        found.map_or(self.at, |(_, entry)| entry.value.at)
    }

    /// Whether a key that has not been read yet is there with a value, or probably meant to be.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut unread = self.unread.iter();
        unread.any(|&(key, entry)| key == name && !entry.value.is_null()) || self.is_misspelt(name)
    }

    /// Whether a key that nobody knows was probably meant to be this one.
    pub(super) fn is_misspelt(&self, name: &str) -> bool {
        self.misspelt.iter().any(|&(meant, _)| meant == name)
    }

    /// Takes the value of a key. A null is as good as none. A key that is there, but misspelt, is wrong,
    /// so that nothing is said about its absence.
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
    /// The keys of a map, all of which must be texts.
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

    /// Reports the keys that nobody asked for.
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
            // envoyproxy/ratelimit checks keys without regard to their place.
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
