//! The rim: gRPC and HTTP. Wire types stop here.

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
mod health;
mod http;
mod metadata;
mod rls;
mod socket;

pub use bad_requests::{BadRequestMode, BadRequests};
pub use buffers::{BufferLimits, RequestBody, ResponseBody};
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

pub use ratekeeper_api::codec::{MOST_DESCRIPTORS, MOST_ENTRIES};
pub use ratekeeper_api::pb;
