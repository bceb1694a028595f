//! Which clients are accepted: those with a certificate that an authority signed, and that has the required name.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::anchors::{Anchors, Peer};
use super::{TlsError, pem};
use crate::watch::TextFile;

/// Returns a verifier that requires a certificate from each client.
pub(super) fn verifier(
    authorities: &TextFile,
    name: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(pem::authorities(authorities)?);
    let anchors = Anchors::new(pem::certificates(authorities)?, &provider);
    let signed = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|cause| TlsError::Authorities {
            path: authorities.name.clone(),
            cause: cause.to_string(),
        })?;
    Ok(Arc::new(ClientVerifier {
        signed,
        anchors,
        name,
    }))
}

/// Accepts clients with a certificate that an authority signed or that is an anchor, and that has the required name.
#[derive(Debug)]
struct ClientVerifier {
    signed: Arc<dyn ClientCertVerifier>,
    anchors: Anchors,
    name: Option<ServerName<'static>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.anchors.has(certificate) {
            self.anchors.verify(certificate, Peer::Client, now)?;
        } else {
            self.signed
                .verify_client_cert(certificate, intermediates, now)?;
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
        self.signed.supported_verify_schemes()
    }
}
