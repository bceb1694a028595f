//! `/status`: health, store, source, configuration, and the number of decisions.

use std::sync::atomic::Ordering;

use super::configuration::rejected;
use super::server_view::{ServerView, SourceView, StoreView, count};
use super::types::{
    self, Causes, ConfigurationSummary, Decisions, DistributionBucket, Errors, Failures,
    FallbackDecisions, RedisServer, Source, Status, Store,
};
use crate::store::FailureKind;
use crate::store::breaker::{Breaker, BreakerState};
use crate::telemetry::metrics::{DecidedBy, Distribution, Metrics, Told};

pub(super) fn status(view: &ServerView, can_change: bool) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        instance: view.instance.clone(),
        now_us: view.now(),
        uptime_seconds: view.started.elapsed().as_secs(),
        healthy: (view.is_healthy)(),
        can_change,
        store: store(view),
        answers: distribution(&view.metrics.answers()),
        decisions: Decisions {
            ok: causes(&view.metrics, Told::Ok),
            over_limit: causes(&view.metrics, Told::OverLimit),
        },
        fallback_decisions: Some(fallback_decisions(&view.metrics)),
        errors: Errors {
            service: view.metrics.service_errors(),
            store: view.metrics.store_errors(),
        },
        source: source(&view.source),
        configuration: summary(view),
    }
}

// --- The store ---

fn store(view: &ServerView) -> Store {
    match &view.store {
        StoreView::Memory(memory) => Store {
            kind: "memory".into(),
            buckets: Some(count(memory.buckets())),
            max_buckets: Some(count(memory.max_buckets())),
            ..Store::default()
        },
        StoreView::Redis {
            failure_mode,
            standby,
            names,
            denials,
        } => {
            let breakers = names.iter().zip(standby.breakers());
            Store {
                kind: "redis".into(),
                degraded: standby.is_degraded(),
                buckets: None,
                max_buckets: None,
                failure_mode: Some(failure_mode.name().into()),
                breakers: breakers.map(|(name, of)| breaker(name, of)).collect(),
                remembered_denials: count(denials.buckets()),
                fallback_buckets: count(standby.buckets()),
                latency: Some(distribution(&view.metrics.store.batches.round_trips())),
            }
        }
    }
}

fn breaker(name: &'static str, breaker: &Breaker) -> types::Breaker {
    let state = match breaker.condition().state {
        BreakerState::Closed => "closed",
        BreakerState::HalfOpen => "half_open",
        BreakerState::Open => "open",
    };
    types::Breaker {
        name: name.into(),
        state: state.into(),
        times_opened: breaker.times_opened(),
        failures: Failures {
            unreachable: breaker.failures(FailureKind::Unreachable),
            timeout: breaker.failures(FailureKind::Timeout),
            overloaded: breaker.failures(FailureKind::Overloaded),
            unfit: breaker.failures(FailureKind::Unfit),
            refused: breaker.failures(FailureKind::Refused),
        },
        server: breaker.server().map(|server| RedisServer {
            version: server.software.clone(),
            protocol: server.protocol,
        }),
        last_failure: breaker.last_store_failure().map(|error| error.to_string()),
    }
}

// --- Decisions ---

fn distribution(of: &Distribution) -> types::Distribution {
    let buckets = of.buckets.iter();
    types::Distribution {
        count: of.count,
        sum_seconds: of.sum_seconds,
        buckets: buckets
            .map(|&(le, count)| DistributionBucket { le, count })
            .collect(),
    }
}

fn causes(metrics: &Metrics, told: Told) -> Causes {
    let by = |cause| metrics.decisions(told, cause);
    Causes {
        buckets: by(DecidedBy::Buckets),
        remembered_denial: by(DecidedBy::RememberedDenial),
        no_limit: by(DecidedBy::NoLimit),
        fallback_local: by(DecidedBy::FallbackLocal),
        fallback_allow: by(DecidedBy::FallbackAllow),
        fallback_deny: by(DecidedBy::FallbackDeny),
    }
}

fn fallback_decisions(metrics: &Metrics) -> FallbackDecisions {
    let [(_, local), (_, allow), (_, deny), (_, error)] = metrics.fallback_decisions();
    FallbackDecisions {
        local,
        allow,
        deny,
        error,
    }
}

// --- The configuration ---

fn source(source: &SourceView) -> Source {
    let connected = source.connected.as_ref();
    Source {
        kind: if connected.is_some() { "xds" } else { "files" }.into(),
        origin: source.origin.clone(),
        connected: connected.map(|connected| connected.load(Ordering::Relaxed)),
    }
}

fn summary(view: &ServerView) -> ConfigurationSummary {
    let record = view.history.record();
    let snapshot = view.rules.snapshot();
    let rules = snapshot.as_ref().map(|snapshot| &snapshot.rules);
    let (version, loaded_us) = match record.accepted {
        Some(accepted) => (Some(accepted.version), Some(accepted.at)),
        None => (None, None),
    };
    ConfigurationSummary {
        version,
        loaded_us,
        domains: rules.map_or(0, |rules| count(rules.domains().len())),
        rules: rules.map_or(0, |rules| count(rules.rules().len())),
        rejected: record.rejected.map(rejected),
    }
}
