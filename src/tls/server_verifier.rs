//! Which servers are trusted by the clients here.

use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::anchors::{Anchors, Peer};
use super::provider;

/// What is done about the name in a server's certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NameCheck {
    /// It must be the one that the server is reached by.
    #[default]
    Required,
    /// It may be any. That the certificate is signed by an authority is verified all the same.
    Skipped,
}

/// Who may have signed a server's certificate, beside the authorities of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SystemRoots {
    /// The authorities of the system.
    #[default]
    Trusted,
    /// None.
    Ignored,
}

/// Trusts servers whose certificate an authority signed, or whose certificate is itself an anchor.
#[derive(Debug)]
pub struct ServerVerifier {
    roots: RootCertStore,
    anchors: Anchors,
    names: NameCheck,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    /// Trusts these certificates, as authorities and as they are, and those of others.
    ///
    /// # Errors
    /// When one of them cannot be an authority, or there is none at all.
    pub fn trusting(
        own: Vec<CertificateDer<'static>>,
        others: SystemRoots,
        names: NameCheck,
    ) -> Result<Self, Error> {
        let mut roots = match others {
            SystemRoots::Trusted => of_system().clone(),
            SystemRoots::Ignored => RootCertStore::empty(),
        };
        for certificate in &own {
            roots.add(certificate.clone())?;
        }
        if roots.is_empty() {
            return Err(Error::General(
                "this system has no certificates of authorities, and no file of them is named"
                    .to_owned(),
            ));
        }
        Ok(Self {
            roots,
            anchors: Anchors::new(own),
            names,
            provider: provider(),
        })
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

/// The authorities of the system: read once, they are many.
fn of_system() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.anchors.has(certificate) {
            self.anchors.verify(certificate, Peer::Server, now)?;
        } else {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.algorithms().all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        if self.names == NameCheck::Required {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let anchors = &self.anchors;
        anchors.verify_tls12(message, certificate, signature, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let anchors = &self.anchors;
        anchors.verify_tls13(message, certificate, signature, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}
