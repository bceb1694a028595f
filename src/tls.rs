//! TLS of the gRPC server: what certificate it shows, whose clients it lets in, and how both follow the
//! files that they come from. Also which servers are trusted where this is a client.
//!
//! Files are PEM, and rustls does the rest. A change of any file makes everything anew, for handshakes to
//! come; connections that are open keep what they have. What cannot be used changes nothing.

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

pub use anchors::{Anchors, Peer, advice};
pub use rotation::{Certificates, follow};
pub use server_verifier::{NameCheck, ServerVerifier, SystemRoots};
pub use validity::Validity;

/// The one protocol that is spoken within: HTTP/2.
const ALPN: &[u8] = b"h2";

/// Reads the validity of the first certificate in a file; `None` if the file has no readable certificate.
#[must_use]
pub fn validity_in(path: &Path) -> Option<Validity> {
    let files = Location::Path(path.to_owned()).read().ok()?;
    let mut chains = files.iter().filter_map(|file| pem::certificates(file).ok());
    validity::of(chains.next()?.first()?)
}

/// What a server shows and asks for.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// The certificate, then those between it and an authority.
    pub certificate: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
    /// Who signs the certificates of clients; `None` asks clients for none.
    pub clients: Option<Clients>,
}

/// Which clients are let in.
#[derive(Debug, Clone)]
pub struct Clients {
    /// The authorities that may have signed their certificates.
    pub authorities: PathBuf,
    /// A name that their certificates must be for.
    pub name: Option<ServerName<'static>>,
}

/// Why certificates cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is not there.
    #[error("{} cannot be read because {} does not exist", path.display(), missing.display())]
    Missing {
        /// What should have been read.
        path: PathBuf,
        /// The first part of it that is not there.
        missing: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(ReadError),
    /// A file has something else in it.
    #[error("{path} has no {what} in it; it must hold one as PEM, from BEGIN to END")]
    Nothing {
        /// The file.
        path: String,
        /// What it should have.
        what: &'static str,
    },
    /// A file is damaged.
    #[error("{path} is no PEM that can be read: {cause}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Certificate and key do not go together, or one of them is of a kind that is not known.
    #[error("the certificate in {certificate} cannot be used with the key in {key}: {cause}")]
    Pair {
        /// The file of the certificate.
        certificate: String,
        /// The file of the key.
        key: String,
        /// What is wrong.
        cause: String,
    },
    /// An authority cannot be used.
    #[error("the certificates in {path} cannot be used to verify clients: {cause}")]
    Authorities {
        /// The file.
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
                cause: "it is not text; is it DER? Then have openssl make PEM of it".to_owned(),
            },
            ReadError::NotAFile { path } => Self::Damaged {
                path: path.display().to_string(),
                cause: "it is a directory or the like; name the file in it".to_owned(),
            },
            other => Self::File(other),
        }
    }
}

/// What handshakes are made with.
#[derive(Debug, Clone)]
pub struct Loaded {
    config: Arc<ServerConfig>,
    /// When the certificate is valid; `None` if it cannot be parsed.
    validity: Option<Validity>,
}

impl ServerTls {
    /// What handshakes can be made with, by what the files say now.
    ///
    /// # Errors
    /// When a file cannot be read, or not be used.
    pub fn load(&self) -> Result<Loaded, TlsError> {
        self.understand(&self.location().read()?)
    }

    /// Everything that is wrong with the files now.
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
        // Each for itself first: together, the first that cannot be used hides the others.
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
        self.understand(&files).err().into_iter().collect()
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

    fn understand(&self, files: &[TextFile]) -> Result<Loaded, TlsError> {
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
                    "the key belongs to another certificate; the server's own must come first in the file".to_owned()
                }
                rustls::Error::General(_) => {
                    "it is of a kind that is not spoken here; use ECDSA (P-256, P-384), Ed25519, or RSA from 2048 bits"
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

/// What a file said.
fn file<'f>(files: &'f [TextFile], path: &Path) -> &'f TextFile {
    let name = path.display().to_string();
    files
        .iter()
        .find(|file| file.name == name)
        .expect("every file of the location was read")
}

/// The cryptography of all TLS here. Chosen by hand everywhere, so that no library sets another.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests;
