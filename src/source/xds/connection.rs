//! Connections to the management server: plaintext or TLS, with keepalive.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity};

use super::error::StreamError;
use super::{Settings, TlsFiles};
use crate::tls::{NameCheck, ServerVerifier, SystemRoots, pem};
use crate::watch::{Location, ReadError, TextFile};

/// Option with the path of the CA certificates.
const CA_OPTION: &str = "CONFIG_GRPC_XDS_SERVER_TLS_CACERT";

/// Maximum time to establish a connection, handshakes included. If packets are dropped because the server has not started, the
/// kernel retries after 1, 3 and 7 seconds; a new attempt is sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time to wait for the answer to a keepalive ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// TCP keepalive detects a lost host within a minute and a half. HTTP/2 pings also detect a hanging process, but gRPC servers
/// in Go close connections with more than one ping in five minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_RETRIES: u32 = 3;

pub(super) async fn connect(settings: &Settings) -> Result<Channel, StreamError> {
    let endpoint = endpoint(settings).await?;
    match timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(StreamError::of_connection(settings, &error).with_hint(settings)),
        Err(_) => Err(StreamError::no_answer(settings, CONNECT_TIMEOUT)),
    }
}

async fn endpoint(settings: &Settings) -> Result<Endpoint, StreamError> {
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", settings.server))
        .and_then(|endpoint| endpoint.user_agent(agent))
        .map_err(|error| StreamError::of_connection(settings, &error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(Some(TCP_KEEPALIVE))
        .tcp_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL))
        .tcp_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES))
        .http2_keep_alive_interval(settings.keepalive)
        .keep_alive_timeout(settings.keepalive.min(KEEPALIVE_TIMEOUT));
    let Some(files) = settings.tls.clone() else {
        return Ok(endpoint);
    };
    // A file system can hang, and must not block the runtime.
    let reading = tokio::task::spawn_blocking(move || tls(&files));
    let (tls, verifier) = reading.await.expect("reading files does not panic")?;
    let configured = endpoint.tls_config_with_verifier(tls, verifier);
    configured.map_err(|error| StreamError::of_certificates(&error))
}

/// Returns the TLS settings. The client trusts the CA certificates of the system and of the file, and server certificates that
/// are in the file.
fn tls(files: &TlsFiles) -> Result<(ClientTlsConfig, Arc<ServerVerifier>), StreamError> {
    let own = match &files.authority {
        Some(path) => {
            let text = read(CA_OPTION, path, "certificate")?;
            let file = TextFile {
                name: path.display().to_string(),
                text,
            };
            pem::certificates(&file)
                .map_err(|error| StreamError::of_file(CA_OPTION, &error.to_string()))?
        }
        None => Vec::new(),
    };
    let verifier = ServerVerifier::trusting(own, SystemRoots::Trusted, NameCheck::Required)
        .map_err(|error| StreamError::of_file(CA_OPTION, &error.to_string()))?;
    let mut tls = ClientTlsConfig::new();
    if let Some((certificate, key)) = &files.identity {
        let certificate = read(
            "CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
            certificate,
            "certificate",
        )?;
        let key = read("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", key, "private key")?;
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    if let Some(name) = &files.server_name {
        tls = tls.domain_name(name);
    }
    Ok((tls, Arc::new(verifier)))
}

/// Returns the text of a file that contains `what` in PEM.
fn read(option: &str, path: &Path, what: &str) -> Result<String, StreamError> {
    let files = Location::Path(path.to_owned()).read();
    let files = files.map_err(|error| match error {
        ReadError::NotFound { path, .. } => {
            let wrong = format!("{} does not exist; check what is mounted", path.display());
            StreamError::of_file(option, &wrong)
        }
        other => StreamError::of_file(option, &other.to_string()),
    })?;
    // The header can name the kind, as in "BEGIN EC PRIVATE KEY".
    let end = format!("{}-----", what.to_uppercase());
    let is_header = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&end);
    let mut texts = files.into_iter().map(|file| file.text);
    let text = texts.find(|text| text.lines().any(is_header));
    text.ok_or_else(|| {
        let wrong = format!("{} has no {what} in PEM", path.display());
        StreamError::of_file(option, &wrong)
    })
}
