//! `ratekeeper serve`: from options to [`Settings`], then run until told to stop.

mod failure;
mod log;
mod options;
mod redis;
mod source;
mod telemetry;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Outcome;
use super::options::Configuration;
use crate::app::{self, Listeners, Settings};
use crate::limiter::{Bounds, LimiterSettings};

use failure::FailureOptions;
use log::Log;
use options::{BoundOptions, Listen, NotYet, Store, VerdictOptions};
use redis::RedisOptions;
use source::SourceOptions;
use telemetry::{MetricOptions, TraceOptions};

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    configuration: Configuration,
    #[command(flatten)]
    source: SourceOptions,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    redis: RedisOptions,
    #[command(flatten)]
    failure: FailureOptions,
    #[command(flatten)]
    verdict: VerdictOptions,
    #[command(flatten)]
    bounds: BoundOptions,
    #[command(flatten)]
    metrics: MetricOptions,
    #[command(flatten)]
    traces: TraceOptions,
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    not_yet: NotYet,
}

/// Serves until a signal says to stop.
pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    args.log.start();
    // As in URLs, an IPv6 address may be in brackets.
    let host = args.listen.grpc_host.trim_matches(['[', ']']).to_owned();
    let port = args.listen.grpc_port;
    let prometheus = args.metrics.prometheus().map(str::to_owned);
    args.metrics.say_what_has_no_effect();
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("{error:#}");
            return Ok(Outcome::Usage { of_hit: false });
        }
    };
    redis::tell();
    // Requests are served by threads of their own, with runtimes of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let (first, second) = signals()?;
        let mut listeners = Listeners::bind((host.as_str(), port))
            .await
            .with_context(|| format!("cannot listen on GRPC_HOST {host}, GRPC_PORT {port}"))?;
        if let Some(address) = prometheus {
            let listener = telemetry::listen(&address).await;
            listeners.prometheus = Some(
                listener.with_context(|| format!("cannot listen on PROMETHEUS_ADDR {address}"))?,
            );
        }
        app::run(settings, listeners, first, second).await
    });
    // A name that is being resolved, or a file that is being read, does not hold up the end.
    runtime.shutdown_background();
    ended?;
    Ok(Outcome::Done)
}

/// The variables of envoyproxy/ratelimit that have no effect here, and why; the log names them at the start.
pub(super) fn without_effect() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    redis::WITHOUT_EFFECT.iter()
}

/// What the first and the second signal to stop make ready.
fn signals() -> anyhow::Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (count, seen) = watch::channel(0_u32);
    // Ends with the runtime; there is nothing that it could fail at.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    let at_least = |mut seen: watch::Receiver<u32>, signals: u32| async move {
        let _ = seen.wait_for(|count| *count >= signals).await;
    };
    Ok((at_least(seen.clone(), 1), at_least(seen, 2)))
}

impl Args {
    fn settings(&self) -> anyhow::Result<Settings> {
        self.not_yet.check()?;
        let load = self.configuration.load_options();
        Ok(Settings {
            origin: self.source.origin(&self.configuration)?,
            load,
            store: self.store.settings(&self.redis)?,
            failure: self.failure.settings(self.store.max_buckets()),
            limiter: LimiterSettings {
                keys: self.store.keys.format(self.redis.redis_types())?,
                bounds: Bounds {
                    descriptors: self.bounds.max_descriptors,
                    entries: self.bounds.max_descriptor_entries,
                    bytes: self.bounds.max_request_bytes,
                },
                default_algorithm: load.default_algorithm,
                shadow_mode: self.verdict.shadow_mode,
                quota_mode: self.verdict.quota_mode,
            },
            response: self.verdict.response(),
            telemetry: self.metrics.settings(&self.traces)?,
            threads: self.listen.threads(),
            grace: self.listen.shutdown_grace_period,
        })
    }
}
