//! Sends spans, on a runtime that is not one of those that serve requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::{Resource, trace};
use tokio::runtime::Handle;

use super::Protocol;

/// The longest that an HTTP collector may take; the exporter gives up earlier if it is told to.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// An exporter that speaks that protocol and works on that runtime.
pub(super) fn exporter(
    protocol: Protocol,
    runtime: &Handle,
) -> Result<OnRuntime, ExporterBuildError> {
    let _within = runtime.enter();
    let exporter = match protocol {
        Protocol::Grpc => SpanExporter::builder().with_tonic().build(),
        Protocol::Http => {
            let http = SpanExporter::builder()
                .with_http()
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
            let provider = tokio_rustls::rustls::crypto::ring::default_provider();
            match HttpsConnectorBuilder::new().with_provider_and_native_roots(provider) {
                Ok(https) => {
                    let https = https.https_or_http().enable_http1().build();
                    http.with_http_client(HyperClient::new(https, HTTP_TIMEOUT, None))
                }
                Err(error) => {
                    // A small image has none, and most collectors are near by.
                    tracing::info!(%error, "traces can be sent by plain HTTP only");
                    http.with_http_client(HyperClient::with_default_connector(HTTP_TIMEOUT, None))
                }
            }
            .build()
        }
    };
    Ok(OnRuntime {
        exporter: Arc::new(exporter?),
        runtime: runtime.clone(),
        is_failing: AtomicBool::new(false),
    })
}

/// An exporter whose work is done on a runtime. The thread that collects spans has none, and the network needs one.
#[derive(Debug)]
pub(super) struct OnRuntime {
    exporter: Arc<SpanExporter>,
    runtime: Handle,
    /// Whether the last batch could not be sent.
    is_failing: AtomicBool,
}

impl OnRuntime {
    /// Tells of a change; the libraries would tell of every batch.
    fn told(&self, sent: OTelSdkResult) -> OTelSdkResult {
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !was_failing => tracing::warn!(
                %error,
                "traces cannot be sent, and are dropped; is the collector where OTEL_EXPORTER_OTLP_ENDPOINT says?"
            ),
            Ok(()) if was_failing => tracing::warn!("traces are sent again"),
            _ => {}
        }
        sent
    }
}

impl trace::SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = Arc::clone(&self.exporter);
        let sent = self
            .runtime
            .spawn(async move { exporter.export(batch).await });
        let sent = sent.await;
        self.told(
            sent.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string()))),
        )
    }

    fn set_resource(&mut self, resource: &Resource) {
        let exporter = Arc::get_mut(&mut self.exporter);
        exporter
            .expect("nothing is sent before the resource is known")
            .set_resource(resource);
    }
}
