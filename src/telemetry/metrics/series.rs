//! The counters by rule: a bounded table of them, by name.
//!
//! A name is made of a domain and what a rule is called, and sometimes of what a client sent. Hence the
//! bound: names beyond it are counted together, in the series that is called [`OTHER`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use prometheus::IntCounter;

/// What is counted together for want of room.
pub const OTHER: &str = "other.other";

/// The longest name, in bytes. Longer ones are cut: a client may have chosen them.
const MAX_NAME: usize = 512;

/// The counters of one name, a line of them for each thread that counts.
#[derive(Debug)]
pub struct Series {
    name: Box<str>,
    lines: Box<[Line]>,
    /// Likewise of the rule's candidates; few rules have any.
    candidates: OnceLock<Box<[CandidateLine]>>,
    /// The [generation](Table::generation) that it was last looked up in.
    generation: AtomicU64,
}

/// The counters that one thread writes. On a line of the cache of their own, so that threads do not take it
/// from one another.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line {
    within: AtomicU64,
    near: AtomicU64,
    denied: AtomicU64,
    over: AtomicU64,
    shadow: AtomicU64,
    remembered: AtomicU64,
    given_back: AtomicU64,
    would_deny: AtomicU64,
}

/// The counters of candidates that one thread writes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct CandidateLine {
    would_admit: AtomicU64,
    would_deny: AtomicU64,
}

/// What the candidates of a rule would have said to hits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// Hits that all of them would have admitted.
    pub would_admit: u64,
    /// Hits that one of them would have denied.
    pub would_deny: u64,
}

/// What became of the hits of a descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hits {
    /// All of them, when it was under the limit.
    pub within: u64,
    /// All of them, when it was over the limit, unless shadow mode let them pass.
    pub denied: u64,
    /// All of them, when it was over the limit and shadow mode let them pass.
    pub would_deny: u64,
    /// Those near the limit.
    pub near: u64,
    /// Those beyond the limit.
    pub over: u64,
    /// Those beyond the limit that a rule in shadow mode let pass.
    pub shadow: u64,
    /// Those beyond the limit that were denied without asking the store.
    pub remembered: u64,
    /// Those that were given back.
    pub given_back: u64,
}

impl Hits {
    /// The hits that were asked for or reported.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.within + self.denied + self.would_deny
    }
}

impl Series {
    fn new(name: &str, threads: usize, generation: u64) -> Self {
        Self {
            name: name.into(),
            lines: (0..threads).map(|_| Line::default()).collect(),
            candidates: OnceLock::new(),
            generation: generation.into(),
        }
    }

    /// What it is called: a domain and the parts of a rule, joined by dots.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts hits, on a thread.
    pub(super) fn count(&self, thread: usize, hits: &Hits) {
        let line = &self.lines[thread];
        let fields = [
            (&line.within, hits.within),
            (&line.near, hits.near),
            (&line.denied, hits.denied),
            (&line.over, hits.over),
            (&line.shadow, hits.shadow),
            (&line.remembered, hits.remembered),
            (&line.given_back, hits.given_back),
            (&line.would_deny, hits.would_deny),
        ];
        for (counter, hits) in fields {
            if hits > 0 {
                counter.fetch_add(hits, Ordering::Relaxed);
            }
        }
    }

    /// Counts hits by what candidates would have said, on a thread.
    pub(super) fn count_candidate(&self, thread: usize, tried: &Tried) {
        let threads = self.lines.len();
        let lines = self
            .candidates
            .get_or_init(|| (0..threads).map(|_| CandidateLine::default()).collect());
        let line = &lines[thread];
        line.would_admit
            .fetch_add(tried.would_admit, Ordering::Relaxed);
        line.would_deny
            .fetch_add(tried.would_deny, Ordering::Relaxed);
    }

    /// What was counted so far of candidates; `None` when none was ever tried.
    #[must_use]
    pub fn tried(&self) -> Option<Tried> {
        let lines = self.candidates.get()?;
        let sum = |field: fn(&CandidateLine) -> &AtomicU64| {
            let counts = lines.iter().map(|line| field(line).load(Ordering::Relaxed));
            counts.fold(0, u64::wrapping_add)
        };
        Some(Tried {
            would_admit: sum(|line| &line.would_admit),
            would_deny: sum(|line| &line.would_deny),
        })
    }

    /// What was counted so far.
    #[must_use]
    pub fn sum(&self) -> Hits {
        let sum = |field: fn(&Line) -> &AtomicU64| {
            let lines = self.lines.iter();
            lines.fold(0_u64, |sum, line| {
                sum.wrapping_add(field(line).load(Ordering::Relaxed))
            })
        };
        Hits {
            within: sum(|line| &line.within),
            denied: sum(|line| &line.denied),
            near: sum(|line| &line.near),
            over: sum(|line| &line.over),
            shadow: sum(|line| &line.shadow),
            remembered: sum(|line| &line.remembered),
            given_back: sum(|line| &line.given_back),
            would_deny: sum(|line| &line.would_deny),
        }
    }
}

/// All series, at most so many.
#[derive(Debug)]
pub(super) struct Table {
    entries: RwLock<Entries>,
    other: Arc<Series>,
    threads: usize,
    max: usize,
    /// Grows with each configuration that comes into force.
    generation: AtomicU64,
    refused: IntCounter,
}

#[derive(Debug, Default)]
struct Entries {
    by_name: HashMap<Box<str>, Arc<Series>>,
    /// The generation in which room was last made.
    cleared_in: u64,
}

impl Table {
    pub(super) fn new(max: usize, threads: usize, refused: IntCounter) -> Self {
        Self {
            entries: RwLock::default(),
            other: Arc::new(Series::new(OTHER, threads, 0)),
            threads,
            max,
            generation: AtomicU64::new(0),
            refused,
        }
    }

    /// The series of a name, or that of [all others](OTHER).
    pub(super) fn get(&self, name: &str) -> Arc<Series> {
        let name = cut(name);
        let generation = self.generation.load(Ordering::Relaxed);
        if let Some(series) = self.read().by_name.get(name) {
            series.generation.store(generation, Ordering::Relaxed);
            return Arc::clone(series);
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = entries.by_name.get(name) {
            return Arc::clone(series);
        }
        if entries.by_name.len() >= self.max {
            entries.make_room(generation);
        }
        if entries.by_name.len() >= self.max {
            self.refused.inc();
            return Arc::clone(&self.other);
        }
        let series = Arc::new(Series::new(name, self.threads, generation));
        entries.by_name.insert(name.into(), Arc::clone(&series));
        series
    }

    /// A series of nobody but who holds it.
    pub(super) fn apart(&self, name: &str) -> Arc<Series> {
        Arc::new(Series::new(name, self.threads, 0))
    }

    /// The series of a name, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Series>> {
        self.read().by_name.get(cut(name)).cloned()
    }

    /// All series in the order of their names; the one of all others only when it was needed.
    pub(super) fn all(&self) -> Vec<Arc<Series>> {
        let mut all: Vec<_> = self.read().by_name.values().cloned().collect();
        if self.refused.get() > 0 {
            all.push(Arc::clone(&self.other));
        }
        all.sort_by(|one, two| one.name.cmp(&two.name));
        all
    }

    /// How many names are counted apart.
    pub(super) fn len(&self) -> usize {
        self.read().by_name.len()
    }

    /// Another configuration is in force: names that only the old one had may go when there is no room.
    pub(super) fn begin_generation(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Takes out what nobody has asked for since the configuration in force came, once for each of them:
    /// a client that sends new names must not have the old ones go, or there would be no bound to the names
    /// that whoever scrapes gets to see.
    fn make_room(&mut self, generation: u64) {
        if self.cleared_in == generation {
            return;
        }
        self.cleared_in = generation;
        self.by_name.retain(|_, series| {
            // Rules keep hold of theirs.
            Arc::strong_count(series) > 1 || series.generation.load(Ordering::Relaxed) == generation
        });
    }
}

fn cut(name: &str) -> &str {
    let most = MAX_NAME.min(name.len());
    let whole = (0..=most).rev().find_map(|end| name.get(..end));
    whole.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(max: usize) -> Table {
        Table::new(max, 2, IntCounter::new("refused", "refused").unwrap())
    }

    fn within(hits: u64) -> Hits {
        Hits {
            within: hits,
            ..Hits::default()
        }
    }

    #[test]
    fn threads_count_together() {
        let table = table(10);
        table.get("d.a").count(0, &within(3));
        table.get("d.a").count(1, &within(4));
        assert_eq!(table.get("d.a").sum(), within(7));
        assert_eq!(table.all().len(), 1);
    }

    #[test]
    fn what_is_tried_is_counted_apart() {
        let tried = |would_admit, would_deny| Tried {
            would_admit,
            would_deny,
        };
        let series = table(1).get("d.a");
        assert_eq!(series.tried(), None);
        series.count_candidate(0, &tried(3, 0));
        series.count_candidate(1, &tried(1, 5));
        assert_eq!(series.tried(), Some(tried(4, 5)));
        assert_eq!(series.sum(), Hits::default());
    }

    #[test]
    fn beyond_the_bound_all_are_one() {
        let table = table(2);
        for name in 0..100 {
            table.get(&format!("d.{name}")).count(0, &within(1));
        }
        let names: Vec<_> = table.all().iter().map(|s| s.name().to_owned()).collect();
        assert_eq!(names, ["d.0", "d.1", OTHER]);
        assert_eq!(table.get("d.99").sum(), within(98));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn what_a_new_configuration_does_not_use_makes_room_once() {
        let table = table(2);
        let held = table.get("d.held");
        table.get("d.gone");
        // Nothing goes while the configuration is the same.
        assert_eq!(table.get("d.new").name(), OTHER);
        table.begin_generation();
        assert_eq!(table.get("d.new").name(), "d.new");
        assert_eq!(table.get("d.held").name(), held.name());
        assert_eq!(table.get("d.gone").name(), OTHER);
        assert_eq!(table.get("d.another").name(), OTHER);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let series = table(1).get(&"ä".repeat(1_000));
        assert_eq!(series.name(), "ä".repeat(256));
    }
}
