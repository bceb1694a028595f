//! Everything that is tested from outside: one program, so that the helpers are linked once and each
//! has to be used.
//!
//! The tests talk to real servers on loopback (redis-server, Envoy, ratekeeper's own binary), which
//! they start and stop themselves; where one cannot be started, the test fails. `tests/setup`
//! installs what is needed. None sleeps, and none depends on how long something takes, but for `faults` and
//! `soak`, whose subject is time: limits are per hour or day, so that nothing worth a token comes back while a test runs.

#![expect(
    clippy::unwrap_used,
    reason = "where a test cannot go on, it has failed"
)]
#![expect(
    clippy::too_many_lines,
    reason = "a table of cases is as long as it is"
)]

pub mod support;

mod admin;
mod answers;
mod bench;
mod boundaries;
mod buckets;
mod buffers;
mod candidate;
mod cluster;
mod configuration;
mod connections;
mod demo;
mod deploy;
mod deployments;
mod documentation;
mod envoy;
mod examples;
mod excess;
mod explained;
mod failure;
mod faults;
mod fleet;
mod frames;
mod hostile;
mod integration;
mod latency;
mod log_events;
mod matching;
mod metrics;
mod migrate;
mod modes;
mod moving;
mod options;
mod outage;
mod page;
mod per_second;
mod ports;
mod public;
mod quick_start;
mod redis_login;
mod redis_pool;
mod redis_protocols;
mod redis_store;
mod redis_tls;
mod rehearsal;
mod rollout;
mod scaling;
mod sentinel;
mod shutdown;
mod soak;
mod source;
mod split;
mod statsd;
mod stores;
mod tidy;
mod tls;
mod top;
mod traces;
mod wire;
mod xds;
mod xds_trouble;
mod xds_wire;
