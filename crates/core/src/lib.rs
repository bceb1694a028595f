//! The pure core of ratekeeper: what a bucket is, how it is named, and how a request is decided.
//!
//! - [`time`]: the unit of time that all of ratekeeper uses.
//! - [`text`]: text of clients, which can be any bytes.
//! - [`descriptor`]: entries of descriptors.
//! - [`key`]: names of buckets.
//! - [`bucket`]: the arithmetic of one limit.
//! - [`charge`]: what a request sends to a store, and the decision that the store returns.
//! - [`settle`](mod@settle): decides the charges of one request.
//!
//! This crate does no I/O and reads no clock: the time is a parameter. The Redis script does the same arithmetic on the
//! same numbers.

pub mod bucket;
pub mod charge;
pub mod descriptor;
pub mod key;
pub mod settle;
pub mod text;
pub mod time;
