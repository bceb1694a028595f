//! A management server of the test's own: real gRPC, and the test says what it sends.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use prost::Message as _;
use prost_types::Any;
use ratekeeper::source::xds::TYPE_URL;
use ratekeeper::source::xds::pb::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use ratekeeper::source::xds::pb::{DiscoveryRequest, DiscoveryResponse, RateLimitConfig};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::{Authority, Certified, PATIENCE};

/// A management server that runs until it is dropped.
#[derive(Debug)]
pub struct Management {
    address: SocketAddr,
    sessions: Receiver<Session>,
    /// Everything of it ends with this, open connections too.
    _runtime: Runtime,
}

/// One stream of a client. Dropping it ends the stream.
#[derive(Debug)]
pub struct Session {
    /// The headers that the client sent.
    pub headers: MetadataMap,
    /// When it was opened.
    pub opened: Instant,
    requests: Receiver<DiscoveryRequest>,
    is_deaf: Arc<AtomicBool>,
    responses: mpsc::UnboundedSender<Result<DiscoveryResponse, Status>>,
}

impl Management {
    /// Starts it in plaintext on any port.
    pub fn start() -> Self {
        Self::start_on(0, None)
    }

    /// Starts it with TLS, for clients that show a certificate of the same authority.
    pub fn start_with_tls(authority: &Authority, certified: &Certified) -> Self {
        Self::start_on(0, Some(mutual(authority, certified)))
    }

    /// Starts it on a port.
    ///
    /// # Panics
    /// When it cannot.
    pub fn start_on(port: u16, tls: Option<ServerTlsConfig>) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(listener(port));
        let address = listener.local_addr().unwrap();
        let (opened, sessions) = channel();
        let service = AggregatedDiscoveryServiceServer::new(Service { opened });
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let served = server
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(served);
        Self {
            address,
            sessions,
            _runtime: runtime,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a client to open a stream.
    ///
    /// # Panics
    /// When none does.
    pub fn session(&self) -> Session {
        let session = self.sessions.recv_timeout(PATIENCE);
        session.expect("a client opens a stream")
    }
}

/// TLS that demands a certificate of this authority.
pub fn mutual(authority: &Authority, certified: &Certified) -> ServerTlsConfig {
    ServerTlsConfig::new()
        .identity(Identity::from_pem(&certified.certificate, &certified.key))
        .client_ca_root(Certificate::from_pem(authority.pem()))
}

/// A socket on this port. Where a server was a moment ago, its connections may be closing still.
async fn listener(port: u16) -> TcpListener {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "port {port}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Session {
    /// Waits for the next request.
    ///
    /// # Panics
    /// When none comes.
    pub fn request(&self) -> DiscoveryRequest {
        let request = self.requests.recv_timeout(PATIENCE);
        request.expect("the client sends a request")
    }

    /// Reads no further request but one.
    pub fn stop_reading(&self) {
        self.is_deaf.store(true, Ordering::SeqCst);
    }

    /// Waits for the end of the stream at the client's side.
    ///
    /// # Panics
    /// When it goes on.
    pub fn ended(&self) {
        match self.requests.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("the stream goes on: {other:?}"),
        }
    }

    /// Sends a snapshot. Its version is its nonce, too, with an `n` before it.
    pub fn send(&self, version: &str, configs: &[RateLimitConfig]) {
        self.send_any(version, configs.iter().map(resource).collect());
    }

    /// Sends resources that may be wrong.
    pub fn send_any(&self, version: &str, resources: Vec<Any>) {
        self.respond(Ok(DiscoveryResponse {
            version_info: version.to_owned(),
            resources,
            type_url: TYPE_URL.to_owned(),
            nonce: format!("n{version}"),
        }));
    }

    /// Sends anything, or ends the stream with a status.
    pub fn respond(&self, response: Result<DiscoveryResponse, Status>) {
        // It fails when the client has gone, which the test will notice.
        let _ = self.responses.send(response);
    }

    /// Sends a snapshot and waits until it is accepted.
    ///
    /// # Panics
    /// When it is not.
    pub fn accepted(&self, version: &str, configs: &[RateLimitConfig]) {
        self.send(version, configs);
        let answer = self.request();
        assert_eq!(answer.error_detail, None);
        assert_eq!(answer.version_info, version);
        assert_eq!(answer.response_nonce, format!("n{version}"));
        assert_eq!(answer.type_url, TYPE_URL);
    }

    /// Waits for a refusal of what was sent last, and returns the reason.
    ///
    /// # Panics
    /// When it is accepted, or the refusal claims another version than the one accepted before.
    pub fn refused(&self, version: &str, accepted: &str) -> String {
        let answer = self.request();
        let detail = answer.error_detail.expect("it is refused");
        assert_eq!(answer.version_info, accepted);
        assert_eq!(answer.response_nonce, format!("n{version}"));
        assert_eq!(detail.code, i32::from(tonic::Code::InvalidArgument));
        detail.message
    }
}

/// A configuration as a resource.
pub fn resource(config: &RateLimitConfig) -> Any {
    Any {
        type_url: TYPE_URL.to_owned(),
        value: config.encode_to_vec(),
    }
}

#[derive(Debug)]
struct Service {
    opened: Sender<Session>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let (responses, sent) = mpsc::unbounded_channel();
        let (heard, requests) = channel();
        let headers = request.metadata().clone();
        let mut stream = request.into_inner();
        let is_deaf = Arc::new(AtomicBool::new(false));
        let deaf = Arc::clone(&is_deaf);
        // Ends with the client's side of the stream, or with the runtime.
        tokio::spawn(async move {
            while let Some(Ok(request)) = stream.next().await {
                // The test may have seen enough.
                let _ = heard.send(request);
                if deaf.load(Ordering::SeqCst) {
                    pending::<()>().await;
                }
            }
        });
        let session = Session {
            headers,
            opened: Instant::now(),
            requests,
            is_deaf,
            responses,
        };
        let _ = self.opened.send(session);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(sent))))
    }
}
