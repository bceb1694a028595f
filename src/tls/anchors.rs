//! Certificates of peers that are trusted because the file of authorities contains them.
//!
//! webpki only accepts certificates that an authority signed. It rejects the certificate of an authority itself
//! (self-signed with `CA:TRUE`, as `openssl req -x509` creates them) and X.509 version 1. crypto/tls of Go, and thus
//! envoyproxy/ratelimit, also accepts a certificate that is itself among the authorities. Here, such a certificate must
//! be identical; its dates, purpose and name are checked, and the signature of the handshake as for any other
//! certificate.

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::ExtendedKeyUsage;

const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

/// Critical extensions that are allowed in a trusted certificate: key usage, subject alternative name, basic
/// constraints, name constraints and extended key usage. Names and purposes are checked; the others do not apply to a
/// certificate that is trusted itself.
const ALLOWED_EXTENSIONS: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.30"),
    EXTENDED_KEY_USAGE,
];

const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// The role of the peer that presents a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A server.
    Server,
    /// A client.
    Client,
}

impl Peer {
    fn purpose(self) -> ObjectIdentifier {
        match self {
            Self::Server => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
            Self::Client => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
        }
    }
}

/// Certificates that are trusted if a peer presents one of them.
#[derive(Debug, Clone)]
pub(super) struct Anchors {
    certificates: Vec<CertificateDer<'static>>,
    /// Signature algorithms of handshakes.
    algorithms: WebPkiSupportedAlgorithms,
}

impl Anchors {
    pub(super) fn new(
        certificates: Vec<CertificateDer<'static>>,
        provider: &CryptoProvider,
    ) -> Self {
        Self {
            certificates,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Returns whether a certificate is identical to one of the anchors.
    pub(super) fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|anchor| anchor == certificate)
    }

    /// Verifies the dates and the purpose of a certificate that is an anchor, but not its name.
    pub(super) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        peer: Peer,
        now: UnixTime,
    ) -> Result<(), Error> {
        if !self.has(certificate) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let certificate =
            Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let content = certificate.tbs_certificate();
        let validity = content.validity();
        let not_before = UnixTime::since_unix_epoch(validity.not_before.to_unix_duration());
        let not_after = UnixTime::since_unix_epoch(validity.not_after.to_unix_duration());
        let time = now;
        if time < not_before {
            return Err(CertificateError::NotValidYetContext { time, not_before }.into());
        }
        if time > not_after {
            return Err(CertificateError::ExpiredContext { time, not_after }.into());
        }
        for extension in content.extensions().into_iter().flatten() {
            if extension.extn_id == EXTENDED_KEY_USAGE {
                let purposes = ExtendedKeyUsage::from_der(extension.extn_value.as_bytes());
                let purposes = purposes.map_err(|_| CertificateError::BadEncoding)?;
                let fits = |purpose: &ObjectIdentifier| {
                    *purpose == ANY_PURPOSE || *purpose == peer.purpose()
                };
                if !purposes.0.iter().any(fits) {
                    return Err(CertificateError::InvalidPurpose.into());
                }
            } else if extension.critical && !ALLOWED_EXTENSIONS.contains(&extension.extn_id) {
                return Err(CertificateError::UnhandledCriticalExtension.into());
            }
        }
        Ok(())
    }

    /// Verifies the signature of a TLS 1.2 handshake.
    ///
    /// For certificates of version 1, fewer kinds of signatures are accepted than TLS 1.2 has, and none that is weaker.
    pub(super) fn verify_tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_version_1(message, certificate, signature)
            .unwrap_or_else(|| {
                verify_tls12_signature(message, certificate, signature, &self.algorithms)
            })
    }

    /// Verifies the signature of a TLS 1.3 handshake.
    pub(super) fn verify_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_version_1(message, certificate, signature)
            .unwrap_or_else(|| {
                verify_tls13_signature(message, certificate, signature, &self.algorithms)
            })
    }

    /// Verifies a signature with the key of an anchor that the library cannot parse, because it is of version 1; `None`
    /// for other certificates.
    fn verify_version_1(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Option<Result<HandshakeSignatureValid, Error>> {
        let key = self.key_of_version_1(certificate)?;
        let algorithms = &self.algorithms;
        Some(verify_tls13_signature_with_raw_key(
            message, &key, signature, algorithms,
        ))
    }

    /// Returns the key of an anchor that the library cannot parse, because it is of version 1.
    fn key_of_version_1(
        &self,
        certificate: &CertificateDer<'_>,
    ) -> Option<SubjectPublicKeyInfoDer<'static>> {
        if ParsedCertificate::try_from(certificate).is_ok() || !self.has(certificate) {
            return None;
        }
        let certificate = Certificate::from_der(certificate).ok()?;
        let key = certificate.tbs_certificate().subject_public_key_info();
        Some(SubjectPublicKeyInfoDer::from(key.to_der().ok()?))
    }
}

/// Returns what to do about a certificate of a peer that is rejected; empty if there is no advice.
///
/// `authorities` is the option for the file of authorities, `names` the advice for a certificate with another name.
#[must_use]
pub fn advice(error: &CertificateError, authorities: &str, names: &str) -> String {
    use CertificateError::{
        Expired, ExpiredContext, InvalidPurpose, InvalidPurposeContext, NotValidForName,
        NotValidForNameContext, NotValidYet, NotValidYetContext, Other, UnknownIssuer,
    };
    match error {
        UnknownIssuer => {
            format!(
                "{authorities} must contain the authority that signed it, or the certificate itself"
            )
        }
        NotValidForName | NotValidForNameContext { .. } => names.to_owned(),
        Expired | ExpiredContext { .. } => "it has expired; replace it".to_owned(),
        NotValidYet | NotValidYetContext { .. } => {
            "it is not valid yet; compare the clocks".to_owned()
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "its extended key usage does not allow this; create one with serverAuth or clientAuth"
                .to_owned()
        }
        Other(other) => match format!("{other:?}") {
            text if text.contains("CaUsedAsEndEntity") => format!(
                "it is the certificate of an authority (CA:TRUE); add this certificate to {authorities}, or use one without CA:TRUE"
            ),
            text if text.contains("UnsupportedCertVersion") => format!(
                "it is of X.509 version 1, which has no subjectAltName; replace it by one of version 3 with a subjectAltName, or \
                 add this certificate to {authorities} and do not check the name"
            ),
            _ => String::new(),
        },
        _ => String::new(),
    }
}
