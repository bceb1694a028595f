//! A counter that others count: its value is asked for when it is told.

use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc, Describer as _};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Opts, Result};

use super::families::{family, value_of_counter};

/// The counter.
#[derive(Clone)]
pub(super) struct Pulled {
    description: Desc,
    value: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

impl Pulled {
    pub(super) fn new(
        options: &Opts,
        value: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Self {
            description: options.describe()?,
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
        let mut metric = Metric::from_label(labels);
        metric.set_counter(value_of_counter((self.value)()));
        let metric = std::iter::once(metric);
        vec![family(fq_name, help, MetricType::COUNTER, metric)]
    }
}
