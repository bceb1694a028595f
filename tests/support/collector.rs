//! An OpenTelemetry collector that runs in the test and keeps the spans it receives.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::eventually;

/// The protocol of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP.
    Http,
}

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    speaks: Protocol,
    address: std::net::SocketAddr,
    received: Received,
    _runtime: Runtime,
}

#[derive(Debug, Clone, Default)]
struct Received(Arc<Mutex<Vec<Collected>>>);

/// A span that the collector received.
#[derive(Debug, Clone)]
pub struct Collected {
    /// The service that sent it.
    pub resource: Vec<KeyValue>,
    /// The span.
    pub span: Span,
}

impl Collector {
    /// Starts a collector.
    pub fn start(speaks: Protocol) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let received = Received::default();
        let service = received.clone();
        // Both servers end with the runtime.
        match speaks {
            Protocol::Grpc => {
                let server = tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(service))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                runtime.spawn(server);
            }
            Protocol::Http => {
                let take = move |body: Bytes| async move {
                    service.take(ExportTraceServiceRequest::decode(body).unwrap());
                    ExportTraceServiceResponse::default().encode_to_vec()
                };
                let router = Router::new().route("/v1/traces", post(take));
                runtime.spawn(async { axum::serve(listener, router).await });
            }
        }
        Self {
            speaks,
            address,
            received,
            _runtime: runtime,
        }
    }

    /// The URL of the collector.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The environment variables that make a server export traces to the collector every 50 ms.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let protocol = match self.speaks {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http",
        };
        vec![
            ("TRACING_ENABLED", "true".to_owned()),
            ("TRACING_EXPORTER_PROTOCOL", protocol.to_owned()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.url()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ]
    }

    /// All spans with a name that have arrived.
    pub fn spans(&self, name: &str) -> Vec<Collected> {
        let received = self.received.0.lock().unwrap();
        let spans = received
            .iter()
            .filter(|collected| collected.span.name == name);
        spans.cloned().collect()
    }

    /// Waits for `count` spans with a name.
    pub fn wait_for(&self, name: &str, count: usize) -> Vec<Collected> {
        eventually(&format!("{count} spans {name:?} came"), || {
            self.spans(name).len() >= count
        });
        self.spans(name)
    }
}

impl Received {
    fn take(&self, request: ExportTraceServiceRequest) {
        let mut received = self.0.lock().unwrap();
        for of_service in request.resource_spans {
            let resource = of_service.resource.unwrap_or_default().attributes;
            for span in of_service
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                received.push(Collected {
                    resource: resource.clone(),
                    span,
                });
            }
        }
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.take(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collected {
    /// Whether an attribute of the span is an integer.
    pub fn is_integer(&self, name: &str) -> bool {
        let mut attributes = self.span.attributes.iter();
        let attribute = attributes.find(|attribute| attribute.key == name);
        let value = attribute.and_then(|attribute| attribute.value.as_ref()?.value.as_ref());
        matches!(value, Some(Value::IntValue(_)))
    }

    /// An attribute of the span or its service as text; the items of lists are joined by commas.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let mut attributes = self.span.attributes.iter().chain(&self.resource);
        let attribute = attributes.find(|attribute| attribute.key == name)?;
        Some(shown(attribute.value.as_ref()?))
    }
}

fn shown(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => {
            let values: Vec<_> = list.values.iter().map(shown).collect();
            values.join(",")
        }
        other => format!("{other:?}"),
    }
}
