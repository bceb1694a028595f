//! From descriptors to charges: which limits apply, under which keys, and how each counts.

use std::borrow::Cow;
use std::collections::HashSet;
use std::mem;
use std::ops::Range;

use super::charges::Charges;
use super::request::{Descriptor, Override, Request};
use super::usage::{Call, Pattern, Uses};
use super::{LimiterSettings, Snapshot};
use crate::key::{BucketKey, KeyFormat, LimitTag, Segment};
use crate::rules::{Algorithm, Domain, Limit, Limits, Match, Node, Rule, RuleSet};
use crate::store::{Charge, Part, Payment};

/// What a request comes down to.
pub(super) struct Plan<'a> {
    /// One per descriptor, in their order.
    pub(super) asks: Vec<Ask<'a>>,
    /// The limits of all descriptors, in their order.
    applied: Vec<Applied<'a>>,
    charges: Vec<Charge>,
    /// What is tried beside the limits, in the order of the descriptors as far as these are limited, then
    /// likewise beside none.
    pub(super) candidates: Vec<Candidate>,
    /// What the request shows of how its rules are used.
    pub(super) uses: Uses,
    pub(super) shadow_mode: bool,
}

/// A limit that is only tried.
pub(super) struct Candidate {
    /// The place of its descriptor in the request.
    pub(super) descriptor: usize,
    /// The place of its charge in the plan's.
    pub(super) charge: usize,
}

/// What a descriptor comes down to.
pub(super) enum Ask<'a> {
    /// No limit applies.
    Free,
    /// A rule says that there is none, and which others do not apply.
    Unlimited {
        found: Match<'a>,
        replaces: &'a [String],
    },
    /// Limits apply, at least one.
    Limited(Limited<'a>),
}

/// A descriptor that limits apply to.
pub(super) struct Limited<'a> {
    found: Option<Match<'a>>,
    /// The request brought the limit; it is not the rule's.
    is_override: bool,
    /// Where its limits are among those of the plan.
    limits: Range<usize>,
    /// Being over is counted, but not told.
    pub(super) is_shadow: bool,
    pub(super) is_quota: bool,
}

/// A limit that applies, and its charge.
pub(super) struct Applied<'a> {
    pub(super) limit: Cow<'a, Limit>,
    /// Its place in the rule's list.
    index: usize,
    /// Another limit of the request takes its place.
    is_replaced: bool,
    /// The place of its charge in the plan's.
    pub(super) charge: usize,
    /// When its hits are taken.
    pub(super) payment: Payment,
    /// How its rule is used.
    pub(super) pattern: Pattern,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        request: &Request,
        keys: &KeyFormat,
        settings: &LimiterSettings,
    ) -> Self {
        let mut plan = Self {
            asks: Vec::with_capacity(request.descriptors.len()),
            applied: Vec::with_capacity(request.descriptors.len()),
            charges: Vec::new(),
            candidates: Vec::new(),
            uses: Uses::default(),
            shadow_mode: settings.shadow_mode,
        };
        let domain = snapshot.rules.domain(&request.domain);
        for descriptor in &request.descriptors {
            let ask = domain.map_or(Ask::Free, |domain| plan.ask(domain, descriptor, settings));
            plan.asks.push(ask);
        }
        plan.replace();
        if let Some(domain) = domain {
            plan.charge(snapshot, domain, request, keys, settings);
        }
        plan
    }

    /// What to ask of the store; no key twice. What is left tells what the answer means.
    pub(super) fn take_charges(&mut self) -> Vec<Charge> {
        mem::take(&mut self.charges)
    }

    /// Whether no limit applies to the request.
    pub(super) fn is_free(&self) -> bool {
        let mut asks = self.asks.iter();
        asks.all(|ask| !matches!(ask, Ask::Limited(_)))
    }

    /// The limits of a descriptor, at least one.
    pub(super) fn limits(&self, limited: &Limited<'_>) -> impl Iterator<Item = &Applied<'a>> {
        in_force(&self.applied[limited.limits.clone()])
    }
}

impl Plan<'_> {
    /// The path of the rule that the charge at a place is for; `None` for a limit of the request's own.
    pub(super) fn rule_of(&self, charge: usize) -> Option<&str> {
        let limited = self.asks.iter().find_map(|ask| match ask {
            Ask::Limited(limited) => {
                let mut limits = self.limits(limited);
                limits
                    .any(|limit| limit.charge == charge)
                    .then_some(limited)
            }
            Ask::Free | Ask::Unlimited { .. } => None,
        });
        limited?.rule().map(|rule| rule.path.as_str())
    }
}

/// Those limits that no other replaces.
fn in_force<'p, 'a>(limits: &'p [Applied<'a>]) -> impl Iterator<Item = &'p Applied<'a>> {
    limits.iter().filter(|applied| !applied.is_replaced)
}

impl<'a> Limited<'a> {
    /// The rule that the limits are from, unless the request brought its own.
    pub(super) fn rule(&self) -> Option<&'a Rule> {
        self.matched().map(|found| found.rule)
    }

    /// Likewise, and the way to it.
    pub(super) fn matched(&self) -> Option<Match<'a>> {
        self.found.filter(|_| !self.is_override)
    }
}

impl<'a> Applied<'a> {
    fn new(limit: Cow<'a, Limit>, index: usize) -> Self {
        Self {
            limit,
            index,
            is_replaced: false,
            charge: 0,
            payment: Payment::Prepaid,
            pattern: Pattern::Prepaid,
        }
    }
}

/// Which limit a bucket is for.
fn tag(limit: &Limit, index: usize, is_override: bool) -> LimitTag<'static> {
    LimitTag {
        index,
        is_window: limit.algorithm == Algorithm::FixedWindow,
        override_period: is_override.then(|| (limit.unit_multiplier, limit.unit.name())),
    }
}

/// The keys of the buckets that a descriptor would be charged on, if it came alone: one per limit
/// of its rule.
#[must_use]
pub fn bucket_keys(
    rules: &RuleSet,
    keys: &KeyFormat,
    domain: impl AsRef<[u8]>,
    descriptor: &Descriptor,
) -> Vec<BucketKey> {
    let Some((found, stem)) = met(rules, keys, domain, descriptor) else {
        return Vec::new();
    };
    let Limits::Limited(limits) = &found.rule.limits else {
        return Vec::new();
    };
    let limits = limits.iter().enumerate();
    limits
        .map(|(index, limit)| keys.key(&stem, tag(limit, index, false)))
        .collect()
}

/// Likewise, the keys of the buckets of what is tried beside them: one per candidate of its rule.
#[must_use]
pub fn candidate_keys(
    rules: &RuleSet,
    keys: &KeyFormat,
    domain: impl AsRef<[u8]>,
    descriptor: &Descriptor,
) -> Vec<BucketKey> {
    let Some((found, stem)) = met(rules, keys, domain, descriptor) else {
        return Vec::new();
    };
    let candidates = found.rule.candidates.iter().enumerate();
    candidates
        .map(|(index, limit)| keys.candidate_key(&stem, tag(limit, index, false)))
        .collect()
}

/// What a descriptor meets, and the stem of its keys.
fn met<'r>(
    rules: &'r RuleSet,
    keys: &KeyFormat,
    domain: impl AsRef<[u8]>,
    descriptor: &Descriptor,
) -> Option<(Match<'r>, String)> {
    let found = find(rules.domain(domain.as_ref())?, descriptor)?;
    let stem = keys.stem(domain, segments(descriptor, Some(&found)));
    Some((found, stem))
}

/// Likewise, also when it brings a limit of its own.
#[cfg(feature = "tools")]
pub(crate) fn charged_keys(
    rules: &RuleSet,
    settings: &LimiterSettings,
    domain: impl AsRef<[u8]>,
    descriptor: &Descriptor,
) -> Vec<BucketKey> {
    match descriptor.limit {
        None => bucket_keys(rules, &settings.keys, domain, descriptor),
        Some(own) => {
            let limit = limit_of(own, settings);
            let stem = settings.keys.stem(domain, segments(descriptor, None));
            vec![settings.keys.key(&stem, tag(&limit, 0, true))]
        }
    }
}

// --- From a descriptor to limits ---

pub(super) fn find<'a>(domain: &'a Domain, descriptor: &Descriptor) -> Option<Match<'a>> {
    domain.find(descriptor.entries.iter().map(|e| (&e.key, &e.value)))
}

impl<'a> Plan<'a> {
    /// What applies to a descriptor, before limits replace one another.
    fn ask(
        &mut self,
        domain: &'a Domain,
        descriptor: &Descriptor,
        settings: &LimiterSettings,
    ) -> Ask<'a> {
        let found = find(domain, descriptor);
        let begin = self.applied.len();
        let is_override = descriptor.limit.is_some();
        let (mut is_shadow, mut is_quota) = (false, settings.quota_mode);
        if let Some(own) = descriptor.limit {
            let limit = limit_of(own, settings);
            self.applied.push(Applied::new(Cow::Owned(limit), 0));
        } else {
            let Some(Match { rule, .. }) = found else {
                return Ask::Free;
            };
            let limits = match &rule.limits {
                Limits::Unlimited { replaces, .. } => {
                    let found = found.expect("the rule is the match's");
                    return Ask::Unlimited { found, replaces };
                }
                Limits::Limited(limits) => limits.iter().map(Cow::Borrowed),
            };
            let limits = limits.enumerate();
            self.applied
                .extend(limits.map(|(index, limit)| Applied::new(limit, index)));
            (is_shadow, is_quota) = (rule.shadow_mode, is_quota || rule.quota_mode);
        }
        Ask::Limited(Limited {
            found,
            is_override,
            limits: begin..self.applied.len(),
            is_shadow,
            is_quota,
        })
    }
}

/// A limit that a request brought itself.
fn limit_of(own: Override, settings: &LimiterSettings) -> Limit {
    Limit {
        unit_multiplier: own.unit_multiplier,
        hits: settings.default_hits,
        ..Limit::new(own.requests_per_unit, own.unit, settings.default_algorithm)
    }
}

impl Plan<'_> {
    /// Takes out the limits that others of the request replace, by name. The names are collected first,
    /// so that the order of descriptors does not matter and two limits that replace each other both go.
    fn replace(&mut self) {
        let of_rules = self.asks.iter().flat_map(|ask| match ask {
            Ask::Unlimited { replaces, .. } => *replaces,
            Ask::Free | Ask::Limited(_) => &[],
        });
        let of_limits = self.applied.iter().flat_map(|a| &a.limit.replaces);
        let names: HashSet<String> = of_rules.chain(of_limits).cloned().collect();
        if names.is_empty() {
            return;
        }
        for applied in &mut self.applied {
            applied.is_replaced = names.contains(&applied.limit.name);
        }
        for ask in &mut self.asks {
            if let Ask::Limited(limited) = ask
                && in_force(&self.applied[limited.limits.clone()]).count() == 0
            {
                *ask = Ask::Free;
            }
        }
    }
}

// --- From limits to charges ---

impl Plan<'_> {
    /// Charges the limits that apply, each bucket once.
    fn charge(
        &mut self,
        snapshot: &Snapshot,
        domain: &Domain,
        request: &Request,
        keys: &KeyFormat,
        settings: &LimiterSettings,
    ) {
        let quota_passes = self.quota_passes(settings);
        let calls = self.asks.iter().zip(&request.descriptors);
        let calls = calls.filter_map(|(ask, descriptor)| {
            let slot = ask.slot(snapshot, domain)?;
            Some((slot, Call::of(request, descriptor)))
        });
        self.uses = Uses::new(calls, &snapshot.usage);
        let mut charges = Charges::default();
        for (group, (ask, descriptor)) in (0..).zip(self.asks.iter().zip(&request.descriptors)) {
            let Ask::Limited(limited) = ask else {
                continue;
            };
            let stem = keys.stem(
                &request.domain,
                segments(descriptor, limited.found.as_ref()),
            );
            let slot = snapshot.slot(domain, limited.matched().as_ref());
            let (hits, call) = (request.hits(descriptor), Call::of(request, descriptor));
            let pattern = self.uses.pattern(slot);
            let on_failure = limited.rule().and_then(|rule| rule.on_store_failure);
            let limits = &mut self.applied[limited.limits.clone()];
            for applied in limits.iter_mut().filter(|applied| !applied.is_replaced) {
                let tag = tag(&applied.limit, applied.index, limited.is_override);
                applied.pattern = pattern;
                let pattern = pattern.under(applied.limit.hits);
                applied.payment = pattern.payment(call, hits);
                applied.charge = charges.add(Charge {
                    key: keys
                        .key(&stem, tag)
                        .of_limit(snapshot.limit_number(slot, applied.index))
                        .placed(applied.limit.placement()),
                    terms: pattern.terms(&applied.limit),
                    hits: pattern.hits(&applied.limit, hits),
                    payment: applied.payment,
                    part: limited.part(group, quota_passes),
                    on_failure,
                });
            }
        }
        if self.asks.iter().any(Ask::has_candidates) {
            self.charge_candidates(&mut charges, snapshot, request, keys);
        }
        self.charges = charges.list;
    }

    /// Charges what is tried, after all that counts: beside limits first.
    fn charge_candidates(
        &mut self,
        charges: &mut Charges,
        snapshot: &Snapshot,
        request: &Request,
        keys: &KeyFormat,
    ) {
        for is_limited in [true, false] {
            for (at, descriptor) in request.descriptors.iter().enumerate() {
                let ask = &self.asks[at];
                let is_here = matches!(ask, Ask::Limited(_)) == is_limited;
                let Some(found) = ask.tried().filter(|_| is_here) else {
                    continue;
                };
                let stem = keys.stem(&request.domain, segments(descriptor, Some(&found)));
                let pattern = self.uses.pattern(found.rule.id);
                let place = self.stands_for(at);
                // A request is not sent to another store for a limit that is only tried.
                let placement = place
                    .beside(&charges.list)
                    .map(|charge| charge.key.placement());
                let (hits, call) = (request.hits(descriptor), Call::of(request, descriptor));
                for (index, limit) in found.rule.candidates.iter().enumerate() {
                    let pattern = pattern.under(limit.hits);
                    let charge = charges.add(Charge {
                        key: keys
                            .candidate_key(&stem, tag(limit, index, false))
                            .of_limit(snapshot.limit_number(found.rule.id, CANDIDATES + index))
                            .placed(placement.unwrap_or_else(|| limit.placement())),
                        terms: pattern.terms(limit),
                        hits: pattern.hits(limit, hits),
                        payment: pattern.payment(call, hits),
                        part: place.part(),
                        on_failure: None,
                    });
                    self.candidates.push(Candidate {
                        descriptor: at,
                        charge,
                    });
                }
            }
        }
    }

    /// The charges of a descriptor, which its candidates stand in for. They are in a row: those that were not
    /// made for it were made, all of them, for an earlier one that met the same buckets.
    fn stands_for(&self, descriptor: usize) -> Stead {
        match &self.asks[descriptor] {
            Ask::Limited(limited) => {
                let charges = || self.limits(limited).map(|applied| applied.charge);
                let (first, last) = (charges().min(), charges().max());
                Stead(first.unwrap_or_default()..last.map_or(0, |last| last + 1))
            }
            Ask::Free | Ask::Unlimited { .. } => Stead(descriptor..descriptor),
        }
    }

    /// Whether a quota descriptor passes in any case, which lets the other quota descriptors pass, too: one
    /// in shadow mode, and (when all limits are quotas) one that no limit applies to.
    fn quota_passes(&self, settings: &LimiterSettings) -> bool {
        self.asks.iter().any(|ask| match ask {
            Ask::Free => settings.quota_mode,
            Ask::Unlimited { .. } => false,
            Ask::Limited(limited) => limited.is_quota && limited.is_shadow,
        })
    }
}

impl<'a> Ask<'a> {
    /// Where the calls of what is charged are counted.
    fn slot(&self, snapshot: &Snapshot, domain: &Domain) -> Option<usize> {
        match self {
            Self::Limited(limited) => Some(snapshot.slot(domain, limited.matched().as_ref())),
            Self::Free | Self::Unlimited { .. } => self.tried().map(|found| found.rule.id),
        }
    }

    /// The rule whose candidates are tried on the descriptor, and the way to it.
    pub(super) fn tried(&self) -> Option<Match<'a>> {
        let found = match self {
            Self::Free => None,
            Self::Unlimited { found, .. } => Some(*found),
            Self::Limited(limited) => limited.matched(),
        };
        found.filter(|found| !found.rule.candidates.is_empty())
    }

    fn has_candidates(&self) -> bool {
        self.tried().is_some()
    }
}

/// Where the numbers of a rule's candidates begin: after those of its limits.
const CANDIDATES: usize = 1 << 16;

/// The places of charges that candidates stand in for; empty for none.
struct Stead(Range<usize>);

impl Stead {
    /// A charge that decides where candidates live, if there is one.
    fn beside<'c>(&self, charges: &'c [Charge]) -> Option<&'c Charge> {
        let own = charges.get(self.0.clone()).and_then(<[Charge]>::first);
        own.or_else(|| charges.first())
    }

    fn part(&self) -> Part {
        let place = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Part::Candidate {
            from: place(self.0.start),
            to: place(self.0.end),
        }
    }
}

impl Limited<'_> {
    /// How the charges of the descriptor count.
    fn part(&self, group: u32, quota_passes: bool) -> Part {
        if self.is_shadow || (self.is_quota && quota_passes) {
            Part::Shadow
        } else if self.is_quota {
            Part::Quota(group)
        } else {
            Part::Must
        }
    }
}

/// What stands for the entries in the bucket's key.
pub(super) fn segments<'r>(
    descriptor: &'r Descriptor,
    found: Option<&'r Match<'r>>,
) -> impl Iterator<Item = (&'r [u8], Segment<'r>)> {
    // A limit that the request brought is the same whatever the configuration says.
    let mut nodes = found
        .filter(|_| descriptor.limit.is_none())
        .map(|found| found.nodes);
    descriptor.entries.iter().map(move |entry| {
        let node = nodes.as_mut().and_then(Iterator::next);
        let pattern = node.and_then(Node::shared_pattern);
        let segment = pattern.map_or(Segment::Value(entry.value.as_bytes()), Segment::Pattern);
        (entry.key.as_bytes(), segment)
    })
}
