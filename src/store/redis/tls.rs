//! TLS settings for Redis. Files are read for each connection, so that certificates can be rotated while the
//! server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, version};

use crate::tls::{ServerVerifier, provider};

pub use crate::tls::{NameCheck, SystemRoots};

/// TLS settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// File with CA certificates; a certificate in it is also trusted itself. `None`: only the roots of the
    /// system are trusted.
    pub authorities: Option<PathBuf>,
    /// Whether the roots of the system are trusted as well if there is a file.
    pub others: SystemRoots,
    /// Certificate for servers that require one of the client.
    pub client: Option<ClientCertificate>,
    /// Whether the certificate must match the host name.
    pub names: NameCheck,
}

/// PEM files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and its intermediate certificates.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// TLS settings that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{} cannot be read as a PEM file: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// A file contains no certificate.
    #[error("{} has no certificate in it; it must hold them as PEM", .0.display())]
    Nothing(PathBuf),
    /// Certificates or keys are not valid.
    #[error("{what} cannot be used: {cause}")]
    Unusable {
        /// Description of the certificates.
        what: String,
        /// The cause.
        cause: rustls::Error,
    },
}

impl RedisTls {
    /// Reads the files and returns the configuration for handshakes.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let unusable = |what: &str, cause| TlsError::Unusable {
            what: what.to_owned(),
            cause,
        };
        let (own, what) = match &self.authorities {
            Some(path) => (
                certificates(path)?,
                format!("the authorities in {}", path.display()),
            ),
            None => (Vec::new(), "REDIS_TLS_CACERT".to_owned()),
        };
        let verifier = ServerVerifier::trusting(own, self.others, self.names)
            .map_err(|cause| unusable(&what, cause))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|cause| unusable("TLS", cause))?;
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some(client) = &self.client else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain = certificates(&client.certificate)?;
        let key =
            PrivateKeyDer::from_pem_file(&client.key).map_err(|e| damaged(&client.key, &e))?;
        let config = builder.with_client_auth_cert(chain, key).map_err(|cause| {
            let (certificate, key) = (client.certificate.display(), client.key.display());
            unusable(
                &format!("the certificate in {certificate} with the key in {key}"),
                cause,
            )
        })?;
        Ok(Arc::new(config))
    }
}

fn damaged(path: &Path, cause: &dyn std::fmt::Display) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| damaged(path, &error))?;
    let read: Vec<_> = read
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(path, &error))?;
    match read.is_empty() {
        true => Err(TlsError::Nothing(path.to_owned())),
        false => Ok(read),
    }
}
