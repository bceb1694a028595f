//! Counters and gauges that change seldom: of requests that fail or are let pass, and of configurations.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Registry};

use super::{counter, counters, gauge, registered};
use crate::time::Micros;

/// Of requests, and of the metrics themselves.
#[derive(Debug)]
pub(super) struct Rare {
    pub(super) service_errors: IntCounterVec,
    pub(super) global_shadow: IntCounter,
    pub(super) domain_not_found: IntCounter,
    pub(super) bad_requests: IntCounter,
    pub(super) series: IntGauge,
    pub(super) refused: IntCounter,
}

/// Of configurations.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) load_success: IntCounter,
    pub(super) load_error: IntCounter,
    last_load_successful: IntGauge,
    last_success: Gauge,
    domains: IntGauge,
    rules: IntGauge,
}

impl Rare {
    pub(super) fn new(registry: &Registry) -> Self {
        let service_errors = counters(
            registry,
            "ratelimit_service_should_rate_limit_error",
            "Calls that were answered with an error",
            "err_type",
        );
        // Told from the beginning, so that the first one is seen to be one more.
        for kind in ["redis_error", "service_error"] {
            service_errors.with_label_values(&[kind]);
        }
        Self {
            service_errors,
            global_shadow: counter(
                registry,
                "ratelimit_service_global_shadow_mode",
                "Requests that SHADOW_MODE let pass",
            ),
            domain_not_found: counter(
                registry,
                "ratelimit_service_rate_limit_domain_not_found",
                "Descriptors of a domain that no file has",
            ),
            bad_requests: counter(
                registry,
                "ratekeeper_bad_requests_total",
                "Requests that could not be decided and were answered by BAD_REQUEST_MODE",
            ),
            series: gauge(
                registry,
                "ratekeeper_metric_series",
                "Names by rule that are counted apart",
            ),
            refused: counter(
                registry,
                "ratekeeper_metric_series_refused_total",
                "How often a name by rule was refused for want of room",
            ),
        }
    }
}

impl Configuration {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            load_success: counter(
                registry,
                "ratelimit_service_config_load_success",
                "Configurations that were put in force",
            ),
            load_error: counter(
                registry,
                "ratelimit_service_config_load_error",
                "Configurations that were refused",
            ),
            last_load_successful: gauge(
                registry,
                "ratekeeper_config_last_load_successful",
                "1 when the last configuration was put in force, 0 when it was refused",
            ),
            last_success: registered(
                registry,
                Gauge::new(
                    "ratekeeper_config_last_success_timestamp_seconds",
                    "When the configuration in force was loaded; 0 for never",
                ),
            ),
            domains: gauge(registry, "ratekeeper_config_domains", "Domains in force"),
            rules: gauge(registry, "ratekeeper_config_rules", "Rules in force"),
        }
    }

    pub(super) fn loaded(&self, domains: usize, rules: usize, now: Micros) {
        self.load_success.inc();
        self.last_load_successful.set(1);
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds are kept, which is plenty"
        )]
        self.last_success.set((now / 1_000) as f64 / 1e3);
        self.domains.set(i64::try_from(domains).unwrap_or(i64::MAX));
        self.rules.set(i64::try_from(rules).unwrap_or(i64::MAX));
    }

    pub(super) fn refused(&self) {
        self.load_error.inc();
        self.last_load_successful.set(0);
    }
}
