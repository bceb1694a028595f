//! ratekeeper: a gRPC rate-limit server for Envoy.
pub mod bucket;
pub mod source;
