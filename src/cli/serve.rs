//! `ratekeeper serve`: turns options into [`Settings`], then runs the server until a signal stops it.

mod admin;
mod environment;
mod failure;
mod listen;
mod log;
mod open_files;
mod options;
mod record;
mod redis;
mod source;
mod telemetry;
mod tls;

use anyhow::Context as _;
use clap::Args as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::mistakes::Mistakes;
use super::options::Configuration;
use super::{Outcome, print_mistakes};
use crate::app::{self, Listeners, PortSettings, Settings, ShutdownSettings};
use crate::limiter::{Bounds, LimiterSettings};

use admin::AdminOptions;
use failure::FailureOptions;
use listen::{ConnectionOptions, Listen};
use log::Log;
use open_files::{HTTP_CONNECTIONS, share_open_files};
use options::{BoundOptions, Store, VerdictOptions};
use record::RecordOptions;
use redis::RedisOptions;
use source::SourceOptions;
use telemetry::{MetricOptions, TraceOptions};
use tls::TlsOptions;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    configuration: Configuration,
    #[command(flatten)]
    source: SourceOptions,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    connections: ConnectionOptions,
    #[command(flatten)]
    tls: TlsOptions,
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
    admin: AdminOptions,
    #[command(flatten)]
    record: RecordOptions,
    #[command(flatten)]
    log: Log,
}

/// Runs the server until a signal stops it. Ignored arguments are logged.
pub(super) fn run(
    args: Args,
    mut mistakes: Mistakes,
    ignored: &[String],
) -> anyhow::Result<Outcome> {
    let (reread, asked) = watch::channel(());
    environment::check(args.names_a_store(), &mut mistakes);
    let settings = args.settings(asked, &mut mistakes);
    args.tls.check_files(&mut mistakes);
    args.store.check_files(&args.redis, &mut mistakes);
    let Some(mut settings) = settings.filter(|_| mistakes.is_empty()) else {
        return print_mistakes(&mistakes, false);
    };
    args.log.start();
    for argument in ignored {
        tracing::warn!("argument {argument} is ignored: it is not an option of the server");
    }
    args.metrics.log_without_effect();
    args.traces.log_without_effect();
    args.redis.log_without_effect();
    args.tls.warn_about_clients();
    environment::log_without_effect(&args.tls.unused(), &variables());
    share_open_files(&mut settings.ports);
    // Requests are served by worker threads with their own runtimes.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let (first, second) = signals(reread)?;
        let mut listeners = Listeners::bind(&args.listen.addresses()).await?;
        if let Some(address) = args.metrics.prometheus() {
            let listener = telemetry::listen(address).await;
            listeners.prometheus = Some(
                listener.with_context(|| format!("cannot listen on PROMETHEUS_ADDR {address}"))?,
            );
        }
        app::run(settings, listeners, first, second).await
    });
    // Pending name lookups and file reads must not delay the exit.
    runtime.shutdown_background();
    ended?;
    Ok(Outcome::Done)
}

/// The options of the server as a command.
#[cfg(feature = "tools")]
pub(super) fn command() -> clap::Command {
    Args::augment_args(clap::Command::new("serve"))
}

/// Finds options that are valid alone but contradict each other, without reading files.
#[cfg(feature = "tools")]
pub(super) fn contradictions(matches: &clap::ArgMatches) -> Vec<String> {
    let Ok(args) = <Args as clap::FromArgMatches>::from_arg_matches(matches) else {
        return Vec::new();
    };
    let mut mistakes = Mistakes::default();
    args.settings(watch::channel(()).1, &mut mistakes);
    mistakes.into_sentences()
}

/// The variables of all options.
fn variables() -> Vec<String> {
    let command = Args::augment_args(clap::Command::new("serve"));
    let variables = command.get_arguments().filter_map(clap::Arg::get_env);
    variables
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// Futures that complete at the first and at the second signal to stop. SIGHUP requests a reload of all files.
fn signals(
    reread: watch::Sender<()>,
) -> anyhow::Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (count, seen) = watch::channel(0_u32);
    // The task ends with the runtime, and cannot fail.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hang_up.recv() => {
                    reread.send_replace(());
                    continue;
                }
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
    fn names_a_store(&self) -> bool {
        self.store.is_chosen() || self.redis.is_named()
    }

    /// The settings, or `None` if options are invalid. All errors are added to `mistakes`.
    fn settings(&self, reread: watch::Receiver<()>, mistakes: &mut Mistakes) -> Option<Settings> {
        let load = self.configuration.load_options();
        let origin = self.source.origin(&self.configuration, mistakes);
        let store = self.store.settings(&self.redis, mistakes);
        let keys = mistakes.take(self.store.keys.format(self.redis.redis_types()));
        let telemetry = self.metrics.settings(&self.traces, mistakes);
        let tls = self.tls.settings(mistakes);
        let admin_token = self.admin.token(mistakes);
        let recording = mistakes.take(self.record.settings());
        Some(Settings {
            origin: origin?,
            load,
            store: store?,
            failure: self.failure.settings(self.store.max_buckets()),
            limiter: LimiterSettings {
                keys: keys?,
                bounds: Bounds {
                    descriptors: self.bounds.max_descriptors,
                    entries: self.bounds.max_descriptor_entries,
                    bytes: self.bounds.max_request_bytes,
                },
                default_algorithm: load.default_algorithm,
                default_hits: load.default_hits,
                shadow_mode: self.verdict.shadow_mode,
                quota_mode: self.verdict.quota_mode,
            },
            response: self.verdict.response(&self.bounds),
            telemetry: telemetry?,
            recording: recording?,
            threads: self.listen.threads(),
            shutdown: ShutdownSettings {
                delay: self.listen.shutdown_delay,
                grace: self.listen.shutdown_grace_period,
            },
            ports: PortSettings {
                connections: self.connections.settings(),
                tls,
                http_connections: HTTP_CONNECTIONS,
                health: self.listen.health(),
                admin_token,
                top_size: self.admin.top_size,
                reread,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::ratelimit_variables::{Effect, VARIABLES};
    use super::variables;

    #[test]
    fn variables_of_ratelimit_with_an_effect_are_options() {
        let options: BTreeSet<_> = variables().into_iter().collect();
        let is_option = |effect: Effect| {
            !matches!(
                effect,
                Effect::None(_) | Effect::Rejected(_) | Effect::Memcached
            )
        };
        for variable in VARIABLES {
            if is_option(variable.effect) {
                assert!(
                    options.contains(variable.name),
                    "{} is no option",
                    variable.name
                );
            }
            if variable.effect.reason_for_none().is_some() {
                assert!(
                    !options.contains(variable.name),
                    "{} is an option",
                    variable.name
                );
            }
        }
    }
}
