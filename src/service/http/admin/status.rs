//! How the server fares: store, source, configuration, and what it has decided so far.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::limiter::InForce;
use crate::limiter::top::Top;
use crate::service::http::rlconfig::rlconfig;
use crate::source::{History, Record, Rejected};
use crate::store::breaker::{Breaker, BreakerState};
use crate::store::denied::Denials;
use crate::store::fallback::Standby;
use crate::store::memory::MemoryStore;
use crate::store::{FailureKind, OnStoreFailure};
use crate::telemetry::Throttle;
use crate::telemetry::metrics::{DecidedBy, Distribution, Metrics, Told};
use crate::time::Micros;

/// The shortest time between two log lines about what the API refused to do.
const WARN_EVERY: Micros = 1_000_000;

/// The most clients that may read the whole configuration at the same time.
const MAX_READERS: usize = 8;

/// What can be seen of a server.
pub struct ServerView {
    /// What the machine is called that it runs on.
    pub instance: String,
    /// When it started.
    pub started: Instant,
    /// What time it is.
    pub clock: Clock,
    /// Whether it should be sent requests.
    pub is_healthy: Box<dyn Fn() -> bool + Send + Sync>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// The rules in force.
    pub rules: Arc<InForce>,
    /// What became of configurations.
    pub history: History,
    /// Where they come from.
    pub source: SourceView,
    /// Where buckets live.
    pub store: StoreView,
    /// Which buckets are asked for most.
    pub top: Top,
    /// Passes when it may be told that something was refused.
    pub refusals: Throttle,
    /// Held by the one search for rules that runs.
    pub search: Mutex<()>,
    /// One permit for each client that may read the whole configuration at the same time.
    pub readers: Arc<Semaphore>,
}

/// Where configurations come from.
#[derive(Debug, Clone)]
pub struct SourceView {
    /// The file, directory or server.
    pub place: String,
    /// Whether there is a connection to it; `None` for files.
    pub connected: Option<Arc<AtomicBool>>,
}

/// Where buckets live.
#[derive(Debug, Clone)]
pub enum StoreView {
    /// In memory.
    Memory(Arc<MemoryStore>),
    /// In Redis.
    Redis {
        /// What is done while it does not answer.
        failure_mode: OnStoreFailure,
        /// What stands by for it, breakers included.
        standby: Standby,
        /// How the breakers are called, in their order.
        names: Vec<&'static str>,
        /// What is remembered of denials.
        denials: Arc<Denials>,
    },
}

impl fmt::Debug for ServerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerView")
            .field("instance", &self.instance)
            .field("source", &self.source)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl ServerView {
    /// Permits for the clients that read the whole configuration.
    #[must_use]
    pub fn readers() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_READERS))
    }

    /// Passes seldom enough that rejected requests cannot fill the log.
    #[must_use]
    pub fn throttle() -> Throttle {
        Throttle::every(WARN_EVERY)
    }

    pub(super) fn now(&self) -> Micros {
        (self.clock)()
    }

    /// Waits until no other search runs, and keeps others out while it is held.
    pub(super) fn searching(&self) -> MutexGuard<'_, ()> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn may_tell_of_refusals(&self) -> bool {
        self.refusals.passes(self.now())
    }
}

pub(super) fn status(seen: &ServerView, can_change: bool) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": seen.instance,
        "now_us": seen.now(),
        "uptime_seconds": seen.started.elapsed().as_secs(),
        "healthy": (seen.is_healthy)(),
        "can_change": can_change,
        "store": store(seen),
        "answers": distribution(&seen.metrics.answers()),
        "decisions": decisions(&seen.metrics),
        "fallback_decisions": fallback_decisions(&seen.metrics),
        "errors": {
            "service": seen.metrics.service_errors(),
            "store": seen.metrics.store_errors(),
        },
        "source": source(&seen.source),
        "configuration": summary(seen),
    })
}

// --- The store ---

fn store(seen: &ServerView) -> Value {
    match &seen.store {
        StoreView::Memory(memory) => json!({
            "kind": "memory",
            "degraded": false,
            "buckets": memory.buckets(),
            "max_buckets": memory.max_buckets(),
            "failure_mode": null,
            "breakers": [],
            "remembered_denials": 0,
            "fallback_buckets": 0,
            "latency": null,
        }),
        StoreView::Redis {
            failure_mode,
            standby,
            names,
            denials,
        } => {
            let breakers = standby.breakers();
            let told: Vec<Value> = names
                .iter()
                .zip(breakers)
                .map(|(name, of)| breaker(name, of))
                .collect();
            json!({
                "kind": "redis",
                "degraded": standby.is_degraded(),
                "buckets": null,
                "max_buckets": null,
                "failure_mode": failure_mode.name(),
                "breakers": told,
                "remembered_denials": denials.buckets(),
                "fallback_buckets": standby.buckets(),
                "latency": distribution(&seen.metrics.store.batches.round_trips()),
            })
        }
    }
}

fn breaker(name: &str, breaker: &Breaker) -> Value {
    let failures: Map<String, Value> = FailureKind::ALL
        .into_iter()
        .map(|kind| (kind.name().to_owned(), breaker.failures(kind).into()))
        .collect();
    json!({
        "name": name,
        "state": match breaker.condition().state {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half_open",
            BreakerState::Open => "open",
        },
        "times_opened": breaker.times_opened(),
        "failures": failures,
        "server": breaker.server().map(|server| json!({
            "version": server.software,
            "protocol": server.protocol,
        })),
        "last_failure": breaker.last_failure_of_all().map(|error| error.to_string()),
    })
}

// --- What was decided ---

fn distribution(of: &Distribution) -> Value {
    let buckets: Vec<Value> = of
        .buckets
        .iter()
        .map(|(bound, count)| json!({ "le": bound, "count": count }))
        .collect();
    json!({ "count": of.count, "sum_seconds": of.sum_seconds, "buckets": buckets })
}

fn decisions(metrics: &Metrics) -> Value {
    let by_cause = |told: Told| -> Value {
        let causes = DecidedBy::ALL.into_iter();
        let counts = causes.map(|by| (by.name().to_owned(), metrics.decisions(told, by).into()));
        Value::Object(counts.collect())
    };
    let all = Told::ALL.into_iter();
    Value::Object(
        all.map(|told| (told.name().to_owned(), by_cause(told)))
            .collect(),
    )
}

fn fallback_decisions(metrics: &Metrics) -> Value {
    let counts = metrics.fallback_decisions().into_iter();
    Value::Object(
        counts
            .map(|(policy, count)| (policy.to_owned(), count.into()))
            .collect(),
    )
}

// --- The configuration ---

fn source(source: &SourceView) -> Value {
    let connected = source.connected.as_ref();
    let kind = if connected.is_some() { "xds" } else { "files" };
    json!({
        "kind": kind,
        "origin": source.place,
        "connected": connected.map(|connected| connected.load(Ordering::Relaxed)),
    })
}

fn rejected(rejected: Option<&Rejected>) -> Value {
    rejected.map_or(Value::Null, |rejected| {
        json!({
            "at_us": rejected.at,
            "mistakes": rejected.told.mistakes,
            "more": rejected.told.more,
        })
    })
}

fn summary(seen: &ServerView) -> Value {
    let Record {
        accepted,
        rejected: refused,
    } = seen.history.record();
    let snapshot = seen.rules.snapshot();
    let rules = snapshot.as_ref().map(|snapshot| &snapshot.rules);
    json!({
        "version": accepted.as_ref().map(|accepted| &accepted.version),
        "loaded_us": accepted.as_ref().map(|accepted| accepted.at),
        "domains": rules.map_or(0, |rules| rules.domains().len()),
        "rules": rules.map_or(0, |rules| rules.rules().len()),
        "rejected": rejected(refused.as_ref()),
    })
}

pub(super) fn configuration(seen: &ServerView) -> Value {
    let Record {
        accepted,
        rejected: refused,
    } = seen.history.record();
    let snapshot = seen.rules.snapshot();
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    if let Some(snapshot) = &snapshot {
        for file in snapshot.rules.domains().flat_map(|domain| domain.files()) {
            files.entry(file).or_default();
        }
        for rule in snapshot.rules.rules() {
            *files.entry(&rule.file).or_default() += 1;
        }
    }
    let files: Vec<Value> = files
        .into_iter()
        .map(|(name, rules)| json!({ "name": name, "rules": rules }))
        .collect();
    let text = snapshot
        .as_ref()
        .map(|snapshot| rlconfig(&snapshot.rules))
        .unwrap_or_default();
    json!({
        "version": accepted.map(|accepted| accepted.version),
        "origin": seen.source.place,
        "files": files,
        "text": text,
        "rejected": rejected(refused.as_ref()),
    })
}
