//! From descriptors to charges: which limits apply, under which keys, and how each counts.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::request::{Descriptor, Override, Request};
use super::{LimiterSettings, Snapshot};
use crate::key::{BucketKey, KeyFormat, LimitTag, Segment};
use crate::rules::{Algorithm, Domain, Hits, Limit, Limits, Match, Node, Rule, RuleSet};
use crate::store::{Charge, MAX_HITS, Part, Payment};

/// What a request comes down to.
pub(super) struct Plan<'a> {
    /// One per descriptor, in their order.
    pub(super) asks: Vec<Ask<'a>>,
    charges: Vec<Charge>,
    pub(super) shadow_mode: bool,
}

/// What a descriptor comes down to.
pub(super) enum Ask<'a> {
    /// No limit applies.
    Free,
    /// A rule says that there is none, and which others do not apply.
    Unlimited { replaces: &'a [String] },
    /// These limits apply, at least one.
    Limited(Limited<'a>),
}

/// A descriptor that limits apply to.
pub(super) struct Limited<'a> {
    /// The rule that they are from, unless the request brought the limit.
    pub(super) rule: Option<&'a Rule>,
    pub(super) limits: Vec<Applied<'a>>,
    /// Being over is counted, but not told.
    pub(super) is_shadow: bool,
    pub(super) is_quota: bool,
}

/// A limit that applies, and its charge.
pub(super) struct Applied<'a> {
    pub(super) limit: Cow<'a, Limit>,
    /// Its place in the rule's list.
    index: usize,
    /// The place of its charge in the plan's.
    pub(super) charge: usize,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        request: &Request,
        keys: &KeyFormat,
        settings: &LimiterSettings,
    ) -> Self {
        let mut plan = Self {
            asks: Vec::new(),
            charges: Vec::new(),
            shadow_mode: settings.shadow_mode,
        };
        let Some(domain) = snapshot.rules.domain(&request.domain) else {
            plan.asks
                .extend(request.descriptors.iter().map(|_| Ask::Free));
            return plan;
        };
        let matches: Vec<_> = request
            .descriptors
            .iter()
            .map(|descriptor| find(domain, descriptor))
            .collect();
        plan.asks = request
            .descriptors
            .iter()
            .zip(&matches)
            .map(|(descriptor, found)| ask(descriptor, found.as_ref(), settings))
            .collect();
        replace(&mut plan.asks);
        let parts = parts(&plan.asks, settings);
        let mut charges = Charges::default();
        for (i, descriptor) in request.descriptors.iter().enumerate() {
            let Ask::Limited(limited) = &mut plan.asks[i] else {
                continue;
            };
            let found = matches[i].as_ref();
            let stem = keys.stem(&request.domain, segments(descriptor, found));
            let slot = found.map_or(snapshot.rules.rules().len() + domain.id(), |m| m.rule.id);
            let hits = request.hits(descriptor);
            for applied in &mut limited.limits {
                let payment = payment(snapshot, slot, applied.limit.hits, hits);
                applied.charge = charges.add(Charge {
                    key: keys.key(&stem, applied.tag(limited.rule)),
                    terms: applied.limit.terms(),
                    hits,
                    payment,
                    part: parts[i],
                });
            }
        }
        plan.charges = charges.list;
        plan
    }

    /// What to ask of the store; no key twice.
    pub(super) fn charges(&self) -> &[Charge] {
        &self.charges
    }
}

impl Applied<'_> {
    fn tag(&self, rule: Option<&Rule>) -> LimitTag<'static> {
        LimitTag {
            index: self.index,
            is_window: self.limit.algorithm == Algorithm::FixedWindow,
            override_period: rule
                .is_none()
                .then(|| (self.limit.unit_multiplier, self.limit.unit.name())),
        }
    }
}

/// The keys of the buckets that a descriptor would be charged on, if it came alone: one per limit
/// of its rule.
#[must_use]
pub fn bucket_keys(
    rules: &RuleSet,
    keys: &KeyFormat,
    domain: &str,
    descriptor: &Descriptor,
) -> Vec<BucketKey> {
    let Some(found) = rules
        .domain(domain)
        .and_then(|domain| find(domain, descriptor))
    else {
        return Vec::new();
    };
    let Limits::Limited(limits) = &found.rule.limits else {
        return Vec::new();
    };
    let stem = keys.stem(domain, segments(descriptor, Some(&found)));
    let applied = applied(limits);
    applied
        .iter()
        .map(|applied| keys.key(&stem, applied.tag(Some(found.rule))))
        .collect()
}

// --- From a descriptor to limits ---

fn find<'a>(domain: &'a Domain, descriptor: &Descriptor) -> Option<Match<'a>> {
    domain.find(
        descriptor
            .entries
            .iter()
            .map(|e| (e.key.as_str(), e.value.as_str())),
    )
}

/// What applies to a descriptor, before limits replace one another.
fn ask<'a>(
    descriptor: &Descriptor,
    found: Option<&Match<'a>>,
    settings: &LimiterSettings,
) -> Ask<'a> {
    if let Some(own) = descriptor.limit {
        let limit = limit_of(own, settings.default_algorithm);
        return Ask::Limited(Limited {
            rule: None,
            limits: vec![Applied {
                limit: Cow::Owned(limit),
                index: 0,
                charge: 0,
            }],
            is_shadow: false,
            is_quota: settings.quota_mode,
        });
    }
    let Some(Match { rule, .. }) = found else {
        return Ask::Free;
    };
    match &rule.limits {
        Limits::Unlimited { replaces, .. } => Ask::Unlimited { replaces },
        Limits::Limited(limits) => Ask::Limited(Limited {
            rule: Some(rule),
            limits: applied(limits),
            is_shadow: rule.shadow_mode,
            is_quota: rule.quota_mode || settings.quota_mode,
        }),
    }
}

/// A limit that a request brought itself.
fn limit_of(own: Override, algorithm: Algorithm) -> Limit {
    Limit {
        unit_multiplier: own.unit_multiplier,
        ..Limit::new(own.requests_per_unit, own.unit, algorithm)
    }
}

fn applied(limits: &[Limit]) -> Vec<Applied<'_>> {
    let borrowed = limits.iter().map(Cow::Borrowed);
    borrowed
        .enumerate()
        .map(|(index, limit)| Applied {
            limit,
            index,
            charge: 0,
        })
        .collect()
}

/// Takes out the limits that others of the request replace, by name. The names are collected first, so
/// that the order of descriptors does not matter and two limits that replace each other both go.
fn replace(asks: &mut [Ask<'_>]) {
    let names: HashSet<String> = asks.iter().flat_map(Ask::replaces).cloned().collect();
    if names.is_empty() {
        return;
    }
    for ask in asks {
        if let Ask::Limited(limited) = ask {
            limited
                .limits
                .retain(|applied| !names.contains(&applied.limit.name));
            if limited.limits.is_empty() {
                *ask = Ask::Free;
            }
        }
    }
}

impl Ask<'_> {
    fn replaces(&self) -> Box<dyn Iterator<Item = &String> + '_> {
        match self {
            Self::Free => Box::new(std::iter::empty()),
            Self::Unlimited { replaces } => Box::new(replaces.iter()),
            Self::Limited(limited) => Box::new(
                limited
                    .limits
                    .iter()
                    .flat_map(|applied| &applied.limit.replaces),
            ),
        }
    }
}

/// How the charges of each descriptor count.
///
/// A quota descriptor that passes in any case lets the other quota descriptors pass, too: one in
/// shadow mode, and (when all limits are quotas) one that no limit applies to.
fn parts(asks: &[Ask<'_>], settings: &LimiterSettings) -> Vec<Part> {
    let quota_passes = asks.iter().any(|ask| match ask {
        Ask::Free => settings.quota_mode,
        Ask::Unlimited { .. } => false,
        Ask::Limited(limited) => limited.is_quota && limited.is_shadow,
    });
    (0..)
        .zip(asks)
        .map(|(group, ask)| match ask {
            Ask::Limited(limited) if limited.is_shadow => Part::Shadow,
            Ask::Limited(limited) if limited.is_quota && quota_passes => Part::Shadow,
            Ask::Limited(limited) if limited.is_quota => Part::Quota(group),
            _ => Part::Must,
        })
        .collect()
}

// --- From limits to charges ---

/// What stands for the entries in the bucket's key.
fn segments<'r>(
    descriptor: &'r Descriptor,
    found: Option<&'r Match<'r>>,
) -> impl Iterator<Item = (&'r str, Segment<'r>)> {
    // A limit that the request brought is the same whatever the configuration says.
    let mut nodes = found
        .filter(|_| descriptor.limit.is_none())
        .map(|found| found.nodes);
    descriptor.entries.iter().map(move |entry| {
        let node = nodes.as_mut().and_then(Iterator::next);
        let pattern = node.and_then(Node::shared_pattern);
        let segment = pattern.map_or(Segment::Value(&entry.value), Segment::Pattern);
        (entry.key.as_str(), segment)
    })
}

/// When the hits of a limit are taken; remembers that a rule was asked with zero hits.
fn payment(snapshot: &Snapshot, slot: usize, configured: Hits, hits: i64) -> Payment {
    match configured {
        Hits::Prepaid => Payment::Prepaid,
        Hits::Postpaid => Payment::Postpaid,
        Hits::Auto => {
            if hits == 0 {
                snapshot.remember_asked(slot);
            }
            if snapshot.asked(slot) {
                Payment::Postpaid
            } else {
                Payment::Prepaid
            }
        }
    }
}

/// Charges, each bucket once: what is named twice is charged the sum.
#[derive(Default)]
struct Charges {
    list: Vec<Charge>,
    places: HashMap<BucketKey, usize>,
}

impl Charges {
    /// The place of the charge on that bucket. When requests bring different limits for one bucket, the
    /// first one counts.
    fn add(&mut self, charge: Charge) -> usize {
        let next = self.list.len();
        let place = *self.places.entry(charge.key.clone()).or_insert(next);
        if place == next {
            self.list.push(Charge {
                hits: capped(charge.hits),
                ..charge
            });
        } else {
            let first = &mut self.list[place];
            first.hits = capped(first.hits.saturating_add(charge.hits));
            if charge.payment == Payment::Postpaid {
                first.payment = Payment::Postpaid;
            }
        }
        place
    }
}

fn capped(hits: i64) -> i64 {
    hits.clamp(-MAX_HITS, MAX_HITS)
}
