//! `ratekeeper explain`: shows which rule and buckets apply to a descriptor, and why others do not.

use std::io::Write as _;

use super::Outcome;
use super::options::{Configuration, Keys, RedisType};
use super::output::{stderr, stdout};
use crate::limiter::{Typed, explain};
use crate::rules::RuleSet;
use crate::source;

/// Options of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Try:  ratekeeper explain --config envoy/ratelimit.yaml shop client=alice")]
pub(super) struct Args {
    /// Domain of the request
    domain: String,

    /// Descriptor, as key=value,key=value
    descriptor: Typed,

    #[command(flatten)]
    configuration: Configuration,

    #[command(flatten)]
    keys: Keys,

    /// Topology of the server's Redis; in a cluster, bucket keys have a hash tag
    #[arg(
        long,
        env = "REDIS_TYPE",
        value_name = "NAME",
        default_value = "single",
        ignore_case = true
    )]
    redis_type: RedisType,
}

/// Prints the path through the rules, the matching rule, its limits and their buckets.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let files = source::read(&args.configuration.location())?;
    let rules = match RuleSet::load(&files, args.configuration.load_options()) {
        Ok(rules) => rules,
        Err(mistakes) => {
            writeln!(stderr(), "{mistakes}")?;
            return Ok(Outcome::Mistakes);
        }
    };
    let Typed(entries) = &args.descriptor;
    let keys = args.keys.format([args.redis_type])?;
    let text = explain(&rules, &keys, &args.domain, entries).to_string();
    stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}
