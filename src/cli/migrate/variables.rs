//! Findings about variables, and about defaults that differ.

use std::collections::BTreeMap;
use std::error::Error as _;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::super::ratelimit_variables::{self, Effect, MEMCACHED_ADDRESSES};
use super::ServerOptions;
use super::environment::{Environment, Value};
use super::finding::{Finding, Kind};

/// Advice for a deployment with memcached.
const USE_REDIS: &str = "memcached cannot hold a bucket exactly; set REDIS_URL to a Redis of version 5.0 or newer, \
     or BACKEND_TYPE=memory for buckets in the process, and leave this out";

/// The findings about an environment.
pub(super) fn findings(environment: &Environment, server: &ServerOptions) -> Vec<Finding> {
    let options = Options::new(server);
    let mut findings: Vec<_> = environment
        .iter()
        .map(|(name, value)| of_variable(name, value, &options, environment))
        .collect();
    findings.extend(not_set(environment));
    findings.extend(options.contradictions(environment));
    findings
}

fn of_variable(name: &str, value: &Value, options: &Options, environment: &Environment) -> Finding {
    if let Some(finding) = by_value(name, value, environment) {
        return finding;
    }
    if let (Value::Text(text), true) = (value, options.knows(name))
        && let Err(error) = options.accepts(name, text)
    {
        return Finding::new(Kind::ChangeFirst, name, error);
    }
    match ratelimit_variables::effect(name) {
        Some(Effect::Differs(how)) => Finding::new(Kind::Differs, name, how),
        Some(Effect::DiffersWhenOn(how)) if environment.is_on(name) => {
            Finding::new(Kind::Differs, name, how)
        }
        Some(Effect::Same | Effect::DiffersWhenOn(_)) => Finding::new(Kind::Same, name, ""),
        Some(Effect::Accepted(reason) | Effect::None(reason)) => {
            Finding::new(Kind::NoEffect, name, reason)
        }
        Some(Effect::Rejected(instead)) => Finding::new(Kind::ChangeFirst, name, instead),
        Some(Effect::Memcached) => Finding::new(Kind::ChangeFirst, name, USE_REDIS),
        None if options.knows(name) => {
            Finding::new(Kind::Same, name, "an option of ratekeeper alone")
        }
        // The OpenTelemetry libraries read these.
        None if name.starts_with("OTEL_") => Finding::new(Kind::Same, name, ""),
        None => Finding::new(Kind::Unknown, name, ""),
    }
}

/// Findings that depend on the value or on other variables.
fn by_value(name: &str, value: &Value, environment: &Environment) -> Option<Finding> {
    let is =
        |expected: &str| matches!(value, Value::Text(text) if text.eq_ignore_ascii_case(expected));
    let (kind, what) = match name {
        "BACKEND_TYPE" if is("memcache") => (
            Kind::ChangeFirst,
            "memcached cannot hold a bucket exactly; set BACKEND_TYPE=redis and REDIS_URL (Redis 5.0 or newer), or \
             BACKEND_TYPE=memory for buckets in the process",
        ),
        "STATSD_PROTOCOL" if is("udp") => (Kind::Same, ""),
        _ if MEMCACHED_ADDRESSES.contains(&name) && has_other_store(environment) => (
            Kind::NoEffect,
            "another store is configured, and ratekeeper does not use memcached",
        ),
        _ => return None,
    };
    Some(Finding::new(kind, name, what))
}

/// Whether a store other than memcached is configured.
fn has_other_store(environment: &Environment) -> bool {
    let is_named = environment.is_set("REDIS_URL") || environment.is_set("BACKEND_TYPE");
    is_named && !is_memcached(environment)
}

fn is_memcached(environment: &Environment) -> bool {
    let backend = environment.text("BACKEND_TYPE");
    backend.is_some_and(|backend| backend.eq_ignore_ascii_case("memcache"))
}

/// Findings about defaults that differ.
fn not_set(environment: &Environment) -> Vec<Finding> {
    let is_set = |name: &str| environment.is_set(name);
    let mut findings = Vec::new();
    let has_store = ["REDIS_URL", "BACKEND_TYPE"]
        .into_iter()
        .chain(MEMCACHED_ADDRESSES)
        .any(is_set);
    if !has_store {
        findings.push(Finding::new(
            Kind::ChangeFirst,
            "REDIS_URL is not set",
            "envoyproxy/ratelimit uses unix:///var/run/nutcracker/ratelimit.sock; ratekeeper would store buckets in each \
             process. Set REDIS_URL, or BACKEND_TYPE=memory if that is intended",
        ));
    }
    let backend = environment.text("BACKEND_TYPE").unwrap_or("redis");
    let is_redis = backend.eq_ignore_ascii_case("redis");
    if is_redis && !is_set("REDIS_TIMEOUT") {
        findings.push(Finding::new(
            Kind::Differs,
            "REDIS_TIMEOUT is not set",
            "Redis has 100ms for a decision, and at most 80 % of the client's timeout; then STORE_FAILURE_MODE decides. In \
             envoyproxy/ratelimit, a request waits as long as its client",
        ));
    }
    if is_redis && !is_set("STORE_FAILURE_MODE") {
        findings.push(
            Finding::new(
                Kind::Differs,
                "STORE_FAILURE_MODE is not set",
                "while Redis is unavailable, each process decides with its own buckets (local); in envoyproxy/ratelimit, the \
                 request fails, and Envoy's failure_mode_deny decides",
            )
            .with_parity("STORE_FAILURE_MODE", "error"),
        );
    }
    let others = ["DISABLE_STATS", "USE_PROMETHEUS", "USE_DOG_STATSD"];
    if !is_set("USE_STATSD") && !others.iter().any(|name| environment.is_on(name)) {
        findings.push(
            Finding::new(
                Kind::Differs,
                "USE_STATSD is not set",
                "by default, envoyproxy/ratelimit sends StatsD over TCP to localhost:8125; ratekeeper sends it over UDP",
            )
            .with_parity("USE_STATSD", "true"),
        );
    }
    findings
}

// --- The options of the server ---

/// Values to try for a variable whose value is unknown; most options accept one of them.
const UNSEEN: [&str; 3] = ["localhost:6379", "true", "1"];

/// The options of `ratekeeper serve` by their variables.
struct Options {
    command: Command,
    flags: BTreeMap<String, String>,
    contradictions: fn(&ArgMatches) -> Vec<String>,
}

impl Options {
    fn new(server: &ServerOptions) -> Self {
        let mut flags = BTreeMap::new();
        let command = server.command.clone();
        for arg in command.get_arguments() {
            if let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) {
                flags.insert(variable.to_string_lossy().into_owned(), flag.to_owned());
            }
        }
        Self {
            command: command.mut_args(as_variable),
            flags,
            contradictions: server.contradictions,
        }
    }

    fn knows(&self, variable: &str) -> bool {
        self.flags.contains_key(variable)
    }

    /// Findings about values that are valid alone but contradict each other.
    fn contradictions(&self, environment: &Environment) -> Vec<Finding> {
        let mut flags = vec!["serve".to_owned()];
        for (name, value) in environment.iter().filter(|(name, _)| self.knows(name)) {
            let candidates = match value {
                Value::Text(text) => vec![text.as_str()],
                Value::Hidden => UNSEEN.to_vec(),
            };
            let accepts = |text: &&str| self.accepts(name, text).is_ok();
            match candidates.into_iter().find(accepts) {
                Some(text) => flags.push(self.flag(name, text)),
                // This variable has a finding of its own; contradictions cannot be found without it.
                None => return Vec::new(),
            }
        }
        let matches = self.command.clone().try_get_matches_from(flags);
        let Ok(matches) = matches else {
            return Vec::new();
        };
        (self.contradictions)(&matches)
            .into_iter()
            .map(|sentence| Finding::new(Kind::ChangeFirst, "combination of variables", sentence))
            .collect()
    }

    fn flag(&self, variable: &str, value: &str) -> String {
        format!("--{}={value}", self.flags[variable])
    }

    /// Checks whether the option of a variable accepts a value. The error does not repeat the value, which can be a secret.
    fn accepts(&self, variable: &str, value: &str) -> Result<(), String> {
        let flag = self.flag(variable, value);
        let matched = self.command.clone().try_get_matches_from(["serve", &flag]);
        matched.map(drop).map_err(|error| {
            let advice = match (error.source(), error.get(ContextKind::ValidValue)) {
                (Some(why), _) => why.to_string(),
                (None, Some(ContextValue::Strings(values))) => {
                    format!("use one of {}", values.join(", "))
                }
                _ => "see ratekeeper serve --help".to_owned(),
            };
            format!("ratekeeper does not start with this value: {advice}")
        })
    }
}

/// Makes an option accept a value, like its variable, and ignore the environment of this process.
fn as_variable(arg: Arg) -> Arg {
    let arg = arg.env(Resettable::Reset);
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => arg.action(ArgAction::Set).num_args(1),
        _ => arg,
    }
}
