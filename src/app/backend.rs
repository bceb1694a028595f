//! Where buckets are stored: in memory or in Redis. The only module that chooses a store.

use std::convert::Infallible;
use std::future::pending;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;

use super::settings::Settings;
use super::{background, exported_metrics};
use crate::clock;
use crate::service::StoreView;
use crate::store::Store;
use crate::store::breaker::Breaker;
use crate::store::denied::{Denials, RememberedDenials};
use crate::store::fallback::{Fallback, ProbeSettings, Standby};
use crate::store::full_warning;
use crate::store::memory::MemoryStore;
use crate::store::redis::{BucketsSettings, SharedServers, ThreadBuckets};
use crate::store::split::{GiveBacks, SplitContext};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Metrics;

/// Where buckets are stored.
pub(super) struct Backend<F> {
    /// State of the store for the admin API.
    pub(super) view: StoreView,
    /// Creates the store of a thread.
    pub(super) new_store: F,
    /// Probes of the store, which never end.
    pub(super) background: LocalBoxFuture<'static, Infallible>,
    /// Breakers that the health of the server depends on.
    pub(super) health: Vec<Breaker>,
}

/// Creates the store of a thread.
pub(super) trait NewStore:
    Fn() -> anyhow::Result<Self::Store> + Clone + Send + 'static
{
    /// The store.
    type Store: Store;
}

impl<S: Store, F: Fn() -> anyhow::Result<S> + Clone + Send + 'static> NewStore for F {
    type Store = S;
}

/// Stores buckets in this process.
pub(super) fn memory(max_buckets: usize, metrics: &Metrics) -> Backend<impl NewStore> {
    let full_warning = full_warning(max_buckets, clock::system());
    let store = MemoryStore::new(max_buckets, clock::system()).on_dropped(full_warning);
    let store = Arc::new(store);
    exported_metrics::memory(metrics, &store);
    Backend {
        view: StoreView::Memory(Arc::clone(&store)),
        new_store: move || Ok(Arc::clone(&store)),
        background: Box::pin(pending()),
        health: Vec::new(),
    }
}

/// Stores buckets in Redis. While it is unavailable, the failure policy decides.
pub(super) fn redis(
    redis: BucketsSettings,
    settings: &Settings,
    telemetry: &Telemetry,
) -> Backend<impl NewStore + use<>> {
    let (failure, metrics) = (settings.failure, telemetry.metrics());
    let shared = SharedServers::new(&redis);
    let standby = Standby::over(failure.fallback, clock::system(), shared.breakers());
    let denials = Arc::new(Denials::default());
    let give_backs = GiveBacks::default();
    exported_metrics::certificates_for_redis(metrics, &redis);
    exported_metrics::redis(metrics, &standby, &denials);
    exported_metrics::give_backs(metrics, &give_backs);
    let probe = ProbeSettings {
        keys: settings.limiter.keys.clone(),
        timeout: redis.timeout(),
        always: failure.health_follows,
        seed: RandomState::new().hash_one(0),
    };
    let background = background::probe_redis(&redis, &shared, &standby, &probe);
    let health = match failure.health_follows {
        true => shared.breakers(),
        false => Vec::new(),
    };
    let view = StoreView::Redis {
        failure_mode: failure.fallback.mode,
        standby: standby.clone(),
        names: vec!["redis", "redis per second"],
        denials: Arc::clone(&denials),
    };
    // Metrics and traces are only recorded for requests, not for probes.
    let redis = redis.observed_by(&telemetry.probe());
    let context = SplitContext {
        give_backs,
        denials: Arc::clone(&denials),
        standby: Some(standby.clone()),
    };
    // Each thread has a store, and the HTTP ports have one.
    let threads = settings.threads.saturating_add(1);
    let buckets = Arc::new(ThreadBuckets::new(&redis, &shared, threads, context));
    Backend {
        view,
        new_store: move || {
            let store = buckets.next();
            let store = RememberedDenials::new(store, Arc::clone(&denials));
            Ok(Fallback::new(store, standby.clone()))
        },
        background: Box::pin(background),
        health,
    }
}
