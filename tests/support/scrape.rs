//! What the server tells Prometheus.

use std::net::SocketAddr;

use super::{PATIENCE, Ratekeeper};

/// All metrics at a moment.
#[derive(Debug)]
pub struct Scrape(String);

impl Scrape {
    /// The metrics of a server that was started with `PROMETHEUS_ADDR=127.0.0.1:0`.
    ///
    /// # Panics
    /// When it does not tell them.
    pub fn of(server: &Ratekeeper) -> Self {
        let url = format!("http://{}/metrics", Self::address(server));
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut answer = agent.get(url).call().unwrap();
        let body = answer.body_mut().with_config().limit(1 << 28);
        Self(body.read_to_string().unwrap())
    }

    /// Where a server tells its metrics.
    ///
    /// # Panics
    /// When it has not said so.
    pub fn address(server: &Ratekeeper) -> SocketAddr {
        let line = server
            .log()
            .lines()
            .find(|line| line.contains("telling metrics to Prometheus"));
        let (_, address) = line.unwrap().split_once("addr=").unwrap();
        address.split(' ').next().unwrap().parse().unwrap()
    }

    /// The environment variables that have a server tell metrics.
    pub fn environment() -> [(&'static str, &'static str); 2] {
        [
            ("USE_PROMETHEUS", "true"),
            ("PROMETHEUS_ADDR", "127.0.0.1:0"),
        ]
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The value of a series, written as in the text; 0 when it is not there.
    pub fn value(&self, series: &str) -> f64 {
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value).unwrap_or_default()
    }

    /// How many series a metric has.
    pub fn series(&self, metric: &str) -> usize {
        let of_metric = |line: &&str| {
            line.strip_prefix(metric)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        self.0.lines().filter(of_metric).count()
    }
}
