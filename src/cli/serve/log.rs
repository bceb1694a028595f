//! Options for logs, and the log's setup.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::telemetry::logs::JsonLines;

/// Modules that log start, reload, stop, changes through the admin API, and changes of how rules are charged.
const LIFECYCLE: [&str; 5] = [
    "ratekeeper::app",
    "ratekeeper::limiter",
    "ratekeeper::service::http::admin",
    "ratekeeper::source",
    "ratekeeper::tls",
];

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
pub(super) struct Log {
    /// Minimum level of log lines; at warn, start, reload, stop and changes through the admin API are logged as
    /// well
    #[arg(
        long,
        env = "LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "warn",
        ignore_case = true
    )]
    log_level: LogLevel,

    /// Format of log lines: text or json; any other value means text
    #[arg(
        long,
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: String,
}

/// Log levels of envoyproxy/ratelimit.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogLevel {
    Trace,
    Debug,
    Info,
    #[value(alias = "warning")]
    Warn,
    #[value(alias = "fatal", alias = "panic")]
    Error,
}

impl Log {
    pub(super) fn start(&self) {
        let level = match self.log_level {
            LogLevel::Trace => LevelFilter::TRACE,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        };
        // Start, reload and stop are logged at the default level as well.
        let lifecycle = if level == LevelFilter::WARN {
            LevelFilter::INFO
        } else {
            level
        };
        // Libraries log every frame at the lower levels, so only our own modules follow LOG_LEVEL there.
        let targets = Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            .with_target(env!("CARGO_PKG_NAME"), level)
            // It warns about each deleted file, but files are replaced by deletion.
            .with_target("notify", level.min(LevelFilter::ERROR))
            // It warns about each client that resets too many calls, without its address.
            .with_target("h2", level.min(LevelFilter::ERROR))
            // It logs every failed export, which `telemetry` logs once.
            .with_target("opentelemetry", LevelFilter::OFF)
            .with_targets(LIFECYCLE.map(|target| (target, lifecycle)));
        let log = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        let registry = tracing_subscriber::registry();
        if self.log_format.eq_ignore_ascii_case("json") {
            let json = log.event_format(JsonLines);
            return registry.with(json.with_filter(targets)).init();
        }
        registry.with(log.with_filter(targets)).init();
        // Like envoyproxy/ratelimit, any other value means text.
        if !self.log_format.eq_ignore_ascii_case("text") {
            let format = &self.log_format;
            tracing::warn!("LOG_FORMAT={format} is neither text nor json: logging text");
        }
    }
}
