//! The period in which a certificate is valid.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// The period in which a certificate is valid, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second (notBefore).
    pub start: u64,
    /// The last second (notAfter).
    pub end: u64,
}

/// Returns the validity of a certificate; `None` if the certificate cannot be parsed.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    Some(Validity {
        start: validity.not_before.to_unix_duration().as_secs(),
        end: validity.not_after.to_unix_duration().as_secs(),
    })
}
