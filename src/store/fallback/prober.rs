//! Probes a server, closes its breaker when it decides again, and logs outages.
//!
//! There is one prober per server, in a task of its own with connections of its own.

mod outage;

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::Standby;
use crate::key::KeyFormat;
use crate::store::breaker::{Breaker, BreakerState};
use crate::store::{Probe, StoreError};
use outage::{Outage, Subject};

/// The interval between probes while the breaker is closed, if [`ProbeSettings::always`] is set.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// The interval at which full local buckets are dropped while the breaker is closed.
const DROP_EVERY: Duration = Duration::from_secs(10);

/// Settings of the probes of a server.
#[derive(Debug, Clone)]
pub struct ProbeSettings {
    /// Format of the keys of the probed buckets.
    pub keys: KeyFormat,
    /// Maximum time to wait for the answer to a probe.
    pub timeout: Duration,
    /// Whether to probe while the breaker is closed, too, so that an idle server's health is known.
    pub always: bool,
    /// Seed of the random waits between probes. It differs between instances, so that they do not probe in step.
    pub seed: u64,
}

/// Returns the number of requests that the failure policy has decided so far.
type FallbackDecisions = Box<dyn Fn() -> u64 + Send + Sync>;

/// Probes one server.
pub struct Prober<P> {
    probe: P,
    standby: Standby,
    breaker: Breaker,
    settings: ProbeSettings,
    subject: Subject,
    fallback_decisions: FallbackDecisions,
    /// The latest outage.
    outage: Option<Outage>,
    random: Xoshiro256PlusPlus,
}

impl<P: fmt::Debug> fmt::Debug for Prober<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober")
            .field("probe", &self.probe)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<P: Probe> Prober<P> {
    /// Creates a prober for the first breaker of `standby`.
    #[must_use]
    pub fn new(probe: P, standby: Standby, settings: ProbeSettings) -> Self {
        let counted = standby.clone();
        Self {
            breaker: standby.breaker().clone(),
            subject: Subject::Redis,
            fallback_decisions: Box::new(move || counted.decided()),
            outage: None,
            random: Xoshiro256PlusPlus::seed_from_u64(settings.seed),
            probe,
            standby,
            settings,
        }
    }

    /// Sets the breaker that the prober opens and closes.
    #[must_use]
    pub fn watching(self, breaker: Breaker) -> Self {
        Self { breaker, ..self }
    }

    /// Sets the breaker to that of a cluster node. The node is probed as soon as a call to it fails, because while it hangs,
    /// each of its few calls takes until its deadline.
    ///
    /// `fallback_decisions` returns the number of requests for the node that the failure policy has decided.
    /// `is_cluster_error` returns whether an error concerns the whole cluster, so that it is not logged for each node.
    #[must_use]
    pub fn of_node(
        self,
        breaker: Breaker,
        fallback_decisions: impl Fn() -> u64 + Send + Sync + 'static,
        is_cluster_error: fn(&StoreError) -> bool,
    ) -> Self {
        Self {
            subject: Subject::Node { is_cluster_error },
            fallback_decisions: Box::new(fallback_decisions),
            ..self.watching(breaker)
        }
    }

    /// Probes the server until dropped.
    pub async fn run(mut self) -> Infallible {
        if let Err(error) = self.probe().await {
            self.breaker.open(&error);
        }
        loop {
            self.wait_until_open().await;
            self.probe_until_closed().await;
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.settings.timeout;
        self.probe.probe(deadline.into_std()).await
    }

    fn is_node(&self) -> bool {
        matches!(self.subject, Subject::Node { .. })
    }

    // --- While the breaker is closed ---

    /// Completes when the breaker opens.
    async fn wait_until_open(&self) {
        let mut states = self.breaker.watch();
        tokio::select! {
            // It cannot fail: `self` holds the sender.
            _ = states.wait_for(|state| *state != BreakerState::Closed) => {}
            never = self.drop_full_buckets() => match never {},
            never = self.probe_regularly() => match never {},
            never = self.probe_after_failures() => match never {},
            never = self.log_end_of_flapping() => match never {},
        }
    }

    /// Drops full local buckets at intervals. The prober of the whole store does so, those of nodes do not.
    async fn drop_full_buckets(&self) -> Infallible {
        loop {
            sleep(DROP_EVERY).await;
            if !self.is_node() {
                self.standby.0.buckets.drop_full();
            }
        }
    }

    /// Probes at intervals if [`ProbeSettings::always`] is set.
    async fn probe_regularly(&self) -> Infallible {
        loop {
            sleep(PROBE_EVERY).await;
            if !self.settings.always {
                continue;
            }
            match self.probe().await {
                Ok(()) => self.breaker.succeeded(),
                Err(error) => self.breaker.failed(&error),
            }
        }
    }

    /// Probes a node after each failed call.
    async fn probe_after_failures(&self) -> Infallible {
        loop {
            self.breaker.wait_for_failure().await;
            if self.is_node()
                && let Err(error) = self.probe().await
            {
                self.breaker.failed(&error);
            }
        }
    }

    /// Logs the end of a series of outages once the breaker has stayed closed for a while.
    async fn log_end_of_flapping(&self) -> Infallible {
        if let Some(outage) = &self.outage {
            let address = self.address();
            outage
                .log_end_of_flapping(&address, &self.fallback_decisions)
                .await;
        }
        pending().await
    }

    // --- While the breaker is open ---

    /// Probes with increasing waits until the server decides, then closes the breaker.
    async fn probe_until_closed(&mut self) {
        let decisions = (self.fallback_decisions)();
        let mut outage = Outage::begin(self.outage.take(), self.subject, decisions);
        if let Some(error) = self.breaker.last_failure() {
            outage.log_begin(&error, self.standby.0.settings.mode.name());
        }
        let mut wait = outage.first_wait();
        loop {
            sleep(wait.mul_f64(self.random.random_range(0.5..1.0))).await;
            self.breaker.half_open();
            match self.probe().await {
                Ok(()) => break,
                Err(error) => {
                    outage.log_new_cause(&error);
                    self.breaker.open(&error);
                }
            }
            wait = (wait * 2).min(outage.longest_wait());
        }
        self.breaker.close();
        outage.end(&self.address(), (self.fallback_decisions)());
        self.outage = Some(outage);
    }

    /// Returns the address in the latest error.
    fn address(&self) -> String {
        let failure = self.breaker.last_failure();
        failure.map_or_else(String::new, |error| error.address().to_owned())
    }
}
