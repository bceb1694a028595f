//! The servers that ratekeeper is measured against: in the same build, on the same threads, behind the
//! same gRPC. `benches/table` starts them.
//!
//! - `empty` decodes the request and answers OK, whatever it asks: what a call costs before anything is
//!   decided.
//! - `shared` is `empty` on one runtime that moves tasks between its threads, as tokio does unless it is
//!   told otherwise.
//! - `naive` decides one bucket per descriptor as is first thought of: one call of a script, on a
//!   connection that nobody else uses meanwhile.

#[path = "baseline/naive.rs"]
mod naive;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use mimalloc::MiMalloc;
use ratekeeper::app::{Incoming, Serve, Stop, Workers};
use ratekeeper::clock;
use ratekeeper::service::pb::rate_limit_response::{Code, DescriptorStatus};
use ratekeeper::service::pb::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use ratekeeper::service::pb::{RateLimitRequest, RateLimitResponse};
use ratekeeper::service::{Connection, ConnectionLimit, Listener, connections};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::Stream;
use tokio_util::either::Either;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use naive::Naive;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments[..] {
        ["empty", threads] => runtime.block_on(serve(threads.parse()?, || Ok(Empty))),
        ["shared", threads] => share(threads.parse()?),
        ["naive", threads, redis] => {
            let threads: NonZeroUsize = threads.parse()?;
            let redis = redis.to_owned();
            runtime.block_on(serve(threads, move || Naive::new(&redis, threads)))
        }
        // As cargo calls it when all benchmarks are run: there is nothing to measure here alone.
        ["--bench"] => Ok(()),
        _ => anyhow::bail!("baseline empty|shared THREADS, or baseline naive THREADS REDIS"),
    }
}

async fn serve<S: RateLimitService>(
    threads: NonZeroUsize,
    service: impl Fn() -> anyhow::Result<S> + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let connections = listen().await?;
    let serve = move || {
        let router = Server::builder().add_service(RateLimitServiceServer::new(service()?));
        Ok(Box::new(|incoming: Incoming, stop: Stop| {
            let incoming = incoming.filter_map(async |connection| connection.map(tcp).transpose());
            let served = router.serve_with_incoming_shutdown(incoming, stop);
            served.map_err(anyhow::Error::from).boxed_local()
        }) as Serve)
    };
    let mut workers = Workers::start(threads, serve).await?;
    workers.serve(connections).await
}

/// Serves the empty handler on one runtime with so many threads.
fn share(threads: NonZeroUsize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.get())
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let router = Server::builder().add_service(RateLimitServiceServer::new(Empty));
        let connections = listen()
            .await?
            .filter_map(async |connection| tcp(connection).map(io::Result::Ok));
        Ok(router.serve_with_incoming(connections).await?)
    })
}

/// Connections to a free port, which whoever started this reads.
async fn listen() -> anyhow::Result<impl Stream<Item = Connection>> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    #[expect(clippy::print_stdout, reason = "whoever started it reads this")]
    {
        println!("{}", listener.local_addr()?);
    }
    let places = ConnectionLimit::new(usize::MAX, "there can be");
    Ok(connections(
        Listener::Tcp(listener),
        places,
        clock::system(),
    ))
}

/// The socket of a connection, which is of this kind here.
fn tcp(connection: Connection) -> Option<TcpStream> {
    match connection.socket {
        Either::Left(stream) => Some(stream),
        Either::Right(_) => None,
    }
}

/// Decides nothing.
struct Empty;

#[tonic::async_trait]
impl RateLimitService for Empty {
    async fn should_rate_limit(
        &self,
        _: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        Ok(response([Code::Ok]))
    }
}

fn response(codes: impl IntoIterator<Item = Code>) -> Response<RateLimitResponse> {
    let statuses: Vec<DescriptorStatus> = codes
        .into_iter()
        .map(|code| DescriptorStatus {
            code: code.into(),
            ..DescriptorStatus::default()
        })
        .collect();
    let is_over = |status: &&DescriptorStatus| status.code() == Code::OverLimit;
    let overall = statuses
        .iter()
        .find(is_over)
        .map_or(Code::Ok, |_| Code::OverLimit);
    Response::new(RateLimitResponse {
        overall_code: overall.into(),
        statuses,
        ..RateLimitResponse::default()
    })
}
