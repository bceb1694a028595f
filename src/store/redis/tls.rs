//! TLS to Redis: whom to trust, and what to show. Everything is read from its files for each connection, so that
//! certificates can be exchanged while the server runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version,
};

/// How TLS is spoken to servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// The authorities that may have signed the server's certificate; `None`: those of the system.
    pub authorities: Option<PathBuf>,
    /// What to show to a server that asks who we are.
    pub client: Option<ClientCertificate>,
    /// Whether the certificate must be for the name that the server is reached by.
    pub names: Names,
}

/// A certificate and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and those between it and an authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What is done about the name in a server's certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// It must be the one that the server is reached by.
    #[default]
    Verified,
    /// It may be any. That the certificate is signed by an authority is verified all the same.
    Ignored,
}

/// Why certificates cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{} cannot be read as a PEM file: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A file has no certificate in it.
    #[error("{} has no certificate in it; it must hold them as PEM", .0.display())]
    Nothing(PathBuf),
    /// The system has no authorities.
    #[error(
        "this system has no certificates of authorities; name a file with them in REDIS_TLS_CACERT"
    )]
    NoAuthorities,
    /// What was read cannot be used.
    #[error("{what} cannot be used: {cause}")]
    Unusable {
        /// The authorities, or the client's certificate.
        what: String,
        /// Why.
        cause: rustls::Error,
    },
}

impl RedisTls {
    /// What handshakes are made with, by what the files say now.
    ///
    /// # Errors
    /// When a file cannot be read, or not be used.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = match &self.authorities {
            Some(path) => Arc::new(authorities(path)?),
            None => of_system()?,
        };
        let provider = provider();
        let unusable = |what: &str, cause| TlsError::Unusable {
            what: what.to_owned(),
            cause,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|cause| unusable("TLS", cause))?;
        let builder = match self.names {
            Names::Verified => {
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider);
                let verifier = verifier.build().map_err(|error| {
                    unusable("the authorities", rustls::Error::General(error.to_string()))
                })?;
                builder.with_webpki_verifier(verifier)
            }
            Names::Ignored => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName { roots, provider })),
        };
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
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

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|cause| TlsError::Unusable {
            what: format!("the authorities in {}", path.display()),
            cause,
        })?;
    }
    Ok(roots)
}

/// The authorities of the system: read once, they are many.
fn of_system() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => Err(TlsError::NoAuthorities),
        false => Ok(Arc::clone(roots)),
    }
}

/// Verifies all of a certificate but whose it is.
#[derive(Debug)]
struct AnyName {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
