//! What was counted so far, for who sends it elsewhere: under the names that envoyproxy/ratelimit has in statsd.

use super::calls::{self, BOUNDS, Method, Times};
use super::families::BY_RULE;
use super::{Hits, Metrics, Tried};

impl Metrics {
    /// The hits of each rule, by its name.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (String, Hits)> {
        let all = self.series.all().into_iter();
        all.map(|series| (series.name().to_owned(), series.sum()))
    }

    /// What the candidates of each rule would have said, by its name; of rules without one, nothing.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = (String, Tried)> {
        let all = self.series.all().into_iter();
        all.filter_map(|series| Some((series.name().to_owned(), series.tried()?)))
    }

    /// The other counters.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let (rare, configuration) = (&self.rare, &self.configuration);
        let errors = |kind: &str| rare.service_errors.with_label_values(&[kind]).get();
        let mut counters = vec![
            (
                "ratelimit.service.config_load_success".to_owned(),
                configuration.load_success.get(),
            ),
            (
                "ratelimit.service.config_load_error".to_owned(),
                configuration.load_error.get(),
            ),
            (
                "ratelimit.service.global_shadow_mode".to_owned(),
                rare.global_shadow.get(),
            ),
            (
                "ratelimit.service.rate_limit.domain_not_found".to_owned(),
                rare.domain_not_found.get(),
            ),
        ];
        for kind in ["redis_error", "service_error"] {
            let name = format!("ratelimit.service.call.should_rate_limit.{kind}");
            counters.push((name, errors(kind)));
        }
        for (policy, count) in self.fallback_decisions() {
            counters.push((format!("ratekeeper.fallback_decisions.{policy}"), count));
        }
        for (method, times) in self.times() {
            counters.push((
                format!("ratelimit_server.{method}.total_requests"),
                times.count(),
            ));
        }
        counters
    }

    /// How long the calls of each method took.
    pub(crate) fn times(&self) -> impl Iterator<Item = (&'static str, Times)> {
        let methods = Method::ALL.into_iter();
        methods.map(|method| (method.name(), calls::times(&self.shards, method)))
    }
}

impl Hits {
    /// What has come since. Counters that began anew meanwhile count as a whole.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Self {
            within: since(self.within, earlier.within),
            denied: since(self.denied, earlier.denied),
            near: since(self.near, earlier.near),
            over: since(self.over, earlier.over),
            shadow: since(self.shadow, earlier.shadow),
            remembered: since(self.remembered, earlier.remembered),
            given_back: since(self.given_back, earlier.given_back),
            would_deny: since(self.would_deny, earlier.would_deny),
        }
    }

    /// The counts by what the names of metrics end in.
    pub(crate) fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        BY_RULE
            .into_iter()
            .map(|(end, _, value)| (end, value(self)))
    }
}

impl Tried {
    /// What has come since, likewise.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        Self {
            would_admit: since(self.would_admit, earlier.would_admit),
            would_deny: since(self.would_deny, earlier.would_deny),
        }
    }
}

impl Times {
    /// What has come since: milliseconds, in the middle of a bucket, and how many times.
    pub(crate) fn since(&self, earlier: &Self) -> impl Iterator<Item = (f64, u64)> {
        let lower = [0].into_iter().chain(BOUNDS);
        // What is beyond all bounds is at least the last of them.
        let upper = BOUNDS.into_iter().chain(BOUNDS.last().copied());
        let millis = lower
            .zip(upper)
            .map(|(lower, upper)| (f64::from(lower) + f64::from(upper)) / 2e3);
        let counts = self.buckets.iter().zip(earlier.buckets);
        let counts = counts.map(|(now, before)| now.saturating_sub(before));
        millis.zip(counts.collect::<Vec<_>>())
    }
}
