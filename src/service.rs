//! The rim: gRPC and HTTP. Wire types stop here.

mod bad_requests;
mod buffers;
mod codec;
mod connections;
mod convert;
mod explanation;
mod frames;
mod grpc_router;
mod grpc_server;
mod grpc_timeout;
mod handshake;
mod health;
mod http;
mod metadata;
mod rls;
mod socket;

pub use bad_requests::{BadRequestMode, BadRequests};
pub use buffers::{BufferLimits, RequestBody, ResponseBody};
pub use codec::{MOST_DESCRIPTORS, MOST_ENTRIES};
pub use connections::{Connection, ConnectionLimit, connections};
pub use convert::message_bound;
pub use frames::{FloodCount, FloodReporter, Frames};
pub use grpc_router::GrpcRouter;
pub use grpc_server::{ConnectionSettings, FailedConnections, GrpcServer};
pub use health::HealthService;
pub use http::{
    Admin, AdminToken, HttpPort, MAX_JSON, NoToken, Page, RulesText, ServerView, SourceView,
    StoreView, admin, healthcheck, json, pages,
};
pub use rls::{HeaderNames, RateLimit, ResponseSettings};
pub use socket::{Detached, Listener, Socket};

/// The wire types, generated from `proto/`.
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

    /// What Envoy calls as an encoded `FileDescriptorSet`, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

    /// The health service, and its descriptors for reflection.
    pub mod health {
        include!(concat!(env!("OUT_DIR"), "/health/grpc.health.v1.rs"));

        /// An encoded `FileDescriptorSet`.
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
