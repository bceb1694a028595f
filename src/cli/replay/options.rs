//! Options of `replay`.

use std::path::{Path, PathBuf};

use super::super::options::{Configuration, boolean};
use super::access_log::{self, AccessLog};
use super::input::{BrokenLines, Reading};
use crate::key::KeyFormat;
use crate::limiter::{Bounds, LimiterSettings};
use crate::rules::LoadOptions;
use crate::watch::Location;

const AFTER_HELP: &str = "\
The files are recordings of a server (RECORD_PATH), or have lines such as
  {\"time\":\"2026-11-24T21:00:00Z\",\"domain\":\"shop\",\"descriptors\":[\"client=alice\"]}
or, with --domain and --descriptor, are access logs of Envoy.

Try:  ratekeeper replay --config envoy/ratelimit.yaml requests.jsonl
      ratekeeper replay --config now.yaml --against new.yaml --html report.html requests.jsonl.1 requests.jsonl
      ratekeeper replay --config new.yaml --domain mesh --descriptor 'path={path|no_query}' access.log

Exit code: 0 replayed, 1 failed, 2 wrong options.";

/// Options of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(in super::super) struct Args {
    /// Files of requests; - for standard input
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,

    #[command(flatten)]
    configuration: Configuration,

    /// Second configuration to compare with: a file or a directory
    #[arg(long, value_name = "PATH", help_heading = "Configuration")]
    against: Option<PathBuf>,

    #[command(flatten)]
    verdicts: Verdicts,

    #[command(flatten)]
    log: LogOptions,

    /// Skip and count lines that cannot be read, instead of stopping at the first
    #[arg(long, help_heading = "Lines")]
    skip_broken: bool,

    /// File to write an HTML report with plots to
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(super) html: Option<PathBuf>,

    /// Print JSON
    #[arg(long, help_heading = "Report")]
    pub(super) json: bool,
}

/// Server settings that affect decisions, apart from the rules.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server settings")]
struct Verdicts {
    /// Allow every request, even when a limit is exceeded
    #[arg(long, env = "SHADOW_MODE", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    shadow_mode: bool,

    /// Treat all limits as if their rules had quota_mode: true
    #[arg(long, env = "QUOTA_MODE", value_name = "BOOL", value_parser = boolean,
        default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    quota_mode: bool,

    /// Maximum number of buckets in memory; when it is reached, buckets of the limits with the most buckets are
    /// dropped, and the report counts them
    #[arg(long, env = "MEMORY_MAX_BUCKETS", value_name = "COUNT", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    memory_max_buckets: u64,
}

/// Options for access logs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Lines")]
struct LogOptions {
    /// Domain of the requests, as in Envoy's rate limit filter; the lines are those of an access log
    #[arg(long, value_name = "NAME", requires = "descriptor")]
    domain: Option<String>,

    /// Descriptor made of fields, such as 'client={x_client},path={path|no_query}'; can be given several times
    ///
    /// A line without one of its fields makes no such descriptor. Filters follow a bar: host (an address without
    /// its port), first and last (of a comma-separated list), no_query, lower. {request.headers.x} is a field of a
    /// nested object.
    #[arg(long, value_name = "TEMPLATE", requires = "domain", value_parser = access_log::template)]
    descriptor: Vec<access_log::Template>,

    /// Format of lines that are not JSON: envoy or istio for their defaults, or a format string of Envoy
    #[arg(long, value_name = "FORMAT", requires = "domain", value_parser = access_log::format)]
    log_format: Option<access_log::Format>,

    /// Field with the time; by default, the first that exists of time, start_time, startTime, timestamp,
    /// @timestamp, ts
    #[arg(long, value_name = "FIELD", requires = "domain")]
    time: Option<String>,

    /// Field with the number of hits [default: one hit each]
    #[arg(long, value_name = "FIELD", requires = "domain")]
    hits: Option<String>,
}

impl Args {
    /// Locations of the configurations to replay against.
    pub(super) fn locations(&self) -> Vec<Location> {
        let other = self.against.clone().map(Location::Path);
        [self.configuration.location()]
            .into_iter()
            .chain(other)
            .collect()
    }

    /// Path of the HTML report, if it would overwrite an input file.
    pub(super) fn overwritten(&self) -> Option<&Path> {
        let report = self.html.as_deref()?;
        let found = |path: &Path| path.canonicalize().ok();
        let read = self.locations().into_iter().map(|location| location.top());
        let mut read = read.chain(self.files.iter().cloned());
        let place = found(report)?;
        read.any(|path| found(&path).as_ref() == Some(&place))
            .then_some(report)
    }

    pub(super) fn load_options(&self) -> LoadOptions {
        self.configuration.load_options()
    }

    /// Format of the lines.
    pub(super) fn reading(&self) -> anyhow::Result<Reading> {
        let Some(domain) = &self.log.domain else {
            return Ok(Reading::Recording);
        };
        anyhow::ensure!(
            !domain.is_empty(),
            "--domain is empty; write the domain in the configuration of Envoy's filter"
        );
        Ok(Reading::AccessLog(AccessLog {
            domain: domain.clone(),
            descriptors: self.log.descriptor.clone(),
            hits: self.log.hits.clone(),
            time: self.log.time.clone(),
            format: self.log.log_format.clone(),
        }))
    }

    pub(super) fn broken(&self) -> BrokenLines {
        match self.skip_broken {
            true => BrokenLines::Skip,
            false => BrokenLines::Fail,
        }
    }

    pub(super) fn max_buckets(&self) -> usize {
        usize::try_from(self.verdicts.memory_max_buckets).unwrap_or(usize::MAX)
    }

    /// Settings of the limiter. Requests have no size limit: the server applied it when it recorded them.
    pub(super) fn limiter(&self) -> LimiterSettings {
        LimiterSettings {
            keys: KeyFormat::new(""),
            bounds: Bounds {
                descriptors: usize::MAX,
                entries: usize::MAX,
                bytes: usize::MAX,
            },
            default_algorithm: self.load_options().default_algorithm,
            default_hits: self.load_options().default_hits,
            shadow_mode: self.verdicts.shadow_mode,
            quota_mode: self.verdicts.quota_mode,
        }
    }
}
