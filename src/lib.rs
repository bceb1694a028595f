//! ratekeeper: a gRPC rate-limit server for Envoy.
//!
//! The modules in the order in which a request flows through them; each knows only those below it.
//!
//! - [`cli`]: commands and options.
//! - [`app`]: puts the parts together and runs them.
//! - [`service`]: gRPC and HTTP; wire types stop here.
//! - [`limiter`]: the use case: match, ask the store, say the verdict.
//! - [`rules`]: pure; configuration text to limits.
//! - [`source`]: where the configuration comes from.
//! - [`store`]: where buckets live.
//! - [`text`]: pure; the bytes that clients send as text.
//! - [`key`]: pure; what a bucket is called.
//! - [`bucket`]: pure; the arithmetic of one limit.
//! - [`watch`]: files that change.
//! - [`tls`]: certificates and how they are replaced; `secret_file`: files that hold a secret.
//! - [`clock`], [`telemetry`]: the time; metrics, logs, traces and recordings; `timer`: deadlines finer than a millisecond.

pub mod app;
pub mod cli;
pub mod clock;
pub mod limiter;
mod secret_file;
pub mod service;
pub mod source;
pub mod store;
pub mod telemetry;
mod timer;
pub mod tls;
pub mod watch;

pub use ratekeeper_core::{bucket, key, text, time};
pub use ratekeeper_rules as rules;
