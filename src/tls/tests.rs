//! Certificates and keys that can and cannot be used.

use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

/// Writes a self-signed certificate and its key to files.
fn pair(directory: &Path, stem: &str) -> (PathBuf, PathBuf) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2040, 1, 2);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let paths = (
        directory.join(format!("{stem}.crt")),
        directory.join(format!("{stem}.key")),
    );
    fs::write(&paths.0, certificate.pem()).unwrap();
    fs::write(&paths.1, key.serialize_pem()).unwrap();
    paths
}

fn usable() -> (TempDir, ServerTls) {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = pair(directory.path(), "a");
    let tls = ServerTls {
        certificate,
        key,
        clients: None,
    };
    (directory, tls)
}

#[test]
fn the_end_of_validity_is_read() {
    let (_directory, tls) = usable();
    assert_eq!(tls.load().unwrap().validity.unwrap().end, 2_209_075_200);
    assert_eq!(validity_in(&tls.certificate).unwrap().end, 2_209_075_200);
    assert_eq!(validity_in(&tls.key), None);
    assert_eq!(validity_in(Path::new("/nonexistent")), None);
}

#[test]
fn certificate_key_and_authorities_can_be_one_file() {
    let (directory, mut tls) = usable();
    let both =
        fs::read_to_string(&tls.key).unwrap() + &fs::read_to_string(&tls.certificate).unwrap();
    let path = directory.path().join("both");
    fs::write(&path, both).unwrap();
    tls.certificate.clone_from(&path);
    tls.key.clone_from(&path);
    tls.clients = Some(ClientAuth {
        authorities: path,
        name: None,
    });
    tls.load().unwrap();
}

/// Checks that loading fails with an error that names the file and the reason, and that does not contain the key.
fn check_error(tls: &ServerTls, file: &str, why: &str) {
    let error = tls.load().expect_err(why).to_string();
    assert!(error.contains(file) && error.contains(why), "{error}");
    let key = fs::read_to_string(&tls.key).unwrap_or_default();
    let secret = key.lines().nth(1).unwrap_or("no line");
    assert!(
        !error.contains(secret),
        "the error contains the key: {error}"
    );
}

#[test]
fn errors_of_certificates_name_the_file() {
    let (directory, tls) = usable();
    let path = directory.path().join("file");
    let with = ServerTls {
        certificate: path.clone(),
        ..tls.clone()
    };
    check_error(&with, "file", "does not exist");
    for (text, why) in [
        ("", "has no certificate"),
        ("certificate", "has no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "END"),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            "base64",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "cannot be used",
        ),
    ] {
        fs::write(&path, text).unwrap();
        check_error(&with, "file", why);
    }
}

#[test]
fn errors_of_keys_and_authorities_name_the_file() {
    let (directory, tls) = usable();
    let (_, other_key) = pair(directory.path(), "b");
    let key = |path| ServerTls {
        key: path,
        ..tls.clone()
    };
    let authorities = |path| ServerTls {
        clients: Some(ClientAuth {
            authorities: path,
            name: None,
        }),
        ..tls.clone()
    };
    let cut = directory.path().join("cut");
    let text = fs::read_to_string(&tls.key).unwrap();
    fs::write(&cut, text.replace("-----END PRIVATE KEY-----\n", "")).unwrap();
    let absent = directory.path().join("absent");
    check_error(&key(tls.certificate.clone()), "a.crt", "has no private key");
    check_error(&key(cut), "cut", "END");
    check_error(&key(other_key), "b.key", "cannot be used with the key");
    check_error(&authorities(absent), "absent", "does not exist");
    check_error(&authorities(tls.key.clone()), "a.key", "has no certificate");
}
