//! What the server tells of its health: NOT_SERVING until rules are in force and while it stops. Where that is
//! asked for, also while Redis does not answer.

use std::convert::Infallible;
use std::future::pending;

use futures_util::future::select_all;
use tokio::sync::watch;

use crate::service::HealthService;
use crate::store::breaker::Breaker;

/// When a server is healthy, as far as its rules go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HealthSettings {
    /// Before there are any rules, too: requests get an error then, which callers are prepared for.
    pub without_rules: bool,
    /// Only while the rules have a domain, whatever else is said.
    pub needs_domain: bool,
}

/// The health of a server. Clones tell of the same one.
#[derive(Debug, Clone)]
pub struct Health {
    service: HealthService,
    causes: watch::Sender<Causes>,
    settings: HealthSettings,
}

/// What must be so for the server to be healthy.
#[derive(Debug, Clone, Copy)]
struct Causes {
    rules_suffice: bool,
    store_answers: bool,
    is_stopping: bool,
}

impl Causes {
    fn are_good(self) -> bool {
        self.rules_suffice && self.store_answers && !self.is_stopping
    }
}

impl Health {
    /// Without rules yet, reported by this service.
    pub fn new(service: HealthService, settings: HealthSettings) -> Self {
        let causes = Causes {
            rules_suffice: settings.without_rules && !settings.needs_domain,
            store_answers: true,
            is_stopping: false,
        };
        let health = Self {
            service,
            causes: watch::Sender::new(causes),
            settings,
        };
        health.tell();
        health
    }

    /// Whether the server is healthy.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.causes.borrow().are_good()
    }

    /// There are rules to decide by, with so many domains.
    pub(super) fn rules_are_in_force(&self, domains: usize) {
        let suffice = domains > 0 || !self.settings.needs_domain;
        self.change(|causes| causes.rules_suffice = suffice);
    }

    /// The server is about to stop.
    pub(super) fn is_stopping(&self) {
        self.change(|causes| causes.is_stopping = true);
    }

    /// From now on, the server is healthy only while none of these stores is down. One that decides some requests
    /// is not.
    pub(super) async fn follow(&self, breakers: Vec<Breaker>) -> Infallible {
        if breakers.is_empty() {
            return pending().await;
        }
        let mut stores: Vec<_> = breakers.iter().map(Breaker::watch_condition).collect();
        loop {
            let mut answers = true;
            for store in &mut stores {
                answers &= !store.borrow_and_update().is_down;
            }
            self.change(|causes| causes.store_answers = answers);
            let changes = stores.iter_mut().map(|store| Box::pin(store.changed()));
            // An error would say that a breaker is gone, but these are held here.
            let _ = select_all(changes).await;
        }
    }

    /// Ends the streams on which health is watched, once they have told what there is to tell: left open,
    /// each would keep its connection, and so the server, until the end of the grace period.
    pub(super) fn end_watching(&self) {
        self.service.end_watching();
    }

    fn change(&self, change: impl FnOnce(&mut Causes)) {
        let was_good = self.is_good();
        self.causes.send_modify(change);
        if self.is_good() != was_good {
            self.tell();
        }
    }

    fn tell(&self) {
        self.service.report(self.is_good());
    }
}
