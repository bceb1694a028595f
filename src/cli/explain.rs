//! `ratekeeper explain`: which rule and buckets a descriptor meets, and why not others.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use super::Outcome;
use super::descriptor::Typed;
use super::options::{Configuration, Keys, RedisType};
use crate::limiter::{Descriptor, bucket_keys, candidate_keys};
use crate::rules::{Algorithm, End, Hits, Limit, Limits, Rule, RuleSet};

/// What can be typed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Try:  ratekeeper explain --config envoy/ratelimit.yaml shop client=alice")]
pub(super) struct Args {
    /// The domain
    domain: String,

    /// The descriptor, as key=value,key=value
    descriptor: Typed,

    #[command(flatten)]
    configuration: Configuration,

    #[command(flatten)]
    keys: Keys,

    /// How many servers REDIS_URL names: in a cluster, keys have a hash tag
    #[arg(
        long,
        env = "REDIS_TYPE",
        value_name = "NAME",
        default_value = "single",
        ignore_case = true
    )]
    redis_type: RedisType,
}

/// Prints the way through the tree, the rule, its limits and their buckets.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let files = args.configuration.location().read()?;
    let rules = match RuleSet::load(&files, args.configuration.load_options()) {
        Ok(rules) => rules,
        Err(mistakes) => {
            writeln!(io::stderr(), "{mistakes}")?;
            return Ok(Outcome::Mistakes);
        }
    };
    let Typed(entries) = &args.descriptor;
    let pairs: Vec<_> = entries
        .iter()
        .map(|e| (e.key.as_str(), e.value.as_str()))
        .collect();
    let trace = rules.trace(&args.domain, &pairs);
    let mut text = trace.to_string();
    if let End::Rule { id, .. } = trace.end {
        let descriptor = Descriptor {
            entries: entries.clone(),
            ..Descriptor::default()
        };
        let format = args.keys.format([args.redis_type])?;
        let keys = bucket_keys(&rules, &format, &args.domain, &descriptor);
        let tried = candidate_keys(&rules, &format, &args.domain, &descriptor);
        text += &rule(&rules.rules()[id], keys.iter().map(ToString::to_string));
        text += &candidates(&rules.rules()[id], tried.iter().map(ToString::to_string));
    }
    io::stdout().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

/// The limits of a rule, each with its bucket, and how the rule counts.
fn rule(rule: &Rule, keys: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    match &rule.limits {
        Limits::Unlimited { .. } => {
            text.push_str("unlimited: everything passes, nothing is counted\n")
        }
        Limits::Limited(limits) => {
            for (limit, key) in limits.iter().zip(keys) {
                let _ = writeln!(text, "limit {}\n  bucket {key}", describe(limit));
            }
        }
    }
    if rule.shadow_mode {
        text.push_str("shadow mode: being over is counted, but the request passes\n");
    }
    if rule.quota_mode {
        text.push_str("quota mode: the request is denied only when all its quotas are over\n");
    }
    text
}

/// The limits that are tried beside those of a rule, each with its bucket.
fn candidates(rule: &Rule, keys: impl Iterator<Item = String>) -> String {
    let candidates = rule.candidates.iter().zip(keys);
    candidates
        .map(|(limit, key)| {
            let limit = describe(limit);
            format!("candidate {limit}: only counted, denies nothing\n  bucket {key}\n")
        })
        .collect()
}

fn describe(limit: &Limit) -> String {
    let multiplier = match limit.unit_multiplier {
        1 => String::new(),
        n => format!("{n} "),
    };
    let mut text = format!(
        "{} per {multiplier}{}",
        limit.requests_per_unit,
        limit.unit.name()
    );
    match limit.algorithm {
        Algorithm::FixedWindow => text.push_str(", fixed window"),
        Algorithm::TokenBucket => {
            let _ = write!(text, ", token bucket of {}", limit.burst);
        }
    }
    match limit.hits {
        Hits::Auto => {}
        Hits::Prepaid => text.push_str(", prepaid"),
        Hits::Postpaid => {
            let _ = write!(text, ", postpaid with a debt of at most {}", limit.max_debt);
        }
    }
    if !limit.name.is_empty() {
        let _ = write!(text, ", named {:?}", limit.name);
    }
    if !limit.replaces.is_empty() {
        let _ = write!(text, ", replaces {}", limit.replaces.join(", "));
    }
    text
}
