//! The JSON documents of the admin API, written by the server and read by `ratekeeper top`.
//!
//! `openapi.json` describes the same documents for other clients. Fields are written in the order in which they are
//! declared here; an absent value is `null`. Readers ignore unknown fields, and use the default for fields that version
//! 0.1.0 does not send, so that client and server can be of different versions.
//!
//! This module depends on nothing of the server.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A word from a fixed list, such as the state of a breaker. `openapi.json` has the lists.
pub type Word = Cow<'static, str>;

/// Microseconds: a duration, or a time since the Unix epoch.
pub type Micros = u64;

/// Body of every response that is not 200.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// One sentence: what is wrong and what to do.
    pub error: String,
}

// --- GET /status ---

/// State of the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of ratekeeper.
    pub version: Word,
    /// Host name.
    pub instance: String,
    /// Time of the response.
    pub now_us: Micros,
    /// Seconds since the server started.
    pub uptime_seconds: u64,
    /// Whether the server reports SERVING.
    pub healthy: bool,
    /// Whether an admin token is configured.
    pub can_change: bool,
    /// Where buckets are stored.
    pub store: Store,
    /// Latency of `ShouldRateLimit`.
    pub answers: Distribution,
    /// Number of decisions since start.
    pub decisions: Decisions,
    /// Number of requests that Redis did not decide, since start. Version 0.1.0 does not send it.
    #[serde(default)]
    pub fallback_decisions: Option<FallbackDecisions>,
    /// Number of requests that were answered with an error, since start.
    pub errors: Errors,
    /// Where the configuration comes from.
    pub source: Source,
    /// The active configuration.
    pub configuration: ConfigurationSummary,
}

/// Where buckets are stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// `memory` or `redis`.
    pub kind: Word,
    /// Whether a failure policy decides requests instead of Redis.
    pub degraded: bool,
    /// Number of buckets in memory; `None` with Redis.
    pub buckets: Option<u64>,
    /// Maximum number of buckets in memory; `None` with Redis.
    pub max_buckets: Option<u64>,
    /// `STORE_FAILURE_MODE`; `None` without Redis.
    pub failure_mode: Option<Word>,
    /// A breaker for each Redis.
    pub breakers: Vec<Breaker>,
    /// Number of buckets whose denials are remembered.
    pub remembered_denials: u64,
    /// Number of buckets of the failure policy `local`.
    pub fallback_buckets: u64,
    /// Latency of round trips to Redis; `None` without Redis.
    pub latency: Option<Distribution>,
}

/// The circuit breaker of one Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Which Redis it belongs to.
    pub name: Word,
    /// `closed`, `half_open` or `open`.
    pub state: Word,
    /// How often it has opened.
    pub times_opened: u64,
    /// Number of failed calls.
    pub failures: Failures,
    /// The server of the latest connection; `None` before the first one, and from version 0.1.0.
    #[serde(default)]
    pub server: Option<RedisServer>,
    /// Error of the latest call that failed.
    pub last_failure: Option<String>,
}

/// Failed calls to Redis, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "openapi.json and the metrics describe the kinds"
)]
pub struct Failures {
    pub unreachable: u64,
    pub timeout: u64,
    pub overloaded: u64,
    pub unfit: u64,
    pub refused: u64,
}

/// A Redis server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisServer {
    /// Name and version, such as `redis 7.0.15`; `None` if the server does not know HELLO.
    pub version: Option<String>,
    /// Version of the Redis protocol: 2 or 3.
    pub protocol: u8,
}

/// A histogram of latencies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Number of observations.
    pub count: u64,
    /// Sum of all observations, in seconds.
    pub sum_seconds: f64,
    /// Cumulative buckets, in ascending order.
    pub buckets: Vec<DistributionBucket>,
}

/// A cumulative bucket of a [`Distribution`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct DistributionBucket {
    /// Upper bound in seconds, inclusive.
    pub le: f64,
    /// Number of observations up to the bound.
    pub count: u64,
}

/// Decisions, by response code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// Requests that were allowed.
    pub ok: Causes,
    /// Requests that were denied.
    pub over_limit: Causes,
}

/// Decisions, by what made them. Sums of previous versions can lack a cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    missing_docs,
    reason = "openapi.json and the metrics describe the causes"
)]
pub struct Causes {
    pub buckets: u64,
    pub remembered_denial: u64,
    pub no_limit: u64,
    pub fallback_local: u64,
    pub fallback_allow: u64,
    pub fallback_deny: u64,
}

/// Requests that Redis did not decide, by the failure policy that was applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackDecisions {
    /// Decided by buckets of this instance.
    pub local: u64,
    /// Allowed.
    pub allow: u64,
    /// Denied.
    pub deny: u64,
    /// Answered with UNAVAILABLE. These are not counted in [`Decisions`].
    pub error: u64,
}

/// Requests that were answered with an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Invalid requests, and requests without a configuration.
    pub service: u64,
    /// Requests that the store could not decide.
    pub store: u64,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `files` or `xds`.
    pub kind: Word,
    /// Path of the file or directory, or address of the management server.
    pub origin: String,
    /// Whether the management server is connected; `None` with files.
    pub connected: Option<bool>,
}

/// The active configuration, and the rejected one that came after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationSummary {
    /// Version of the active configuration; `None` before the first one.
    pub version: Option<String>,
    /// When it became active.
    pub loaded_us: Option<Micros>,
    /// Number of domains.
    pub domains: u64,
    /// Number of rules.
    pub rules: u64,
    /// The latest configuration, if it was rejected.
    pub rejected: Option<Rejected>,
}

/// A configuration that was rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// When it was rejected.
    pub at_us: Micros,
    /// Its first mistakes.
    pub mistakes: Vec<String>,
    /// Number of mistakes that are not listed.
    pub more: u64,
}

// --- GET /configuration ---

/// The active configuration with its text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Version of the active configuration; `None` before the first one.
    pub version: Option<String>,
    /// Path of the file or directory, or address of the management server.
    pub origin: String,
    /// Files in alphabetical order.
    pub files: Vec<File>,
    /// The rules in the format of `/rlconfig`.
    pub text: String,
    /// The latest configuration, if it was rejected.
    pub rejected: Option<Rejected>,
}

/// A configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Path of the file, or name of the xDS resource.
    pub name: String,
    /// Number of rules in it.
    pub rules: u64,
}

// --- GET /rules ---

/// A page of rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Time of the response.
    pub now_us: Micros,
    /// Number of rules that match the search, on all pages.
    pub total: u64,
    /// Rules in the order of the files.
    pub rules: Vec<Rule>,
}

/// A rule and its counters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Path, as in `/rlconfig` and in metrics.
    pub path: String,
    /// Domain.
    pub domain: String,
    /// The parts of the path below the domain.
    pub segments: Vec<String>,
    /// Key and value of each segment; the value is `None` if the rule does not have one.
    pub entries: Vec<(String, Option<String>)>,
    /// File that has the rule.
    pub file: String,
    /// Line in the file.
    pub line: u64,
    /// Limits; empty if the rule is unlimited.
    pub limits: Vec<Limit>,
    /// Whether the rule has `unlimited: true`.
    pub unlimited: bool,
    /// Whether the rule is in shadow mode.
    pub shadow_mode: bool,
    /// Whether the rule is a quota.
    pub quota_mode: bool,
    /// Failure policy of the rule; `None` for `STORE_FAILURE_MODE`.
    pub on_store_failure: Option<Word>,
    /// Hits since start.
    pub hits: Hits,
    /// When hits are charged; `None` unless a limit has `hits: auto`, and from version 0.1.0.
    #[serde(rename = "use", default)]
    pub usage: Option<Usage>,
    /// Limits that are evaluated without effect.
    pub candidate: Option<Candidate>,
}

/// A limit of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named after the fields of the configuration")]
pub struct Limit {
    pub name: String,
    pub requests_per_unit: u32,
    pub unit: Word,
    pub unit_multiplier: u32,
    pub burst: u32,
    pub algorithm: Word,
    pub hits: Word,
    pub max_debt: u32,
    /// The limit in one line.
    pub text: String,
}

/// Hits of a rule since start, as `/metrics` exports them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// Hits of descriptors within the limit.
    pub within: u64,
    /// Hits of descriptors that were denied.
    pub denied: u64,
    /// Hits of descriptors over the limit that shadow mode allowed. Version 0.1.0 counts them as denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_deny: Option<u64>,
    /// Hits near the limit.
    pub near: u64,
    /// Hits beyond the limit.
    pub over: u64,
    /// Hits beyond the limit that shadow mode allowed.
    pub shadow: u64,
    /// Hits beyond the limit that were denied without a call to the store.
    pub remembered: u64,
    /// Hits that were given back.
    pub given_back: u64,
}

/// When the hits of a rule with `hits: auto` are charged, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// `prepaid` or `postpaid`.
    pub hits: Word,
    /// Share of calls that request hits.
    pub asked_percent: u32,
    /// Share of calls that report hits.
    pub reported_percent: u32,
    /// Share of calls that give hits back.
    pub given_back_percent: u32,
    /// The same in one line.
    pub text: String,
}

/// Limits of a rule that are evaluated without effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The limits in one line.
    pub text: String,
    /// Hits since start.
    pub hits: CandidateHits,
}

/// Hits that candidate limits would have allowed and denied, since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "described by the type")]
pub struct CandidateHits {
    pub would_admit: u64,
    pub would_deny: u64,
}

// --- GET /explain ---

/// Which rule applies to a descriptor, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Domain of the request.
    pub domain: String,
    /// Key and value of each entry of the request.
    pub descriptor: Vec<(String, String)>,
    /// The output of `ratekeeper explain`.
    pub text: String,
    /// Path of the rule that applies.
    pub rule: Option<String>,
    /// Its limits.
    pub limits: Vec<ExplainedLimit>,
    /// A step for each entry.
    pub steps: Vec<Step>,
    /// What could be wrong with the descriptor or the rules.
    pub hints: Vec<String>,
}

/// A limit that applies to a descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedLimit {
    /// The limit in one line.
    pub text: String,
    /// Key of its bucket.
    pub bucket: String,
}

/// How an entry of a descriptor was matched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Key and value.
    pub entry: (String, String),
    /// Whether a node of the rules matches.
    pub matched: bool,
    /// The node, or why there is none.
    pub why: String,
    /// Other nodes that match with lower precedence.
    pub passed_over: Vec<String>,
}

// --- /buckets ---

/// Buckets of a descriptor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Buckets {
    /// Time of the response.
    pub now_us: Micros,
    /// One bucket for each limit.
    pub buckets: Vec<Bucket>,
}

/// A bucket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Key in the store.
    pub key: String,
    /// Path of its rule; empty for a limit that the request brought.
    pub rule: String,
    /// Its limit in one line.
    pub limit: String,
    /// Maximum number of tokens.
    pub capacity: u32,
    /// Number of whole tokens.
    pub remaining: u32,
    /// Number of tokens below zero.
    pub debt: u64,
    /// Time until the bucket is full or its window ends.
    pub full_in_us: Micros,
    /// Time until the bucket admits one hit; `None` if it never does.
    pub retry_in_us: Option<Micros>,
    /// Refill rate.
    pub refill_per_second: f64,
    /// Whether it is a fixed window.
    pub window: bool,
    /// Which store has the bucket.
    pub decided_by: Word,
    /// Latest denial that this instance has seen.
    pub last_denied: Option<Denial>,
}

/// A denial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// When the request was denied.
    pub at_us: Micros,
    /// Hits of the request.
    pub hits: u64,
    /// Path of the rule.
    pub rule: String,
    /// The request, shortened.
    pub request: String,
}

// --- GET /top ---

/// Buckets with the most hits and the most denials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    /// Time of the response.
    pub now_us: Micros,
    /// `minute` or `hour`.
    pub window: Word,
    /// Length of the window, up to one slice more than its name says.
    pub seconds: u64,
    /// All hits in the window.
    pub total_hits: u64,
    /// All denied hits.
    pub total_denied: u64,
    /// All hits that shadow mode allowed.
    #[serde(default)]
    pub total_would_deny: u64,
    /// Maximum error of a count.
    pub error: u64,
    /// Buckets with the most hits.
    pub hottest: Vec<HotBucket>,
    /// Buckets with the most denied hits.
    pub denied: Vec<DeniedBucket>,
    /// Buckets with the most hits that shadow mode allowed.
    #[serde(default)]
    pub would_deny: Vec<DeniedBucket>,
}

/// A bucket with many hits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotBucket {
    /// Key in the store.
    pub key: String,
    /// Path of its rule; empty for a limit that the request brought.
    pub rule: String,
    /// Hits; an upper bound.
    pub hits: Option<u64>,
    /// Denied hits; an upper bound.
    pub denied: u64,
    /// Hits that shadow mode allowed; an upper bound.
    #[serde(default)]
    pub would_deny: u64,
}

/// A bucket with many denied hits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedBucket {
    /// The bucket. Its hits are `None` if they are too few to be known.
    #[serde(flatten)]
    pub bucket: HotBucket,
    /// When the latest request was denied.
    pub last_denied_us: Option<Micros>,
    /// The latest request, shortened.
    pub request: Option<String>,
}
