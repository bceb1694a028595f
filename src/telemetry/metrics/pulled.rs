//! A number that others keep: its value is asked for when it is told.

use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc, Describer as _};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Opts, Result};

use super::families::{family, value_of_counter, value_of_gauge};

/// The number.
#[derive(Clone)]
pub(super) struct Pulled {
    description: Desc,
    kind: MetricType,
    value: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
}

impl fmt::Debug for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

impl Pulled {
    /// A counter.
    pub(super) fn counter(
        options: &Opts,
        value: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Self {
            description: options.describe()?,
            kind: MetricType::COUNTER,
            value: Arc::new(move || Some(value())),
        })
    }

    /// A gauge, which is not told while it has no value.
    pub(super) fn gauge(
        options: &Opts,
        value: impl Fn() -> Option<u64> + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Self {
            description: options.describe()?,
            kind: MetricType::GAUGE,
            value: Arc::new(value),
        })
    }
}

impl Collector for Pulled {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Desc {
            fq_name,
            help,
            const_label_pairs,
            ..
        } = &self.description;
        let labels: Vec<LabelPair> = const_label_pairs.clone();
        let metric = (self.value)().map(|value| {
            let mut metric = Metric::from_label(labels);
            if self.kind == MetricType::GAUGE {
                metric.set_gauge(value_of_gauge(value));
            } else {
                metric.set_counter(value_of_counter(value));
            }
            metric
        });
        // The registry leaves out a family without metrics.
        vec![family(fq_name, help, self.kind, metric.into_iter())]
    }
}
