//! What the server tells of its health: NOT_SERVING until rules are in force and while it stops. Where that is
//! asked for, also while Redis does not answer.

use std::convert::Infallible;
use std::future::pending;

use futures_util::future::select_all;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::store::breaker::{Breaker, BreakerState};

/// The names that health is told under: the whole server, and the one that envoyproxy/ratelimit uses.
const NAMES: [&str; 2] = ["", "ratelimit"];

/// The health of a server. Clones tell of the same one.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    causes: watch::Sender<Causes>,
}

/// What must be so for the server to be healthy.
#[derive(Debug, Clone, Copy)]
struct Causes {
    rules_are_in_force: bool,
    store_answers: bool,
    is_stopping: bool,
}

impl Causes {
    fn are_good(self) -> bool {
        self.rules_are_in_force && self.store_answers && !self.is_stopping
    }
}

impl Health {
    /// Not yet healthy, as this reporter is to tell.
    pub async fn new(reporter: HealthReporter) -> Self {
        let causes = Causes {
            rules_are_in_force: false,
            store_answers: true,
            is_stopping: false,
        };
        let health = Self {
            reporter,
            causes: watch::Sender::new(causes),
        };
        health.tell().await;
        health
    }

    /// Whether the server is healthy.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.causes.borrow().are_good()
    }

    /// There are rules to decide by.
    pub(super) async fn rules_are_in_force(&self) {
        self.change(|causes| causes.rules_are_in_force = true).await;
    }

    /// The server is about to stop.
    pub(super) async fn is_stopping(&self) {
        self.change(|causes| causes.is_stopping = true).await;
    }

    /// From now on, the server is healthy only while these breakers are closed.
    pub(super) async fn follow(&self, breakers: Vec<Breaker>) -> Infallible {
        if breakers.is_empty() {
            return pending().await;
        }
        let mut states: Vec<_> = breakers.iter().map(Breaker::watch).collect();
        loop {
            let mut are_closed = true;
            for state in &mut states {
                are_closed &= *state.borrow_and_update() == BreakerState::Closed;
            }
            self.change(|causes| causes.store_answers = are_closed)
                .await;
            let changes = states.iter_mut().map(|state| Box::pin(state.changed()));
            // An error would say that a breaker is gone, but these are held here.
            let _ = select_all(changes).await;
        }
    }

    /// Ends the streams on which health is watched, once they have told what there is to tell: left open,
    /// each would keep its connection, and so the server, until the end of the grace period.
    pub(super) async fn end_watching(&mut self) {
        for name in NAMES {
            self.reporter.clear_service_status(name).await;
        }
    }

    async fn change(&self, change: impl FnOnce(&mut Causes)) {
        let was_good = self.is_good();
        self.causes.send_modify(change);
        if self.is_good() != was_good {
            self.tell().await;
        }
    }

    async fn tell(&self) {
        let status = match self.is_good() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for name in NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
