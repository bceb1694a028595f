//! Which clients are let in: those whose certificate an authority signed, and which is for a name.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::anchors::{Anchors, Peer};
use super::{TlsError, pem};
use crate::watch::TextFile;

/// What verifies the certificates of clients; each must show one.
pub(super) fn verifier(
    authorities: &TextFile,
    name: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(pem::authorities(authorities)?);
    let anchors = Anchors::new(pem::certificates(authorities)?);
    let algorithms = provider.signature_verification_algorithms;
    let signed = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|cause| TlsError::Authorities {
            path: authorities.name.clone(),
            cause: cause.to_string(),
        })?;
    Ok(Arc::new(Clients {
        signed,
        anchors,
        algorithms,
        name,
    }))
}

/// Lets in whose certificate an authority signed, or is itself an anchor, and is for a name if one is asked for.
#[derive(Debug)]
struct Clients {
    signed: Arc<dyn ClientCertVerifier>,
    anchors: Anchors,
    algorithms: WebPkiSupportedAlgorithms,
    name: Option<ServerName<'static>>,
}

impl ClientCertVerifier for Clients {
    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.anchors.has(certificate) {
            self.anchors.verify(certificate, Peer::Client, now)?;
        } else {
            self.signed.verify_client_cert(certificate, between, now)?;
        }
        if let Some(name) = &self.name {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let anchors = &self.anchors;
        anchors.verify_tls12(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let anchors = &self.anchors;
        anchors.verify_tls13(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}
