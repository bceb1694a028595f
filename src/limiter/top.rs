//! Which buckets are asked for most, and which deny most, of the last minute and the last hour.
//!
//! Each thread notes its own decisions, in a fixed number of counters (`Summary`), so nothing is contended and no
//! client can make it grow; whoever asks has them added up. The window moves on by slices (`sliding`): a slice is
//! counted by itself, and leaves as a whole. A note costs a look at the clock, a lock that nobody else wants, and a
//! look into a map of a few hundred; a name is written only where a counter is taken over.

mod sliding;
mod sum;
mod summary;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::request::Request;
use crate::store::{Charge, Decision, Part, without_candidates};
use crate::time::Micros;

use sliding::Sliding;
use sum::Sum;
use summary::Frozen;
#[cfg(doc)]
use summary::Summary;

pub use sliding::Window;

/// How much of a request is kept to be shown, in bytes.
const MAX_REQUEST: usize = 256;

/// The counters of all threads.
#[derive(Debug, Clone)]
pub struct Top(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Counters in each slice.
    size: usize,
    started: Instant,
    threads: Mutex<Vec<Arc<Mutex<Both>>>>,
}

/// What one thread has noted.
struct Both {
    hits: Sliding,
    denied: Sliding,
    /// What shadow mode let pass.
    would_deny: Sliding,
}

impl fmt::Debug for Both {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Both").finish_non_exhaustive()
    }
}

/// What a thread notes its decisions with.
#[derive(Debug, Clone, Default)]
pub struct Noter(Option<Own>);

#[derive(Debug, Clone)]
struct Own {
    started: Instant,
    both: Arc<Mutex<Both>>,
}

/// A decision that is to be noted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decided<'d> {
    pub(super) charges: &'d [Charge],
    pub(super) decision: &'d Decision,
    /// The server lets every request pass.
    pub(super) is_shadow: bool,
}

/// What is known of a bucket that is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counted {
    key: String,
    rule: String,
    denied: Option<Denial>,
}

/// The last denial of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denial {
    /// When, on the store's clock.
    pub at: Micros,
    /// How many hits were asked for.
    pub hits: u64,
    /// What was asked, shortened.
    pub request: String,
}

/// The buckets of a window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hot {
    /// How long the window is, in seconds.
    pub seconds: u64,
    /// All hits that were asked for.
    pub total_hits: u64,
    /// All that were denied.
    pub total_denied: u64,
    /// All that would have been but for shadow mode.
    pub total_would_deny: u64,
    /// No count is wrong by more.
    pub error: u64,
    /// Those that are asked for most, the first first.
    pub hottest: Vec<HotBucket>,
    /// Those that deny most, likewise.
    pub denied: Vec<HotBucket>,
    /// Those that would deny most but for shadow mode, in the same order.
    pub would_deny: Vec<HotBucket>,
}

/// A bucket and its counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HotBucket {
    /// What it is called.
    pub key: String,
    /// The path of its rule; empty for a limit that a request brought itself.
    pub rule: String,
    /// Hits that were asked for, at most; `None` when others were asked for so much more that they are not known.
    pub hits: Option<u64>,
    /// Hits that were denied, at most; 0 also when they are too few to be known.
    pub denied: u64,
    /// Hits that would have been denied but for shadow mode, at most; 0 also when they are too few to be known.
    pub would_deny: u64,
    /// The last denial, if it is known; of [`Hot::would_deny`], the last that was none but for shadow mode.
    pub last: Option<Denial>,
}

impl Top {
    /// So many counters for each slice of each thread; 0 counts nothing.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let inner = Inner {
            size,
            started: Instant::now(),
            threads: Mutex::default(),
        };
        Self((size > 0).then(|| Arc::new(inner)))
    }

    /// What another thread notes with.
    #[must_use]
    pub fn noter(&self) -> Noter {
        Noter(self.0.as_ref().map(|inner| {
            let both = Arc::new(Mutex::new(Both {
                hits: Sliding::new(inner.size),
                denied: Sliding::new(inner.size),
                would_deny: Sliding::new(inner.size),
            }));
            lock(&inner.threads).push(Arc::clone(&both));
            Own {
                started: inner.started,
                both,
            }
        }))
    }

    /// The hottest and the most denied buckets of a window, so many of each at most; `None` when nothing is counted.
    #[must_use]
    pub fn hot(&self, window: Window, most: usize) -> Option<Hot> {
        let inner = self.0.as_ref()?;
        let now = inner.started.elapsed().as_secs();
        let [hits, denied, would_deny] = inner.sums(window, now);
        let count =
            |sum: &Sum, hash: u128| sum.buckets.get(&hash).map(|(count, _)| count + sum.lack);
        let listed = |sum: &Sum, denials: &Sum| {
            let mut all: Vec<(u64, u128)> = sum
                .buckets
                .iter()
                .map(|(hash, (count, _))| (*count, *hash))
                .collect();
            all.sort_unstable_by(|one, other| other.cmp(one));
            all.truncate(most);
            let bucket = |(_, hash): (u64, u128)| {
                let counted = &sum.buckets[&hash].1;
                let last = denials
                    .buckets
                    .get(&hash)
                    .and_then(|(_, counted)| counted.denied.clone());
                HotBucket {
                    key: counted.key.clone(),
                    rule: counted.rule.clone(),
                    hits: count(&hits, hash),
                    denied: count(&denied, hash).unwrap_or_default(),
                    would_deny: count(&would_deny, hash).unwrap_or_default(),
                    last,
                }
            };
            all.into_iter().map(bucket).collect()
        };
        Some(Hot {
            seconds: window.seconds(now),
            total_hits: hits.total,
            total_denied: denied.total,
            total_would_deny: would_deny.total,
            error: hits.error.max(denied.error).max(would_deny.error),
            hottest: listed(&hits, &denied),
            denied: listed(&denied, &denied),
            would_deny: listed(&would_deny, &would_deny),
        })
    }

    /// The last denial of the bucket whose key has this hash, if it is counted.
    #[must_use]
    pub fn last_denied(&self, hash: u128) -> Option<Denial> {
        let inner = self.0.as_ref()?;
        let now = inner.started.elapsed().as_secs();
        let denials = inner.parts(Window::Hour, now, |both| &mut both.denied);
        let of_bucket = |part: &Arc<Frozen<Counted>>| part.find(hash)?.denied.clone();
        denials
            .iter()
            .filter_map(of_bucket)
            .max_by_key(|denial| denial.at)
    }
}

// --- Noting ---

impl Noter {
    /// Notes a decision. `rule_of` tells the rule of the charge at a place.
    pub(super) fn note<'r>(
        &self,
        noted: &Decided<'_>,
        request: &Request,
        rule_of: impl Fn(usize) -> Option<&'r str>,
    ) {
        let Some(own) = &self.0 else {
            return;
        };
        let mut both = lock(&own.both);
        let Both {
            hits,
            denied,
            would_deny,
        } = &mut *both;
        let now = own.started.elapsed().as_secs();
        let hits = hits.live(now);
        let charges = without_candidates(noted.charges).iter();
        for (place, (charge, outcome)) in charges.zip(&noted.decision.outcomes).enumerate() {
            let name = |counted: &mut Counted| {
                counted.name(charge.key.as_str(), rule_of(place).unwrap_or_default());
            };
            let asked = u64::try_from(charge.hits).unwrap_or_default();
            if asked > 0 {
                hits.add(charge.key.hash(), asked, name);
            }
            if !outcome.admitted {
                // A question that is denied counts as well: it stands for the hits that are not asked for then.
                let denials = match noted.is_shadow || charge.part == Part::Shadow {
                    true => would_deny.live(now),
                    false => denied.live(now),
                };
                let counted = denials.add(charge.key.hash(), asked.max(1), name);
                counted.deny(outcome.decided, asked, request);
            }
        }
    }
}

impl Counted {
    /// Takes a counter over. What was allocated for the names before is used again.
    fn name(&mut self, key: &str, rule: &str) {
        self.key.clear();
        self.key.push_str(key);
        self.rule.clear();
        self.rule.push_str(rule);
    }

    fn deny(&mut self, at: Micros, hits: u64, request: &Request) {
        let denial = self.denied.get_or_insert_default();
        (denial.at, denial.hits) = (at, hits);
        denial.request.clear();
        request.show(MAX_REQUEST, &mut denial.request);
    }
}

// --- Adding up ---

impl Inner {
    /// Of the hits, of those denied, and of those that would have been.
    fn sums(&self, window: Window, now: u64) -> [Sum; 3] {
        let hits = self.parts(window, now, |both| &mut both.hits);
        let denied = self.parts(window, now, |both| &mut both.denied);
        let would_deny = self.parts(window, now, |both| &mut both.would_deny);
        [hits, denied, would_deny].map(|parts| Sum::of(&parts))
    }

    /// The slices of all threads.
    fn parts(
        &self,
        window: Window,
        now: u64,
        which: impl Fn(&mut Both) -> &mut Sliding,
    ) -> Vec<Arc<Frozen<Counted>>> {
        let threads = lock(&self.threads).clone();
        let parts = threads
            .iter()
            .flat_map(|thread| which(&mut lock(thread)).parts(window, now));
        parts.collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
