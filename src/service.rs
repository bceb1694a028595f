//! The edge of the server: gRPC and HTTP. Wire types do not leave this module.

mod bad_requests;
mod buffers;
mod connections;
mod convert;
mod explanation;
mod frames;
mod grpc_router;
mod grpc_server;
mod grpc_timeout;
mod handshake;
mod headers;
mod health;
mod http;
mod metadata;
mod response;
mod rls;
mod shared_connections;
mod socket;
mod struct_value;

pub(crate) use bad_requests::{BadRequestMode, BadRequests};
pub(crate) use buffers::BufferLimits;
pub use connections::{Connection, ConnectionLimit, connections};
pub(crate) use convert::max_message_bytes;
pub use frames::{FloodCount, FloodReporter, Frames, PREFACE};
pub(crate) use grpc_router::GrpcRouter;
pub(crate) use grpc_server::{ConnectionSettings, GrpcServer};
pub(crate) use headers::HeaderNames;
pub(crate) use health::HealthService;
pub(crate) use http::{
    Admin, AdminToken, HttpPort, MAX_JSON, Page, RulesText, ServerView, SourceView, StoreView,
    admin, healthcheck, json, pages,
};
pub(crate) use response::ResponseSettings;
pub(crate) use rls::RateLimit;
pub(crate) use shared_connections::{FailedConnections, SharedConnections};
pub use socket::{Detached, Listener, Socket};

pub(crate) use ratekeeper_api::codec::{MAX_DESCRIPTORS_DECODED, MAX_ENTRIES_DECODED};
pub use ratekeeper_api::pb;
