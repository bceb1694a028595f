//! Certificates that are trusted as they are, because the file of authorities has them.
//!
//! webpki takes a peer's certificate only when an authority signed it; it rejects the certificate of an authority itself
//! (`openssl req -x509` makes such: self-signed, `CA:TRUE`) and X.509 version 1. Go's crypto/tls, and so envoyproxy/ratelimit,
//! also takes one that is itself among the authorities. Here, such a certificate must be the same to the byte; its dates,
//! purpose and name are checked, and the signature of the handshake with its key as for any other.

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
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

/// Critical extensions that do not change whether a certificate that is trusted itself may be used: key usage, subject
/// alternative name, basic constraints, name constraints and extended key usage. The names and purposes are looked at.
const UNDERSTOOD: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.30"),
    EXTENDED_KEY_USAGE,
];

const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// Who shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
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

/// Certificates that are trusted when a peer shows one of them.
#[derive(Debug, Clone, Default)]
pub struct Anchors(Vec<CertificateDer<'static>>);

impl Anchors {
    /// These certificates.
    #[must_use]
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self(certificates)
    }

    /// Whether this is one of them, to the byte.
    #[must_use]
    pub fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0.iter().any(|anchor| anchor == certificate)
    }

    /// Verifies dates and purpose of a certificate that is one of these; not its name.
    ///
    /// # Errors
    /// When it cannot be read, is not valid now, or is not for peers of this kind.
    pub fn verify(
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
            } else if extension.critical && !UNDERSTOOD.contains(&extension.extn_id) {
                return Err(CertificateError::UnhandledCriticalExtension.into());
            }
        }
        Ok(())
    }

    /// Verifies the signature of a handshake of TLS 1.2.
    pub(super) fn verify_tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.key_of_version_1(certificate) {
            // Takes fewer kinds of signatures than TLS 1.2 has, and none that is weaker.
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, signature, algorithms),
            None => verify_tls12_signature(message, certificate, signature, algorithms),
        }
    }

    /// Verifies the signature of a handshake of TLS 1.3.
    pub(super) fn verify_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.key_of_version_1(certificate) {
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, signature, algorithms),
            None => verify_tls13_signature(message, certificate, signature, algorithms),
        }
    }

    /// The key of one of these that the library cannot read, which is so for version 1.
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

/// What to do about a peer's certificate that is rejected; empty when there is no advice.
///
/// `authorities` is the option that names the file of authorities, `names` what to look at when the certificate is for
/// another name.
#[must_use]
pub fn advice(wrong: &CertificateError, authorities: &str, names: &str) -> String {
    use CertificateError::{
        Expired, ExpiredContext, InvalidPurpose, InvalidPurposeContext, NotValidForName,
        NotValidForNameContext, NotValidYet, NotValidYetContext, Other, UnknownIssuer,
    };
    match wrong {
        UnknownIssuer => {
            format!(
                "{authorities} must have the authority that signed it, or the certificate itself"
            )
        }
        NotValidForName | NotValidForNameContext { .. } => names.to_owned(),
        Expired | ExpiredContext { .. } => "it has expired, replace it".to_owned(),
        NotValidYet | NotValidYetContext { .. } => {
            "it is not valid yet, compare the clocks".to_owned()
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "its extended key usage does not allow this, make one with serverAuth or clientAuth"
                .to_owned()
        }
        Other(other) => match format!("{other:?}") {
            text if text.contains("CaUsedAsEndEntity") => format!(
                "it is the certificate of an authority (CA:TRUE), put this very certificate into {authorities}, or use one \
                 without CA:TRUE"
            ),
            text if text.contains("UnsupportedCertVersion") => format!(
                "it is of X.509 version 1, which has no name that is checked: replace it by one of version 3 with a \
                 subjectAltName, or put this very certificate into {authorities} and do without the name"
            ),
            _ => String::new(),
        },
        _ => String::new(),
    }
}
