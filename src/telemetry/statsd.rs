//! Sends what was counted to a StatsD or DogStatsD daemon, by UDP: every few seconds, what has come since the last
//! time, under the names that envoyproxy/ratelimit sends. A daemon that is not there is not missed; what would have
//! been sent to a name that cannot be resolved is sent once it can.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use cadence::{BufferedUdpMetricSink, MetricSink as _};
use tokio::net::lookup_host;
use tokio::time::{MissedTickBehavior, interval};

use super::Throttle;
use super::metrics::{Hits, Metrics, Times, Tried};
use crate::clock::{self, Clock};
use crate::time::Micros;

/// The most bytes of a datagram: what fits a frame of Ethernet in any case.
const DATAGRAM: usize = 1432;

/// The shortest time between two warnings that the daemon's name cannot be resolved.
const WARN_EVERY: Micros = 60_000_000;

/// Where to send, and how.
#[derive(Debug, Clone)]
pub struct StatsdSettings {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The language.
    pub dialect: Dialect,
    /// Stand with every name.
    pub tags: BTreeMap<String, String>,
    /// How often.
    pub interval: Duration,
}

/// How tags are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// As parts of the name.
    StatsD,
    /// After the value.
    DogStatsD,
}

/// What was sent so far, and where to.
pub(super) struct Sender {
    settings: StatsdSettings,
    metrics: Arc<Metrics>,
    clock: Clock,
    daemon: Option<(SocketAddr, BufferedUdpMetricSink)>,
    sent: Sent,
    warning: Throttle,
}

/// The sums that were sent.
#[derive(Debug, Default)]
struct Sent {
    rules: HashMap<String, Hits>,
    candidates: HashMap<String, Tried>,
    counters: HashMap<String, u64>,
    times: HashMap<&'static str, Times>,
}

impl Sender {
    pub(super) fn new(settings: StatsdSettings, metrics: Arc<Metrics>) -> Self {
        Self {
            settings,
            metrics,
            clock: clock::system(),
            daemon: None,
            sent: Sent::default(),
            warning: Throttle::every(WARN_EVERY),
        }
    }

    /// Sends, again and again.
    pub(super) async fn run(&mut self) {
        let mut ticks = interval(self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is at once; nothing has been counted yet.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.flush().await;
        }
    }

    /// Sends what has come since the last time.
    pub(super) async fn flush(&mut self) {
        if let Err(error) = self.resolve().await {
            if self.warning.passes((self.clock)()) {
                let StatsdSettings { host, port, .. } = &self.settings;
                tracing::warn!(%error, "metrics cannot be sent to STATSD_HOST {host}, STATSD_PORT {port}");
            }
            // A daemon that moved is found again; until then, it may still be where it was.
            if self.daemon.is_none() {
                return;
            }
        }
        let lines = self.lines();
        let Some((_, daemon)) = &self.daemon else {
            return;
        };
        let send = || {
            lines
                .iter()
                .try_for_each(|line| daemon.emit(line).map(drop))
        };
        if let Err(error) = send().and_then(|()| daemon.flush()) {
            // Most likely nobody listens there, which is told by the metrics that do not arrive.
            tracing::debug!(%error, "metrics could not be sent to the StatsD daemon");
        }
    }

    async fn resolve(&mut self) -> io::Result<()> {
        let host = (self.settings.host.as_str(), self.settings.port);
        let mut addresses: Vec<_> = lookup_host(host).await?.collect();
        // Daemons that listen on one protocol only listen on this one.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let address = *addresses
            .first()
            .ok_or_else(|| io::Error::other("the name has no address"))?;
        if self
            .daemon
            .as_ref()
            .is_some_and(|(known, _)| *known == address)
        {
            return Ok(());
        }
        let socket = match address {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
        }?;
        socket.set_nonblocking(true)?;
        let sink = BufferedUdpMetricSink::with_capacity(address, socket, DATAGRAM);
        self.daemon = Some((address, sink.map_err(io::Error::other)?));
        Ok(())
    }

    /// The lines that tell what has come since the last time.
    fn lines(&mut self) -> Vec<String> {
        let mut lines = Lines {
            dialect: self.settings.dialect,
            tags: tags(&self.settings),
            lines: Vec::new(),
        };
        let is_tagged = self.settings.dialect == Dialect::DogStatsD;
        let mut rules = HashMap::new();
        for (rule, hits) in self.metrics.rules() {
            let new = hits.since(self.sent.rules.get(&rule).unwrap_or(&Hits::default()));
            let tags = is_tagged.then(|| rule_tags(&rule));
            for (end, count) in new.by_name() {
                lines.count(&format!("ratelimit.service.rate_limit.{rule}.{end}"), count);
                if let Some(tags) = &tags {
                    lines.count_tagged(&format!("ratekeeper.rule.{end}"), tags, count);
                }
            }
            rules.insert(rule, hits);
        }
        // What is no more among the metrics begins anew when it comes again.
        self.sent.rules = rules;
        let mut candidates = HashMap::new();
        for (rule, tried) in self.metrics.candidates() {
            let sent = self.sent.candidates.get(&rule).copied();
            let new = tried.since(&sent.unwrap_or_default());
            let tags = is_tagged.then(|| rule_tags(&rule));
            for (outcome, count) in [
                ("would_admit", new.would_admit),
                ("would_deny", new.would_deny),
            ] {
                let end = format!("candidate_{outcome}");
                lines.count(&format!("ratelimit.service.rate_limit.{rule}.{end}"), count);
                if let Some(tags) = &tags {
                    lines.count_tagged(&format!("ratekeeper.rule.{end}"), tags, count);
                }
            }
            candidates.insert(rule, tried);
        }
        self.sent.candidates = candidates;
        for (name, count) in self.metrics.counters() {
            let sent = self
                .sent
                .counters
                .insert(name.clone(), count)
                .unwrap_or_default();
            lines.count(&name, count.saturating_sub(sent));
        }
        for (method, times) in self.metrics.times() {
            let sent = self.sent.times.insert(method, times).unwrap_or_default();
            for (millis, count) in times.since(&sent) {
                lines.time(
                    &format!("ratelimit_server.{method}.response_time"),
                    millis,
                    count,
                );
            }
        }
        lines.lines
    }
}

/// The tags of a rule in DogStatsD: the labels that it has in Prometheus, and its whole name. A name may show values of
/// requests, so what separates tags and datagrams is replaced.
fn rule_tags(rule: &str) -> String {
    let plain: String = rule
        .chars()
        .map(|c| match c {
            ',' | '|' | '#' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect();
    let mut text = String::new();
    for (key, value) in ["domain", "key1", "key2"].into_iter().zip(plain.split('.')) {
        let _ = write!(text, "{key}:{value},");
    }
    let _ = write!(text, "rule:{plain}");
    text
}

fn tags(settings: &StatsdSettings) -> String {
    let mut text = String::new();
    for (key, value) in &settings.tags {
        let _ = match settings.dialect {
            Dialect::StatsD => write!(text, ".__{key}={value}"),
            Dialect::DogStatsD if text.is_empty() => write!(text, "|#{key}:{value}"),
            Dialect::DogStatsD => write!(text, ",{key}:{value}"),
        };
    }
    text
}

struct Lines {
    dialect: Dialect,
    tags: String,
    lines: Vec<String>,
}

impl Lines {
    fn count(&mut self, name: &str, count: u64) {
        if count > 0 {
            self.line(name, &format!("{count}|c"));
        }
    }

    /// A count with tags of its own. Only DogStatsD has such tags.
    fn count_tagged(&mut self, name: &str, tags: &str, count: u64) {
        if count > 0 {
            let all = &self.tags;
            let separator = if all.is_empty() { "|#" } else { "," };
            self.lines
                .push(format!("{name}:{count}|c{all}{separator}{tags}"));
        }
    }

    /// So many times of about so many milliseconds, as one sample of them.
    fn time(&mut self, name: &str, millis: f64, count: u64) {
        match count {
            0 => {}
            1 => self.line(name, &format!("{millis}|ms")),
            _ => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a rate is about right in any case"
                )]
                let rate = 1.0 / count as f64;
                self.line(name, &format!("{millis}|ms|@{rate}"));
            }
        }
    }

    fn line(&mut self, name: &str, value: &str) {
        let tags = &self.tags;
        self.lines.push(match self.dialect {
            Dialect::StatsD => format!("{name}{tags}:{value}"),
            Dialect::DogStatsD => format!("{name}:{value}{tags}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::telemetry::metrics::{Method, MetricsSettings};

    fn sender(dialect: Dialect) -> Sender {
        let metrics = Arc::new(Metrics::new(MetricsSettings::default(), NonZeroUsize::MIN));
        let tags = [("zone", "b"), ("app", "x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let settings = StatsdSettings {
            host: "localhost".to_owned(),
            port: 8125,
            dialect,
            tags: tags.into(),
            interval: Duration::from_secs(10),
        };
        Sender::new(settings, metrics)
    }

    #[test]
    fn only_what_is_new_is_sent() {
        let mut sender = sender(Dialect::StatsD);
        assert_eq!(sender.lines(), Vec::<String>::new());
        let recorder = sender.metrics.recorder();
        let hits = Hits {
            within: 3,
            ..Hits::default()
        };
        for _ in 0..2 {
            recorder.count(&recorder.series("d.a"), &hits);
            recorder.service_failed();
            let mut lines = sender.lines();
            lines.sort();
            assert_eq!(
                lines,
                [
                    "ratelimit.service.call.should_rate_limit.service_error.__app=x.__zone=b:1|c",
                    "ratelimit.service.rate_limit.d.a.total_hits.__app=x.__zone=b:3|c",
                    "ratelimit.service.rate_limit.d.a.within_limit.__app=x.__zone=b:3|c",
                ]
            );
        }
    }

    #[test]
    fn candidates_are_sent_likewise() {
        let mut sender = sender(Dialect::DogStatsD);
        let recorder = sender.metrics.recorder();
        let tried = Tried {
            would_admit: 0,
            would_deny: 4,
        };
        for _ in 0..2 {
            recorder.count_candidate(&recorder.series("d.a"), &tried);
            let name = "ratelimit.service.rate_limit.d.a.candidate_would_deny";
            let tags = "domain:d,key1:a,rule:d.a";
            assert_eq!(
                sender.lines(),
                [
                    format!("{name}:4|c|#app:x,zone:b"),
                    format!("ratekeeper.rule.candidate_would_deny:4|c|#app:x,zone:b,{tags}"),
                ]
            );
        }
    }

    #[test]
    fn a_rule_is_tags_in_dogstatsd_that_no_value_of_a_request_can_break() {
        let mut sender = sender(Dialect::DogStatsD);
        sender.settings.tags.clear();
        let recorder = sender.metrics.recorder();
        let hits = Hits {
            within: 2,
            ..Hits::default()
        };
        recorder.count(&recorder.series("shop.user_a,b.path_c#d.method"), &hits);
        let lines = sender.lines();
        let tagged = "ratekeeper.rule.within_limit:2|c|#domain:shop,key1:user_a_b,key2:path_c_d,rule:shop.user_a_b.path_c_d.method";
        assert!(lines.iter().any(|line| line == tagged), "{lines:?}");
    }

    #[test]
    fn times_are_sampled_by_their_buckets() {
        let mut sender = sender(Dialect::DogStatsD);
        let recorder = sender.metrics.recorder();
        for micros in [10, 20, 200, 60_000_000] {
            recorder.answered(Method::Check, Duration::from_micros(micros));
        }
        assert_eq!(
            sender.lines(),
            [
                "ratelimit_server.Check.total_requests:4|c|#app:x,zone:b",
                "ratelimit_server.Check.response_time:0.05|ms|@0.5|#app:x,zone:b",
                "ratelimit_server.Check.response_time:0.175|ms|#app:x,zone:b",
                "ratelimit_server.Check.response_time:10000|ms|#app:x,zone:b",
            ]
        );
    }
}
