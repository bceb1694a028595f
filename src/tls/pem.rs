//! What PEM files say.

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::{Error, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use crate::watch::TextFile;

/// All certificates of a file, in its order; at least one.
///
/// # Errors
/// When there is none, or one is damaged.
pub fn certificates(file: &TextFile) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(file.text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(file, "certificate", &error))?;
    if all.is_empty() {
        return Err(nothing(file, "certificate"));
    }
    Ok(all)
}

const WITHOUT_PASSWORD: &str = "private key without a password";

/// The first private key of a file.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn key(file: &TextFile) -> Result<PrivateKeyDer<'static>, TlsError> {
    // As OpenSSL wrote keys with a password before version 1.
    if file.text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(nothing(file, WITHOUT_PASSWORD));
    }
    PrivateKeyDer::from_pem_slice(file.text.as_bytes())
        .map_err(|error| damaged(file, WITHOUT_PASSWORD, &error))
}

/// The authorities of a file; at least one.
///
/// # Errors
/// When there is none, or one cannot be an authority.
pub fn authorities(file: &TextFile) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|cause| TlsError::Authorities {
                path: file.name.clone(),
                cause: cause.to_string(),
            })?;
    }
    Ok(roots)
}

fn nothing(file: &TextFile, what: &'static str) -> TlsError {
    TlsError::Nothing {
        path: file.name.clone(),
        what,
    }
}

fn damaged(file: &TextFile, what: &'static str, error: &Error) -> TlsError {
    match error {
        Error::NoItemsFound => nothing(file, what),
        // The library shows the bytes of the line that it stumbled over; in a key they are nobody's business.
        Error::MissingSectionEnd { .. } => TlsError::Damaged {
            path: file.name.clone(),
            cause: "a BEGIN line has no END line that belongs to it".to_owned(),
        },
        Error::IllegalSectionStart { .. } => TlsError::Damaged {
            path: file.name.clone(),
            cause: "a BEGIN line does not end as it should".to_owned(),
        },
        _ => TlsError::Damaged {
            path: file.name.clone(),
            cause: "what stands between BEGIN and END is not base64".to_owned(),
        },
    }
}
