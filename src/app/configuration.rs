//! Loads configurations: from the offer of a source to the active rules.

use std::convert::Infallible;
use std::sync::Arc;

use super::health::Health;
use super::load_log::{LoadLog, Outcome};
use crate::clock;
use crate::limiter::InForce;
use crate::rules::LoadOptions;
use crate::source::{History, Offer, Rejection, Source};
use crate::telemetry::metrics::Metrics;

/// The active rules, and what records that they change.
pub(super) struct ActiveRules {
    pub(super) in_force: Arc<InForce>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) history: History,
}

impl ActiveRules {
    /// Creates a value without rules.
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            in_force: Arc::default(),
            metrics: Arc::clone(metrics),
            history: History::default(),
        }
    }
}

/// Makes the offers of a source active.
pub(super) struct Loader<'a> {
    rules: &'a ActiveRules,
    health: &'a Health,
    options: LoadOptions,
    log: LoadLog,
}

impl<'a> Loader<'a> {
    pub(super) fn new(rules: &'a ActiveRules, health: &'a Health, options: LoadOptions) -> Self {
        Self {
            rules,
            health,
            options,
            log: LoadLog::default(),
        }
    }

    /// Applies each offer of a source. Never returns.
    pub(super) async fn follow(&mut self, source: &mut Source) -> Infallible {
        loop {
            tokio::select! {
                offer = source.next() => self.apply(source, offer).await,
                () = self.log.due() => self.log.flush(),
            }
        }
    }

    /// Loads an offer, makes its rules active if they are valid, and reports the result to the source.
    pub(super) async fn apply(&mut self, source: &mut Source, offer: Offer) {
        let result = self.load(offer).await;
        source.report(result);
    }

    /// Loads an offer and makes its rules active. If the offer is invalid, the active rules do not change.
    async fn load(&mut self, offer: Offer) -> Result<(), Rejection> {
        let rules = self.rules;
        let version = offer.version();
        let options = self.options;
        // Many rules take a second or more. Connections are accepted during that time.
        let loading = tokio::task::spawn_blocking(move || offer.load(options));
        match loading.await.expect("loading rules does not panic") {
            Ok(loaded) => {
                let outcome = Outcome::loaded(version.clone(), &loaded);
                let (domains, count) = (loaded.domains().count(), loaded.rules().len());
                rules.in_force.install(loaded);
                let now = (clock::system())();
                rules.history.accepted(version, now);
                rules.metrics.configuration_loaded(domains, count, now);
                self.health.set_rules(domains);
                // Logged last: the rules are active now.
                self.log.add(outcome);
                Ok(())
            }
            Err(reason) => {
                rules.metrics.configuration_refused();
                rules
                    .history
                    .rejected(reason.summary(), (clock::system())());
                self.log.add(Outcome::Rejected {
                    reason: reason.clone(),
                    has_active: rules.in_force.snapshot().is_some(),
                });
                Err(reason)
            }
        }
    }
}
