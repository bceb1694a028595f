//! Formats that other programs read and write: the messages of the gRPC services, and the JSON of the admin API.
//!
//! The messages are generated from `proto/` by `build.rs`, both at the top of the repository.

pub mod admin;
pub mod codec;

/// The rate limit service, as Envoy calls it.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; documented by the .proto files"
)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/service/pb.rs"));

    /// The rate limit service as an encoded `FileDescriptorSet`, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

    /// The health service.
    pub mod health {
        include!(concat!(env!("OUT_DIR"), "/health/grpc.health.v1.rs"));

        /// The health service as an encoded `FileDescriptorSet`, for reflection.
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/health.bin"));
    }

    pub use envoy::config::core::v3::HeaderValue;
    pub use envoy::extensions::common::ratelimit::v3::{
        RateLimitDescriptor, rate_limit_descriptor,
    };
    pub use envoy::service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_response, rate_limit_service_client,
        rate_limit_service_server,
    };
}

/// The discovery service of xDS management servers, and the configuration that they send.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; documented by the .proto files"
)]
pub mod xds {
    include!(concat!(env!("OUT_DIR"), "/xds/pb.rs"));

    pub use envoy::config::core::v3::Node;
    pub use envoy::service::discovery::v3::{
        DiscoveryRequest, DiscoveryResponse, aggregated_discovery_service_client,
        aggregated_discovery_service_server,
    };
    pub use ratelimit::config::ratelimit::v3::{
        RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitReplace, RateLimitUnit,
    };
}
