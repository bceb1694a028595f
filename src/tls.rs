//! TLS of the gRPC port: its certificate, which clients are accepted, and how both follow the files that they come
//! from. Also which servers are trusted where ratekeeper is the client.
//!
//! Files are PEM. A change of any file applies to new handshakes; open connections are not affected. Files that cannot
//! be used change nothing.

pub mod pem;

mod anchors;
mod client_verifier;
mod rotation;
mod server_verifier;
mod validity;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig, version};

use crate::watch::{Location, ReadError, TextFile};

pub use anchors::advice;
pub use rotation::{Certificates, follow};
pub use server_verifier::{NameCheck, ServerVerifier, SystemRoots};
pub use validity::Validity;

/// The only application protocol: HTTP/2.
const ALPN: &[u8] = b"h2";

/// Reads the validity of the first certificate in a file; `None` if the file has no readable certificate.
#[must_use]
pub fn validity_in(path: &Path) -> Option<Validity> {
    let files = Location::Path(path.to_owned()).read().ok()?;
    let mut chains = files.iter().filter_map(|file| pem::certificates(file).ok());
    validity::of(chains.next()?.first()?)
}

/// Certificates of a server, and which clients it accepts.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// Path of the certificate, followed by intermediate certificates.
    pub certificate: PathBuf,
    /// Path of the private key of the certificate.
    pub key: PathBuf,
    /// Which clients are accepted; `None` for all, without a certificate.
    pub clients: Option<ClientAuth>,
}

/// Which clients are accepted.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// Path of the certificates of the authorities that sign client certificates.
    pub authorities: PathBuf,
    /// Subject alternative name that client certificates must have.
    pub name: Option<ServerName<'static>>,
}

/// A certificate or key that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file does not exist.
    #[error("{} cannot be read because {} does not exist", path.display(), missing.display())]
    Missing {
        /// Path of the file.
        path: PathBuf,
        /// The first part of the path that does not exist.
        missing: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(ReadError),
    /// A file does not contain what it should.
    #[error("{path} has no {what}; it must contain one as PEM, from BEGIN to END")]
    Nothing {
        /// Path of the file.
        path: String,
        /// What the file should contain.
        what: &'static str,
    },
    /// A file is damaged.
    #[error("{path} is not valid PEM: {cause}")]
    Damaged {
        /// Path of the file.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// Certificate and key do not match, or one of them is of an unsupported kind.
    #[error("the certificate in {certificate} cannot be used with the key in {key}: {cause}")]
    Pair {
        /// Path of the certificate.
        certificate: String,
        /// Path of the key.
        key: String,
        /// What is wrong.
        cause: String,
    },
    /// A certificate of an authority cannot be used.
    #[error("the certificates in {path} cannot be used to verify clients: {cause}")]
    Authorities {
        /// Path of the file.
        path: String,
        /// What is wrong.
        cause: String,
    },
}

impl From<ReadError> for TlsError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound { path, missing } | ReadError::DanglingLink { path, missing } => {
                Self::Missing { path, missing }
            }
            ReadError::NotUtf8 { path, .. } => Self::Damaged {
                path: path.display().to_string(),
                cause: "it is not text; if it is DER, convert it to PEM with openssl".to_owned(),
            },
            ReadError::NotAFile { path } => Self::Damaged {
                path: path.display().to_string(),
                cause: "it is not a regular file; give the path of a file".to_owned(),
            },
            other => Self::File(other),
        }
    }
}

/// Certificates that were read.
#[derive(Debug, Clone)]
pub struct Loaded {
    config: Arc<ServerConfig>,
    /// Validity of the certificate; `None` if it cannot be parsed.
    validity: Option<Validity>,
}

impl ServerTls {
    /// Reads the certificates.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn load(&self) -> Result<Loaded, TlsError> {
        self.parse(&self.location().read()?)
    }

    /// Returns everything that is wrong with the files.
    #[must_use]
    pub fn mistakes(&self) -> Vec<TlsError> {
        let unreadable = self.files().into_iter().filter_map(|path| {
            let file = Location::Files(vec![path]).read();
            file.err().map(TlsError::from)
        });
        let unreadable: Vec<_> = unreadable.collect();
        if !unreadable.is_empty() {
            return unreadable;
        }
        // Each file separately: together, the first error would hide the others.
        let files = match self.location().read() {
            Ok(files) => files,
            Err(error) => return vec![error.into()],
        };
        let authorities = self.clients.as_ref().map(|clients| &clients.authorities);
        let alone = [
            pem::certificates(file(&files, &self.certificate)).err(),
            pem::key(file(&files, &self.key)).err(),
            authorities.and_then(|path| pem::authorities(file(&files, path)).err()),
        ];
        let alone: Vec<_> = alone.into_iter().flatten().collect();
        if !alone.is_empty() {
            return alone;
        }
        self.parse(&files).err().into_iter().collect()
    }

    fn location(&self) -> Location {
        Location::Files(self.files())
    }

    fn files(&self) -> Vec<PathBuf> {
        let authorities = self.clients.iter().map(|clients| &clients.authorities);
        let all = [&self.certificate, &self.key]
            .into_iter()
            .chain(authorities);
        all.cloned().collect()
    }

    fn parse(&self, files: &[TextFile]) -> Result<Loaded, TlsError> {
        let file = |path: &PathBuf| file(files, path);
        let (certificate, key) = (file(&self.certificate), file(&self.key));
        let chain = pem::certificates(certificate)?;
        let validity = chain.first().and_then(validity::of);
        let pair = |cause: rustls::Error| {
            TlsError::Pair {
            certificate: certificate.name.clone(),
            key: key.name.clone(),
            cause: match cause {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    "the key belongs to another certificate; the certificate of the server must come first in the file".to_owned()
                }
                rustls::Error::General(_) => {
                    "its kind is not supported; use ECDSA (P-256, P-384), Ed25519, or RSA with at least 2048 bits"
                        .to_owned()
                }
                cause => cause.to_string(),
            },
        }
        };
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(pair)?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(client_verifier::verifier(
                file(&clients.authorities),
                clients.name.clone(),
                provider,
            )?),
        };
        let mut config = builder
            .with_single_cert(chain, pem::key(key)?)
            .map_err(pair)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Loaded {
            config: Arc::new(config),
            validity,
        })
    }
}

/// Returns the contents of a file of the location.
fn file<'f>(files: &'f [TextFile], path: &Path) -> &'f TextFile {
    let name = path.display().to_string();
    files
        .iter()
        .find(|file| file.name == name)
        .expect("every file of the location was read")
}

/// Returns the cryptography of all TLS connections. It is passed explicitly everywhere, so that no library can install
/// another default.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests;
