//! The counters of calls and rules, as the `prometheus` crate's types.

use std::collections::BTreeMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::calls::{self, BOUNDS, DecidedBy, Method, Times, Told};
use super::{Hits, Metrics, Tried};

// --- By rule ---

/// A metric by rule: what its name ends in, its help, and its value.
type ByRule = (&'static str, &'static str, fn(&Hits) -> u64);

/// The ends of the names are those of the reference, in statsd, too.
pub(super) const BY_RULE: [ByRule; 7] = [
    ("near_limit", "Hits near the limit", |hits| hits.near),
    ("over_limit", "Hits beyond the limit", |hits| hits.over),
    (
        "over_limit_with_local_cache",
        "Hits beyond the limit that were denied without asking the store",
        |hits| hits.remembered,
    ),
    (
        "shadow_mode",
        "Hits beyond the limit that the rule's shadow_mode let pass",
        |hits| hits.shadow,
    ),
    ("total_hits", "Hits", Hits::total),
    ("total_negative_hits", "Hits that were given back", |hits| {
        hits.given_back
    }),
    (
        "within_limit",
        "Hits of descriptors that were under their limit",
        |hits| hits.within,
    ),
];

/// Domain and first two parts of a name; `""` for a part that there is not.
type Labels = [String; 3];

/// The metrics by rule, one after the other: with many rules, each of them is large.
pub(super) fn by_rule(metrics: &Metrics) -> impl Iterator<Item = MetricFamily> {
    let mut sums: BTreeMap<Labels, Hits> = BTreeMap::new();
    for series in metrics.series.all() {
        sums.entry(labels(series.name()))
            .or_default()
            .add(&series.sum());
    }
    let families = BY_RULE.into_iter().map(move |(end, help, value)| {
        let name = format!("ratelimit_service_rate_limit_{end}");
        let of_rule = |(labels, hits): (&Labels, &Hits)| {
            let [domain, key1, key2] = labels;
            let labels = [("domain", domain), ("key1", key1), ("key2", key2)];
            counter(
                labels.map(|(name, value)| (name, value.as_str())),
                value(hits),
            )
        };
        family(&name, help, MetricType::COUNTER, sums.iter().map(of_rule))
    });
    families
        .chain([of_candidates(metrics)])
        .filter(|family| !family.get_metric().is_empty())
}

/// What the candidates of rules would have said; of rules without one, nothing.
fn of_candidates(metrics: &Metrics) -> MetricFamily {
    let mut sums: BTreeMap<Labels, Tried> = BTreeMap::new();
    for series in metrics.series.all() {
        if let Some(tried) = series.tried() {
            let sum = sums.entry(labels(series.name())).or_default();
            sum.would_admit += tried.would_admit;
            sum.would_deny += tried.would_deny;
        }
    }
    let of_rule = |(labels, tried): (&Labels, &Tried)| {
        let [domain, key1, key2] = labels;
        let outcomes = [
            ("would_admit", tried.would_admit),
            ("would_deny", tried.would_deny),
        ];
        let labels = [("domain", domain), ("key1", key1), ("key2", key2)];
        let [domain, key1, key2] = labels.map(|(name, value)| (name, value.as_str()));
        outcomes.map(|(outcome, hits)| counter([domain, key1, key2, ("outcome", outcome)], hits))
    };
    family(
        "ratekeeper_candidate_hits_total",
        "Hits by what the candidates of the rule would have said",
        MetricType::COUNTER,
        sums.iter().flat_map(of_rule),
    )
}

fn labels(name: &str) -> Labels {
    let mut parts = name.split('.').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

impl Hits {
    fn add(&mut self, other: &Self) {
        self.within += other.within;
        self.denied += other.denied;
        self.near += other.near;
        self.over += other.over;
        self.shadow += other.shadow;
        self.remembered += other.remembered;
        self.given_back += other.given_back;
        self.would_deny += other.would_deny;
    }
}

// --- Of calls ---

/// The metrics of calls and decisions.
pub(super) fn of_calls(metrics: &Metrics) -> Vec<MetricFamily> {
    let methods = Method::ALL.map(|method| (method, calls::times(&metrics.shards, method)));
    let of_method = |method: Method| ("grpc_method", method.name());
    let total = methods
        .iter()
        .map(|(method, times)| counter([of_method(*method)], times.count()));
    let milliseconds = metrics.settings.milliseconds;
    let times = methods.iter().map(|(method, times)| {
        let mut metric = Metric::from_label(pairs([of_method(*method)]));
        metric.set_histogram(histogram(times, if milliseconds { 1e3 } else { 1e6 }));
        metric
    });
    let decisions = Told::ALL.into_iter().flat_map(|told| {
        DecidedBy::ALL.into_iter().map(move |by| {
            let count = calls::decisions(&metrics.shards, told, by);
            counter([("cause", by.name()), ("verdict", told.name())], count)
        })
    });
    let fallback = metrics.fallback_decisions().into_iter();
    let fallback = fallback.map(|(policy, count)| counter([("policy", policy)], count));
    vec![
        family(
            "ratelimit_service_total_requests",
            "Calls that were answered",
            MetricType::COUNTER,
            total,
        ),
        family(
            "ratelimit_service_response_time_seconds",
            "How long calls took",
            MetricType::HISTOGRAM,
            times,
        ),
        family(
            "ratekeeper_decisions_total",
            "Requests with a verdict, and what decided",
            MetricType::COUNTER,
            decisions,
        ),
        family(
            "ratekeeper_fallback_decisions_total",
            "Requests that Redis did not decide, by the failure policy that was applied",
            MetricType::COUNTER,
            fallback,
        ),
    ]
}

/// A histogram in a unit of which so many microseconds are one.
fn histogram(times: &Times, unit: f64) -> Histogram {
    let mut cumulative = 0;
    let buckets = BOUNDS.iter().zip(&times.buckets).map(|(&bound, &count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(f64::from(bound) / unit);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(times.count());
    histogram.set_sample_sum(number(times.nanos) / 1e3 / unit);
    histogram
}

// --- Making families ---

pub(super) fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    metrics: impl Iterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.collect());
    family
}

/// A counter. A label without a value is one that is not there.
fn counter<const N: usize>(labels: [(&str, &str); N], value: u64) -> Metric {
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_counter(value_of_counter(value));
    metric
}

pub(super) fn value_of_counter(value: u64) -> Counter {
    let mut counter = Counter::default();
    counter.set_value(number(value));
    counter
}

pub(super) fn value_of_gauge(value: u64) -> Gauge {
    let mut gauge = Gauge::default();
    gauge.set_value(number(value));
    gauge
}

fn pairs<const N: usize>(labels: [(&str, &str); N]) -> Vec<LabelPair> {
    let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
    labels
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        })
        .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has no other numbers"
)]
fn number(count: u64) -> f64 {
    count as f64
}
