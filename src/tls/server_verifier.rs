//! Which servers are trusted where ratekeeper is the client.

use std::sync::OnceLock;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::WebPkiSupportedAlgorithms;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::anchors::{Anchors, Peer};
use super::provider;

/// Whether the name in the certificate of a server is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NameCheck {
    /// The certificate must have the name that the client connects to.
    #[default]
    Required,
    /// The certificate can have any name. It must still be signed by an authority.
    Skipped,
}

/// Whether the authorities of the system are trusted in addition to those of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SystemRoots {
    /// They are trusted.
    #[default]
    Trusted,
    /// They are not trusted.
    Ignored,
}

/// Trusts servers with a certificate that an authority signed or that is an anchor.
#[derive(Debug)]
pub struct ServerVerifier {
    roots: RootCertStore,
    anchors: Anchors,
    names: NameCheck,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    /// Creates a verifier that trusts the certificates in `own`, as authorities and as anchors, and those of the system
    /// if `system` says so.
    ///
    /// # Errors
    /// A certificate cannot be an authority, or there is no authority.
    pub fn trusting(
        own: Vec<CertificateDer<'static>>,
        system: SystemRoots,
        names: NameCheck,
    ) -> Result<Self, Error> {
        let mut roots = match system {
            SystemRoots::Trusted => system_roots().clone(),
            SystemRoots::Ignored => RootCertStore::empty(),
        };
        for certificate in &own {
            roots.add(certificate.clone())?;
        }
        if roots.is_empty() {
            return Err(Error::General(
                "the system has no certificates of authorities, and no file of them is configured"
                    .to_owned(),
            ));
        }
        let provider = provider();
        Ok(Self {
            roots,
            anchors: Anchors::new(own, &provider),
            names,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

/// Returns the authorities of the system. They are read once, because there are many.
fn system_roots() -> &'static RootCertStore {
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
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                self.algorithms.all,
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
        self.anchors.verify_tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.anchors.verify_tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
