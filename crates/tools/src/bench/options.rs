//! Options of `bench`, and the load that they describe.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde_json::{Value, json};

use super::call::Caller;
use super::keys::{Keys, Shape};
use super::load::{Extent, Load, Pace};
use super::process::Watched;
use super::requests::{PLACEHOLDER, Shared, Template};
use crate::values::{address, time};
use ratekeeper_core::descriptor::Typed;

/// Defaults of the measured time and of the warm-up.
const DURATION: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(1);

/// Defaults of the measured time and of the warm-up for each step of a ramp.
const STEP_DURATION: Duration = Duration::from_secs(2);
const STEP_WARM_UP: Duration = Duration::from_millis(500);

/// The first rate of a ramp, in calls per second.
const FIRST_RATE: NonZeroU64 = NonZeroU64::new(1000).expect("1000 is not 0");

/// Options of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = super::AFTER_HELP, after_long_help = super::AFTER_LONG_HELP)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pace: PaceOptions,
    #[command(flatten)]
    client: Client,
    /// Process to measure CPU time and memory of, such as server=4711; can be given several times
    #[arg(long = "process", visible_alias = "pid", value_name = "NAME=PID")]
    pub(super) processes: Vec<Watched>,

    /// Print one JSON document instead of text
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
struct Target {
    /// Address of the server's gRPC port, as host:port
    #[arg(long, short, value_name = "ADDRESS", default_value = "localhost:8081", value_parser = address)]
    address: String,

    /// Domain of the requests
    #[arg(long, value_name = "NAME")]
    domain: String,

    /// Descriptor, as key=value,key=value; {} is replaced by the number of the key, padded with zeros to the digits
    /// of the largest
    #[arg(long, value_name = "DESCRIPTOR", default_value = "client={}")]
    descriptor: Typed,

    /// Number of descriptors per request; the key of each is drawn independently
    #[arg(long, value_name = "COUNT", default_value = "1")]
    descriptors: NonZeroUsize,

    /// Number of hits per request; 0 means 1, as in Envoy's protocol
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    hits: u32,

    /// Number of different keys
    #[arg(long, value_name = "COUNT", default_value = "100000")]
    keys: NonZeroU64,

    /// Distribution of the requests over the keys
    #[arg(long, value_name = "NAME", default_value = "uniform")]
    distribution: Shape,

    /// Exponent of the zipf distribution; 0 is uniform, and larger values concentrate the requests on fewer keys
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    zipf_exponent: f64,

    /// Seed of the random numbers; the same seed sends the same keys
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Deadline of each call, sent as grpc-timeout, in whole milliseconds
    #[arg(long, value_name = "DURATION", value_parser = time)]
    deadline: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Pace")]
struct PaceOptions {
    /// Closed loop: number of calls in flight at all times
    #[arg(long, value_name = "COUNT", default_value = "64", conflicts_with_all = ["rate", "ramp"])]
    streams: NonZeroUsize,

    /// Open loop: number of calls per second, on a schedule that slow responses do not delay; latency is measured
    /// from when a call was due. With --ramp: the first rate [default: 1000]
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<NonZeroU64>,

    /// Open loop: maximum number of calls in flight; calls that are due beyond it are counted and not sent
    #[arg(long, value_name = "COUNT", default_value = "10000")]
    max_in_flight: NonZeroUsize,

    /// Find the highest rate that is served without errors and with a p99 latency below --p99, by doubling and then
    /// bisecting the rate of an open loop
    #[arg(long, requires = "p99")]
    ramp: bool,

    /// Latency that 99 % of the calls of a ramp must stay below
    #[arg(long, value_name = "DURATION", value_parser = time, requires = "ramp")]
    p99: Option<Duration>,

    /// Time to measure; with --ramp, for each step [default: 10s; with --ramp: 2s]
    #[arg(long, value_name = "DURATION", value_parser = time)]
    duration: Option<Duration>,

    /// Time to send requests before measuring [default: 1s; with --ramp: 500ms]
    #[arg(long, value_name = "DURATION", value_parser = time)]
    warm_up: Option<Duration>,

    /// Number of requests to send, without a warm-up and however long it takes; ends early when no response arrives
    /// for 3 s plus the deadline
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["duration", "warm_up", "ramp"])]
    requests: Option<NonZeroU64>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Client")]
struct Client {
    /// Number of connections, over all threads
    #[arg(long, value_name = "COUNT", default_value = "4")]
    connections: NonZeroUsize,

    /// Number of threads that send, each on its own connections
    #[arg(long, value_name = "COUNT", default_value = "1")]
    threads: NonZeroUsize,
}

impl Args {
    /// The load; of a ramp, the first step.
    pub(super) fn load(&self) -> anyhow::Result<Load> {
        let Target {
            address,
            descriptor: Typed(entries),
            ..
        } = &self.target;
        let same = !entries
            .iter()
            .any(|e| e.key.contains(PLACEHOLDER) || e.value.contains(PLACEHOLDER));
        anyhow::ensure!(
            !same || self.target.distribution == Shape::One,
            "the descriptor has no {PLACEHOLDER} for the number of the key; add it, or set --distribution one"
        );
        let (threads, connections) = (self.client.threads.get(), self.client.connections.get());
        anyhow::ensure!(
            threads <= connections,
            "{threads} threads need at least {threads} connections, but --connections is {connections}; raise it"
        );
        let pace = self.pace();
        let (Pace::Closed { streams: calls }
        | Pace::Open {
            in_flight: calls, ..
        }) = pace;
        anyhow::ensure!(
            threads <= calls,
            "{threads} threads need at least {threads} calls in flight, but there are {calls}; raise --streams or --max-in-flight"
        );
        let keys = Keys::new(
            self.target.keys.get(),
            self.target.distribution,
            self.target.zipf_exponent,
        )
        .map_err(anyhow::Error::msg)?;
        let shared = Shared {
            domain: &self.target.domain,
            hits: self.target.hits,
            entries,
            descriptors: self.target.descriptors.get(),
        };
        Ok(Load {
            address: address.clone(),
            caller: Caller::new(address, self.target.deadline)?,
            template: Template::new(&shared, keys.largest()),
            keys,
            seed: self.target.seed,
            connections,
            threads,
            pace,
            extent: self.extent()?,
        })
    }

    /// Maximum p99 latency of a ramp, if there is one.
    pub(super) fn ramp(&self) -> Option<Duration> {
        self.pace.p99.filter(|_| self.pace.ramp)
    }

    fn pace(&self) -> Pace {
        let first = self.pace.ramp.then_some(FIRST_RATE);
        match self.pace.rate.or(first) {
            Some(rate) => Pace::Open {
                rate,
                in_flight: self.pace.max_in_flight.get(),
            },
            None => Pace::Closed {
                streams: self.pace.streams.get(),
            },
        }
    }

    fn extent(&self) -> anyhow::Result<Extent> {
        if let Some(requests) = self.pace.requests {
            return Ok(Extent::Requests(requests.get()));
        }
        let (duration, warm_up) = if self.pace.ramp {
            (STEP_DURATION, STEP_WARM_UP)
        } else {
            (DURATION, WARM_UP)
        };
        let duration = self.pace.duration.unwrap_or(duration);
        anyhow::ensure!(
            !duration.is_zero(),
            "--duration=0s: nothing can be measured; write a longer time"
        );
        Ok(Extent::Time {
            warm_up: self.pace.warm_up.unwrap_or(warm_up),
            duration,
        })
    }

    /// The options, for the JSON report.
    pub(super) fn to_json(&self, load: &Load) -> Value {
        let mut json = json!({
            "address": load.address,
            "domain": self.target.domain,
            "connections": load.connections,
            "threads": load.threads,
            "descriptors": self.target.descriptors,
            "hits": self.target.hits,
            "keys": self.target.keys,
            "distribution": self.shape(),
            "seed": load.seed,
        });
        if self.target.distribution == Shape::Zipf {
            json["zipf_exponent"] = self.target.zipf_exponent.into();
        }
        if let Some(deadline) = self.target.deadline {
            json["deadline_us"] = super::report::micros(deadline).into();
        }
        match load.pace {
            Pace::Closed { streams } => json["streams"] = streams.into(),
            Pace::Open { rate, in_flight } => {
                json["rate"] = rate.get().into();
                json["max_in_flight"] = in_flight.into();
            }
        }
        json
    }

    /// The options on one line, for the text report.
    pub(super) fn to_text(&self, load: &Load) -> String {
        let pace = match load.pace {
            Pace::Closed { streams } => format!("closed loop, {streams} calls in flight"),
            Pace::Open { rate, .. } => format!("open loop, {rate} calls per second"),
        };
        let shape = self.shape();
        let Target {
            descriptors, keys, ..
        } = &self.target;
        format!(
            "{}: {pace}, connections: {}, descriptors per request: {descriptors}, keys: {keys} ({shape})",
            load.address, load.connections,
        )
    }

    fn shape(&self) -> &'static str {
        match self.target.distribution {
            Shape::Uniform => "uniform",
            Shape::Zipf => "zipf",
            Shape::One => "one",
        }
    }
}
