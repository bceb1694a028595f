//! What becomes of each variable, and of those that are not set but mean something.

use std::collections::BTreeMap;
use std::error::Error as _;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args as _, Command, FromArgMatches as _};

use super::super::reference::{self, Effect, MEMCACHED_PLACES};
use super::super::serve;
use super::environment::{Environment, Value};
use super::finding::{Finding, Kind};

/// The findings of an environment.
pub(super) fn findings(environment: &Environment) -> Vec<Finding> {
    let options = Options::of_serve();
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
        && let Err(said) = options.takes(name, text)
    {
        return Finding::new(Kind::ChangeFirst, name, said);
    }
    match reference::effect(name) {
        Some(Effect::Differs(how)) => Finding::new(Kind::Differs, name, how),
        Some(Effect::DiffersWhenOn(how)) if environment.is_on(name) => {
            Finding::new(Kind::Differs, name, how)
        }
        Some(Effect::Same | Effect::DiffersWhenOn(_)) => Finding::new(Kind::Same, name, ""),
        Some(Effect::None(why)) => Finding::new(Kind::NoEffect, name, why),
        Some(Effect::Refused(instead)) => Finding::new(Kind::ChangeFirst, name, instead),
        None if options.knows(name) => {
            Finding::new(Kind::Same, name, "an option of ratekeeper's own")
        }
        // Libraries read these by themselves.
        None if name.starts_with("OTEL_") => Finding::new(Kind::Same, name, ""),
        None => Finding::new(Kind::Unknown, name, ""),
    }
}

/// What hangs on the value, or on what is set beside it.
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
        _ if MEMCACHED_PLACES.contains(&name) && has_other_store(environment) => (
            Kind::NoEffect,
            "another store is named, and there is no memcached here",
        ),
        _ => return None,
    };
    Some(Finding::new(kind, name, what))
}

/// Whether a store is named that is not memcached.
fn has_other_store(environment: &Environment) -> bool {
    let is_named = environment.is_set("REDIS_URL") || environment.is_set("BACKEND_TYPE");
    is_named && !is_memcached(environment)
}

fn is_memcached(environment: &Environment) -> bool {
    let backend = environment.text("BACKEND_TYPE");
    backend.is_some_and(|backend| backend.eq_ignore_ascii_case("memcache"))
}

/// Defaults that are not the same.
fn not_set(environment: &Environment) -> Vec<Finding> {
    let is_set = |name: &str| environment.is_set(name);
    let mut findings = Vec::new();
    let has_store = ["REDIS_URL", "BACKEND_TYPE"]
        .into_iter()
        .chain(MEMCACHED_PLACES)
        .any(is_set);
    if !has_store {
        findings.push(Finding::new(
            Kind::ChangeFirst,
            "REDIS_URL is not set",
            "there, it is unix:///var/run/nutcracker/ratelimit.sock; here, each process would keep buckets of its own. \
             Say where Redis is, or set BACKEND_TYPE=memory if you mean that",
        ));
    }
    let backend = environment.text("BACKEND_TYPE").unwrap_or("redis");
    let is_redis = backend.eq_ignore_ascii_case("redis");
    if is_redis && !is_set("REDIS_TIMEOUT") {
        findings.push(Finding::new(
            Kind::Differs,
            "REDIS_TIMEOUT is not set",
            "a decision is had within 100ms, and within 80 % of what the caller waits, or is made by \
             STORE_FAILURE_MODE; there, a request waits as long as its caller does",
        ));
    }
    if is_redis && !is_set("STORE_FAILURE_MODE") {
        findings.push(
            Finding::new(
                Kind::Differs,
                "STORE_FAILURE_MODE is not set",
                "while Redis does not answer, this process goes on with buckets of its own (local); there, the request \
                 gets an error, and Envoy's failure_mode_deny decides",
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
                "there, that means StatsD over TCP to localhost:8125; here, StatsD is spoken over UDP",
            )
            .with_parity("USE_STATSD", "true"),
        );
    }
    findings
}

// --- The options of the server ---

/// What stands for a value that cannot be seen: one of these is such as most options take.
const UNSEEN: [&str; 3] = ["localhost:6379", "true", "1"];

/// The options of `ratekeeper serve` by their variables.
struct Options {
    command: Command,
    flags: BTreeMap<String, String>,
}

impl Options {
    fn of_serve() -> Self {
        let mut flags = BTreeMap::new();
        let command = serve::Args::augment_args(Command::new("serve"));
        for arg in command.get_arguments() {
            if let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) {
                flags.insert(variable.to_string_lossy().into_owned(), flag.to_owned());
            }
        }
        Self {
            command: command.mut_args(as_variable),
            flags,
        }
    }

    fn knows(&self, variable: &str) -> bool {
        self.flags.contains_key(variable)
    }

    /// What does not go together of what is right by itself.
    fn contradictions(&self, environment: &Environment) -> Vec<Finding> {
        let mut flags = vec!["serve".to_owned()];
        for (name, value) in environment.iter().filter(|(name, _)| self.knows(name)) {
            let candidates = match value {
                Value::Text(text) => vec![text.as_str()],
                Value::Hidden => UNSEEN.to_vec(),
            };
            let takes = |text: &&str| self.takes(name, text).is_ok();
            match candidates.into_iter().find(takes) {
                Some(text) => flags.push(self.flag(name, text)),
                // It is told by itself, and what goes with it cannot be known.
                None => return Vec::new(),
            }
        }
        let matches = self.command.clone().try_get_matches_from(flags);
        let Ok(args) = matches.and_then(|matches| serve::Args::from_arg_matches(&matches)) else {
            return Vec::new();
        };
        let sentences = args.contradictions().into_sentences().into_iter();
        sentences
            .map(|sentence| Finding::new(Kind::ChangeFirst, "what is set together", sentence))
            .collect()
    }

    fn flag(&self, variable: &str, value: &str) -> String {
        format!("--{}={value}", self.flags[variable])
    }

    /// Whether the option of a variable takes a value; if not, what to write instead. The value is not
    /// repeated: it may be a secret.
    fn takes(&self, variable: &str, value: &str) -> Result<(), String> {
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

/// An option as a variable is read: with a value, also where the flag takes none. What is set around this
/// process is not what is asked about.
fn as_variable(arg: Arg) -> Arg {
    let arg = arg.env(Resettable::Reset);
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => arg.action(ArgAction::Set).num_args(1),
        _ => arg,
    }
}
