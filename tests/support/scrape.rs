//! The metrics that the server exports to Prometheus.

use std::net::SocketAddr;

use super::{Ratekeeper, TIMEOUT};

/// The metrics of one scrape.
#[derive(Debug)]
pub struct Scrape(String);

impl Scrape {
    /// Scrapes a server that was started with the variables of [`environment`](Self::environment).
    ///
    /// # Panics
    /// When the server does not export metrics.
    pub fn of(server: &Ratekeeper) -> Self {
        let url = format!("http://{}/metrics", Self::address(server));
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .build()
            .into();
        let mut answer = agent.get(url).call().unwrap();
        let body = answer.body_mut().with_config().limit(1 << 28);
        Self(body.read_to_string().unwrap())
    }

    /// The address of the server's metrics port.
    ///
    /// # Panics
    /// When the server has not logged the address.
    pub fn address(server: &Ratekeeper) -> SocketAddr {
        let line = server
            .log()
            .lines()
            .find(|line| line.contains("listening protocol=prometheus"));
        let (_, address) = line.unwrap().split_once("addr=").unwrap();
        address.split(' ').next().unwrap().parse().unwrap()
    }

    /// The environment variables that make a server export metrics on a free port.
    pub fn environment() -> [(&'static str, &'static str); 2] {
        [
            ("USE_PROMETHEUS", "true"),
            ("PROMETHEUS_ADDR", "127.0.0.1:0"),
        ]
    }

    /// The text of the scrape.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The value of a series, written as in the text; 0 when the series is missing.
    pub fn value(&self, series: &str) -> f64 {
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value).unwrap_or_default()
    }

    /// The number of series of a metric.
    pub fn series(&self, metric: &str) -> usize {
        let of_metric = |line: &&str| {
            line.strip_prefix(metric)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        self.0.lines().filter(of_metric).count()
    }
}
