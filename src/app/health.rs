//! Health of the server: NOT_SERVING until a configuration is active and during shutdown. Optionally also while Redis
//! is unavailable.

use std::convert::Infallible;
use std::future::pending;

use futures_util::future::select_all;
use tokio::sync::watch;

use crate::service::HealthService;
use crate::store::breaker::Breaker;

/// When the configuration makes the server healthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HealthSettings {
    /// The server is also healthy before the first configuration. Requests are answered with an error then.
    pub without_rules: bool,
    /// The server is healthy only while the configuration has a domain. Takes precedence.
    pub needs_domain: bool,
}

/// The health of a server. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    service: HealthService,
    conditions: watch::Sender<Conditions>,
    settings: HealthSettings,
}

/// Conditions that must all be met for the server to be healthy.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    has_rules: bool,
    is_store_available: bool,
    is_stopping: bool,
}

impl Conditions {
    fn are_good(self) -> bool {
        self.has_rules && self.is_store_available && !self.is_stopping
    }
}

impl Health {
    /// Creates the health of a server without a configuration, which `service` reports.
    pub(crate) fn new(service: HealthService, settings: HealthSettings) -> Self {
        let conditions = Conditions {
            has_rules: settings.without_rules && !settings.needs_domain,
            is_store_available: true,
            is_stopping: false,
        };
        let health = Self {
            service,
            conditions: watch::Sender::new(conditions),
            settings,
        };
        health.report();
        health
    }

    /// Returns whether the server is healthy.
    #[must_use]
    pub(crate) fn is_good(&self) -> bool {
        self.conditions.borrow().are_good()
    }

    /// Sets that a configuration with this number of domains is active.
    pub(super) fn set_rules(&self, domains: usize) {
        let has_rules = domains > 0 || !self.settings.needs_domain;
        self.change(|conditions| conditions.has_rules = has_rules);
    }

    /// Sets that the server is shutting down.
    pub(super) fn set_stopping(&self) {
        self.change(|conditions| conditions.is_stopping = true);
    }

    /// Makes the server unhealthy while one of these breakers is down, which it is not while some requests succeed.
    /// Never returns.
    pub(super) async fn follow(&self, breakers: Vec<Breaker>) -> Infallible {
        if breakers.is_empty() {
            return pending().await;
        }
        let mut stores: Vec<_> = breakers.iter().map(Breaker::watch_condition).collect();
        loop {
            let mut is_available = true;
            for store in &mut stores {
                is_available &= !store.borrow_and_update().is_down;
            }
            self.change(|conditions| conditions.is_store_available = is_available);
            let changes = stores.iter_mut().map(|store| Box::pin(store.changed()));
            // An error would mean that a breaker was dropped, but they are held here.
            let _ = select_all(changes).await;
        }
    }

    /// Ends the streams that watch the health, after they have reported the last change. Open streams would keep their
    /// connections, and thus the server, until the end of the grace period.
    pub(super) fn end_watching(&self) {
        self.service.end_watching();
    }

    fn change(&self, change: impl FnOnce(&mut Conditions)) {
        let was_good = self.is_good();
        self.conditions.send_modify(change);
        if self.is_good() != was_good {
            self.report();
        }
    }

    fn report(&self) {
        self.service.report(self.is_good());
    }
}
