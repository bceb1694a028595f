//! When a certificate expires.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// The end of a certificate's validity, in seconds since the Unix epoch; 0 when it cannot be read.
pub(super) fn of(certificate: &CertificateDer<'_>) -> u64 {
    Certificate::from_der(certificate).map_or(0, |certificate| {
        let validity = certificate.tbs_certificate().validity();
        validity.not_after.to_unix_duration().as_secs()
    })
}
