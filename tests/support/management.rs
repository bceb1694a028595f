//! An xDS management server over real gRPC; the test decides what it sends.

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

use super::{Authority, Certified, TIMEOUT};

/// A management server; stopped when dropped.
#[derive(Debug)]
pub struct Management {
    address: SocketAddr,
    sessions: Receiver<Session>,
    /// Dropping the runtime ends the server and its connections.
    _runtime: Runtime,
}

/// The stream of a client; ended when dropped.
#[derive(Debug)]
pub struct Session {
    /// The headers that the client sent.
    pub headers: MetadataMap,
    /// When the stream was opened.
    pub opened: Instant,
    requests: Receiver<DiscoveryRequest>,
    is_deaf: Arc<AtomicBool>,
    responses: mpsc::UnboundedSender<Result<DiscoveryResponse, Status>>,
}

impl Management {
    /// Starts a server without TLS on a free port.
    pub fn start() -> Self {
        Self::start_on(0, None)
    }

    /// Starts a server with TLS that requires client certificates signed by the same authority.
    pub fn start_with_tls(authority: &Authority, certified: &Certified) -> Self {
        Self::start_on(0, Some(mutual(authority, certified)))
    }

    /// Starts a server on a port.
    ///
    /// # Panics
    /// When the server cannot listen on the port.
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

    /// The address of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a client to open a stream.
    ///
    /// # Panics
    /// When no client does.
    pub fn session(&self) -> Session {
        let session = self.sessions.recv_timeout(TIMEOUT);
        session.expect("a client opens a stream")
    }
}

/// TLS settings that require client certificates signed by the authority.
pub fn mutual(authority: &Authority, certified: &Certified) -> ServerTlsConfig {
    ServerTlsConfig::new()
        .identity(Identity::from_pem(&certified.certificate, &certified.key))
        .client_ca_root(Certificate::from_pem(authority.pem()))
}

/// Listens on a port, even if connections of an earlier server on it are still closing.
async fn listener(port: u16) -> TcpListener {
    let deadline = Instant::now() + TIMEOUT;
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
    /// When no request arrives.
    pub fn request(&self) -> DiscoveryRequest {
        let request = self.requests.recv_timeout(TIMEOUT);
        request.expect("the client sends a request")
    }

    /// Stops reading requests after the next one.
    pub fn stop_reading(&self) {
        self.is_deaf.store(true, Ordering::SeqCst);
    }

    /// Waits until the client ends the stream.
    ///
    /// # Panics
    /// When the client sends another request.
    pub fn ended(&self) {
        match self.requests.recv_timeout(TIMEOUT) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("the stream goes on: {other:?}"),
        }
    }

    /// Sends a snapshot. The nonce is `n` and the version.
    pub fn send(&self, version: &str, configs: &[RateLimitConfig]) {
        self.send_any(version, configs.iter().map(resource).collect());
    }

    /// Sends resources of any type, also invalid ones.
    pub fn send_any(&self, version: &str, resources: Vec<Any>) {
        self.respond(Ok(DiscoveryResponse {
            version_info: version.to_owned(),
            resources,
            type_url: TYPE_URL.to_owned(),
            nonce: format!("n{version}"),
        }));
    }

    /// Sends a response, or ends the stream with a status.
    pub fn respond(&self, response: Result<DiscoveryResponse, Status>) {
        // Sending fails when the client has disconnected; the test notices that.
        let _ = self.responses.send(response);
    }

    /// Sends a snapshot and waits until the client accepts it.
    ///
    /// # Panics
    /// When the client rejects the snapshot.
    pub fn accepted(&self, version: &str, configs: &[RateLimitConfig]) {
        self.send(version, configs);
        let answer = self.request();
        assert_eq!(answer.error_detail, None);
        assert_eq!(answer.version_info, version);
        assert_eq!(answer.response_nonce, format!("n{version}"));
        assert_eq!(answer.type_url, TYPE_URL);
    }

    /// Waits until the client rejects the last response, and returns the reason.
    ///
    /// # Panics
    /// When the client accepts the response, or names another version than the last accepted one.
    pub fn refused(&self, version: &str, accepted: &str) -> String {
        let answer = self.request();
        let detail = answer
            .error_detail
            .expect("the client rejects the response");
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
        // The task ends with the client's side of the stream, or with the runtime.
        tokio::spawn(async move {
            while let Some(Ok(request)) = stream.next().await {
                // The test may have dropped its end.
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
