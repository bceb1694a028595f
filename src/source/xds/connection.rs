//! A connection to the management server: plaintext or TLS, with what notices that it is dead.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity};

use super::trouble::Trouble;
use super::{Settings, TlsFiles};
use crate::tls::{NameCheck, ServerVerifier, SystemRoots, pem};
use crate::watch::{Location, ReadError, TextFile};

/// The option that names the file of authorities.
const AUTHORITIES: &str = "CONFIG_GRPC_XDS_SERVER_TLS_CACERT";

/// How long a connection and its handshakes may take to come about. Where packets to a server that is not there yet
/// are dropped, the kernel asks again after 1, 3 and 7 seconds, and a new attempt asks at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server may take to say that it is alive, at most.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The kernel's own probes notice a host that vanished within a minute and a half. Pings of HTTP/2
/// notice a process that hangs, too, but gRPC servers in Go cut connections that ping more often than
/// every five minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_RETRIES: u32 = 3;

pub(super) async fn connect(settings: &Settings) -> Result<Channel, Trouble> {
    let endpoint = endpoint(settings).await?;
    match timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(Trouble::of_connection(settings, &error).at_first(settings)),
        Err(_) => Err(Trouble::no_answer(settings, CONNECT_TIMEOUT)),
    }
}

async fn endpoint(settings: &Settings) -> Result<Endpoint, Trouble> {
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", settings.server))
        .and_then(|endpoint| endpoint.user_agent(agent))
        .map_err(|error| Trouble::of_connection(settings, &error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(Some(TCP_KEEPALIVE))
        .tcp_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL))
        .tcp_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES))
        .http2_keep_alive_interval(settings.keepalive)
        .keep_alive_timeout(settings.keepalive.min(KEEPALIVE_TIMEOUT));
    let Some(files) = settings.tls.clone() else {
        return Ok(endpoint);
    };
    // File systems can hang; whoever runs this must not.
    let reading = tokio::task::spawn_blocking(move || tls(&files));
    let (tls, verifier) = reading.await.expect("reading files does not panic")?;
    let configured = endpoint.tls_config_with_verifier(tls, verifier);
    configured.map_err(|error| Trouble::of_certificates(&error))
}

/// What the client shows, and whom it trusts: the authorities of the system and of the file, and a certificate that is
/// itself in the file.
fn tls(files: &TlsFiles) -> Result<(ClientTlsConfig, Arc<ServerVerifier>), Trouble> {
    let own = match &files.authority {
        Some(path) => {
            let text = read(AUTHORITIES, path, "certificate")?;
            let file = TextFile {
                name: path.display().to_string(),
                text,
            };
            pem::certificates(&file)
                .map_err(|error| Trouble::of_file(AUTHORITIES, &error.to_string()))?
        }
        None => Vec::new(),
    };
    let verifier = ServerVerifier::trusting(own, SystemRoots::Trusted, NameCheck::Required)
        .map_err(|error| Trouble::of_file(AUTHORITIES, &error.to_string()))?;
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

/// The text of a file that has one of these in PEM.
fn read(option: &str, path: &Path, what: &str) -> Result<String, Trouble> {
    let files = Location::Path(path.to_owned()).read();
    let files = files.map_err(|error| match error {
        ReadError::NotFound { path, .. } => {
            let wrong = format!("{} does not exist; check what is mounted", path.display());
            Trouble::of_file(option, &wrong)
        }
        other => Trouble::of_file(option, &other.to_string()),
    })?;
    // The header may say more of its kind, as in "BEGIN EC PRIVATE KEY".
    let end = format!("{}-----", what.to_uppercase());
    let is_header = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&end);
    let mut texts = files.into_iter().map(|file| file.text);
    let text = texts.find(|text| text.lines().any(is_header));
    text.ok_or_else(|| {
        let wrong = format!("{} has no {what} in PEM", path.display());
        Trouble::of_file(option, &wrong)
    })
}
