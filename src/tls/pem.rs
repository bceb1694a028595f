//! Parses certificates and keys in PEM.

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::{Error, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use crate::watch::TextFile;

/// Returns all certificates of a file in order; at least one.
///
/// # Errors
/// There is none, or one is damaged.
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

/// Returns the first private key of a file.
///
/// # Errors
/// There is none, or it is damaged.
pub fn key(file: &TextFile) -> Result<PrivateKeyDer<'static>, TlsError> {
    // The format of keys with a password before OpenSSL 1.0.
    if file.text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(nothing(file, WITHOUT_PASSWORD));
    }
    PrivateKeyDer::from_pem_slice(file.text.as_bytes())
        .map_err(|error| damaged(file, WITHOUT_PASSWORD, &error))
}

/// Returns the authorities of a file; at least one.
///
/// # Errors
/// There is none, or a certificate cannot be an authority.
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
        // The error of the library contains the bytes of the line, which in a key are secret.
        Error::MissingSectionEnd { .. } => TlsError::Damaged {
            path: file.name.clone(),
            cause: "a BEGIN line has no matching END line".to_owned(),
        },
        Error::IllegalSectionStart { .. } => TlsError::Damaged {
            path: file.name.clone(),
            cause: "a BEGIN line is incomplete".to_owned(),
        },
        _ => TlsError::Damaged {
            path: file.name.clone(),
            cause: "the text between BEGIN and END is not base64".to_owned(),
        },
    }
}
