//! Reads `rate_limit`: one limit, several limits, or `unlimited`.

use super::scalars::choice;
use super::{Field, Fields, Reader, described};
use crate::limit::{Algorithm, Hits, Limit, Unit};
use crate::mistake::At;
use crate::rule::Limits;
use crate::spelling::shown;
use crate::vocabulary::{ALGORITHMS, HITS, Place};
use crate::yaml::{Kind, Node};

/// The contents of a `rate_limit` map.
struct Written {
    at: At,
    unlimited: bool,
    /// Whether `unlimited` is probably misspelled: then the other keys are not checked.
    is_unclear: bool,
    unit: Field<String>,
    requests_per_unit: Field<u32>,
    unit_multiplier: Field<u32>,
    burst: Field<u32>,
    algorithm: Field<Algorithm>,
    hits: Field<Hits>,
    max_debt: Field<u32>,
    name: String,
    replaces: Vec<String>,
}

impl Reader<'_> {
    /// Reads the limits of a descriptor; `None` if it has none or they are wrong.
    pub(super) fn limits(&mut self, fields: &mut Fields<'_>) -> Option<Limits> {
        let node = fields.take("rate_limit").value?;
        match self.limit_maps(node, Place::RateLimit)?.as_slice() {
            [only] => self.one(only),
            several => {
                let limits = several.iter().filter_map(|element| self.element(element));
                Some(Limits::Limited(limits.collect()))
            }
        }
    }

    /// Reads the candidate limits of a descriptor, before its limits are read.
    pub(super) fn candidates(&mut self, fields: &mut Fields<'_>) -> Vec<Limit> {
        let has_limits = fields.has("rate_limit");
        let field = fields.take("candidate");
        let Some(node) = field.value else {
            return Vec::new();
        };
        if !has_limits {
            self.mistake(
                field.at,
                "candidate needs a rate_limit in the same descriptor",
                "add rate_limit: {unlimited: true} to try a limit for a descriptor without one",
            );
        }
        let maps = self.limit_maps(node, Place::Candidate).unwrap_or_default();
        let candidates = maps.into_iter().filter_map(|map| {
            let written = self.written(map, Place::Candidate)?;
            self.limit(written)
        });
        candidates.collect()
    }

    /// Returns the maps of one limit or several; `None` if the node is neither.
    fn limit_maps<'n>(&mut self, node: &'n Node, place: Place) -> Option<Vec<&'n Node>> {
        let name = place.name();
        match &node.kind {
            Kind::Map(_) => Some(vec![node]),
            Kind::List(elements) if elements.is_empty() => {
                self.mistake(
                    node.at,
                    format!("{name} is an empty list"),
                    format!("write at least one limit, or remove {name} for no limit"),
                );
                None
            }
            Kind::List(elements) => {
                let maps: Vec<&Node> = elements
                    .iter()
                    .map(|element| &**element)
                    .filter(|element| self.is_map(element))
                    .collect();
                (!maps.is_empty()).then_some(maps)
            }
            Kind::Scalar(_) => {
                let what = format!("{name} must be a map, but is {}", described(node));
                self.mistake(
                    node.at,
                    what,
                    "write unit and requests_per_unit below it, indented",
                );
                None
            }
        }
    }

    fn one(&mut self, node: &Node) -> Option<Limits> {
        let written = self.written(node, Place::RateLimit)?;
        if written.unlimited {
            self.check_unlimited(&written);
            return Some(Limits::Unlimited {
                name: written.name,
                replaces: written.replaces,
            });
        }
        Some(Limits::Limited(vec![self.limit(written)?]))
    }

    /// Reads one of several limits.
    fn element(&mut self, node: &Node) -> Option<Limit> {
        let written = self.written(node, Place::RateLimit)?;
        if written.unlimited {
            self.mistake(
                written.at,
                "unlimited cannot be combined with other limits",
                "remove the other limits, or this one",
            );
            return None;
        }
        self.limit(written)
    }

    fn written(&mut self, node: &Node, place: Place) -> Option<Written> {
        let mut fields = self.fields(node, place)?;
        let is_candidate = place == Place::Candidate;
        let algorithms = [Algorithm::TokenBucket, Algorithm::FixedWindow];
        let hits = [Hits::Prepaid, Hits::Postpaid, Hits::Auto];
        let name = self.text(&mut fields, "name").value.unwrap_or_default();
        let written = Written {
            at: node.at,
            is_unclear: fields.is_misspelt("unlimited"),
            unlimited: !is_candidate && self.flag(&mut fields, "unlimited"),
            unit: self.text(&mut fields, "unit"),
            requests_per_unit: self.count(&mut fields, "requests_per_unit", 0),
            unit_multiplier: self.count(&mut fields, "unit_multiplier", 1),
            burst: self.count(&mut fields, "burst", 1),
            algorithm: self.word(&mut fields, "algorithm", ALGORITHMS, &algorithms),
            hits: self.word(&mut fields, "hits", HITS, &hits),
            max_debt: self.count(&mut fields, "max_debt", 0),
            replaces: match is_candidate {
                true => Vec::new(),
                false => self.replaces(&mut fields, &name),
            },
            name,
        };
        self.finish(fields);
        Some(written)
    }

    fn replaces(&mut self, fields: &mut Fields<'_>, own_name: &str) -> Vec<String> {
        let list = fields.take("replaces");
        let mut names = Vec::new();
        for element in self.maps(list, "replaces") {
            if !self.is_map(element) {
                continue;
            }
            let Some(mut fields) = self.fields(element, Place::Replaces) else {
                continue;
            };
            let name = self.text(&mut fields, "name");
            self.finish(fields);
            let text = name.value.unwrap_or_default();
            if name.is_wrong {
                continue;
            } else if text.is_empty() {
                self.mistake(
                    name.at,
                    "should not have an empty replaces entry",
                    "write the name of the limit to replace, or remove the entry",
                );
            } else if text == own_name {
                self.mistake(
                    name.at,
                    format!(
                        "replaces should not contain name of same descriptor: '{}'",
                        shown(&text)
                    ),
                    "a limit cannot replace itself: remove the entry",
                );
            } else {
                names.push(text);
            }
        }
        names
    }

    // --- Checks ---

    fn check_unlimited(&mut self, written: &Written) {
        let unit = written.unit.value.as_deref().unwrap_or_default();
        if Unit::from_name(unit).is_some() {
            self.mistake(
                written.unit.at,
                "should not specify rate limit unit when unlimited",
                "remove unit, or unlimited",
            );
        } else if !unit.is_empty() {
            let what = format!("invalid rate limit unit '{}'", shown(unit));
            self.ignored(
                written.unit.at,
                what,
                "it has no effect with unlimited: true; remove unit, or unlimited",
            );
        }
        let ours = [
            (
                "unit_multiplier",
                written.unit_multiplier.at,
                written.unit_multiplier.is_given(),
            ),
            ("burst", written.burst.at, written.burst.is_given()),
            (
                "algorithm",
                written.algorithm.at,
                written.algorithm.is_given(),
            ),
            ("hits", written.hits.at, written.hits.is_given()),
            ("max_debt", written.max_debt.at, written.max_debt.is_given()),
        ];
        for (name, at, is_given) in ours {
            if is_given {
                self.pointless(name, at, "unlimited: true");
            }
        }
    }

    fn limit(&mut self, written: Written) -> Option<Limit> {
        if written.is_unclear {
            return None;
        }
        let unit = self.unit(&written.unit, written.at);
        let algorithm = written
            .algorithm
            .value
            .unwrap_or(self.options.default_algorithm);
        let requests_per_unit = written.requests_per_unit.value.unwrap_or(0);
        self.check_burst_and_debt(&written, algorithm);
        let unit = unit?;
        let unit_multiplier = written.unit_multiplier.value.unwrap_or(1);
        self.check_period(unit, unit_multiplier, written.unit_multiplier.at);
        let burst = written.burst.value.unwrap_or(requests_per_unit);
        Some(Limit {
            requests_per_unit,
            unit,
            unit_multiplier,
            burst,
            algorithm,
            hits: written.hits.value.unwrap_or(self.options.default_hits),
            max_debt: written.max_debt.value.unwrap_or(burst),
            name: written.name,
            replaces: written.replaces,
        })
    }

    fn unit(&mut self, unit: &Field<String>, limit: At) -> Option<Unit> {
        if unit.is_wrong {
            return None;
        }
        let text = unit.value.as_deref().unwrap_or_default();
        let found = Unit::from_name(text);
        if found.is_none() {
            let at = if text.is_empty() { limit } else { unit.at };
            let what = format!("invalid rate limit unit '{}'", shown(text));
            self.mistake(at, what, choice(text, &Unit::ALL.map(Unit::name)));
        }
        found
    }

    fn check_burst_and_debt(&mut self, written: &Written, algorithm: Algorithm) {
        let reason = if algorithm == Algorithm::FixedWindow && !written.algorithm.is_wrong {
            Some(match written.algorithm.value {
                Some(_) => "algorithm: fixed_window",
                None => "fixed_window, the default algorithm of this server",
            })
        } else if !written.requests_per_unit.is_wrong
            && written.requests_per_unit.value.unwrap_or(0) == 0
        {
            Some("requests_per_unit: 0, which denies everything")
        } else {
            None
        };
        if let Some(reason) = reason.filter(|_| written.burst.is_given()) {
            self.pointless("burst", written.burst.at, reason);
        }
        let prepaid = match (written.hits.value, self.options.default_hits) {
            (Some(Hits::Prepaid), _) => Some("hits: prepaid, which never runs into debt"),
            (None, Hits::Prepaid) if !written.hits.is_wrong => {
                Some("prepaid hits, the default of this server, which never run into debt")
            }
            _ => None,
        };
        if let Some(reason) = reason.or(prepaid).filter(|_| written.max_debt.is_given()) {
            self.pointless("max_debt", written.max_debt.at, reason);
        }
    }

    fn check_period(&mut self, unit: Unit, multiplier: u32, at: At) {
        let most = unit.max_multiplier();
        if multiplier > most {
            let what = format!(
                "a period of {multiplier} times one {} is longer than 100 years",
                unit.name()
            );
            self.mistake(
                at,
                what,
                format!("write a unit_multiplier of at most {most}"),
            );
        }
    }

    fn pointless(&mut self, name: &str, at: At, with: &str) {
        let what = format!("{name} has no effect with {with}");
        self.mistake(at, what, format!("remove {name}"));
    }
}
