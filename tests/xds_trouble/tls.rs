//! TLS to the management server.

use std::fs;

use tempfile::TempDir;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{config, key, start};
use crate::support::{Authority, Certified, Form, Management, Pair, mutual};

/// A directory as Kubernetes mounts a TLS secret, and the environment that names it.
struct Secret {
    directory: TempDir,
}

impl Secret {
    fn of(authority: &Authority) -> Self {
        let directory = tempfile::tempdir().unwrap();
        authority.mount(&authority.certify("client"), directory.path());
        Self { directory }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| {
            let path = self.directory.path().join(name);
            path.to_str().unwrap().to_owned()
        };
        vec![
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true".to_owned()),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", file("tls.crt")),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", file("tls.key")),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", file("ca.crt")),
        ]
    }
}

#[test]
fn rotated_certificates_are_used_for_the_next_connection() {
    let authority = Authority::new("old");
    let secret = Secret::of(&authority);
    let management = Management::start_with_tls(&authority, &authority.certify("management"));
    let port = management.address().port();
    let name = ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "management".to_owned());
    let environment = secret.environment().into_iter().chain([name]);
    let mut server = start(&format!("127.0.0.1:{port}"), environment);
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);

    // The files change; the stream goes on.
    let authority = Authority::new("new");
    authority.mount(&authority.certify("client"), secret.directory.path());
    session.accepted("2", &[config("d", 60)]);
    key(&server, "the same stream", "OK: OK 59 of 60/year");

    // Then the management server comes back with its own new ones, and trusts no old one.
    drop((session, management));
    let tls = mutual(&authority, &authority.certify("management"));
    let management = Management::start_on(port, Some(tls));
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 70)]);
    server.wait_for_log("available again");
    key(&server, "the next", "OK: OK 68 of 70/year");
}

#[test]
fn files_that_are_missing_or_wrong_are_read_again() {
    let authority = Authority::new("right");
    let secret = Secret::of(&authority);
    let management = Management::start_with_tls(&authority, &authority.certify("localhost"));
    let port = management.address().port();
    let (certificate, key_file) = (
        secret.directory.path().join("tls.crt"),
        secret.directory.path().join("tls.key"),
    );
    fs::remove_file(&certificate).unwrap();
    let mut server = start(&format!("localhost:{port}"), secret.environment());
    server.wait_for_log("tls.crt does not exist; check what is mounted");
    assert!(server.log().contains("no configuration is active"));
    fs::write(&certificate, "not PEM").unwrap();
    server.wait_for_log("tls.crt has no certificate in PEM");
    fs::write(&certificate, authority.certify("client").certificate).unwrap();
    server.wait_for_log("CONFIG_GRPC_XDS_CLIENT_TLS_CERT and _KEY belong together");
    let text = "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n";
    fs::write(&key_file, text).unwrap();
    authority.mount(&authority.certify("client"), secret.directory.path());
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);
    key(&server, "at last", "OK: OK 49 of 50/year");
}

#[test]
fn a_certificate_that_signed_itself_is_trusted_when_the_file_has_it() {
    let clients = Authority::new("clients");
    let secret = Secret::of(&clients);
    let pair = Pair::openssl(secret.directory.path(), "management", Form::Ca);
    let certified = Certified {
        certificate: fs::read_to_string(&pair.certificate).unwrap(),
        key: fs::read_to_string(&pair.key).unwrap(),
    };
    let management = Management::start_with_tls(&clients, &certified);
    let address = format!("localhost:{}", management.address().port());
    let mut server = start(&address, secret.environment());
    server.wait_for_log("put this very certificate into CONFIG_GRPC_XDS_SERVER_TLS_CACERT");
    fs::copy(&pair.certificate, secret.directory.path().join("ca.crt")).unwrap();
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);
    key(&server, "trusted", "OK: OK 49 of 50/year");
}

#[test]
fn tls_that_fails_says_which_side_is_wrong() {
    let right = Authority::new("right");
    let wrong = Authority::new("wrong");
    let management = Management::start_with_tls(&right, &right.certify("localhost"));
    let address = format!("localhost:{}", management.address().port());
    let plaintext = Management::start();

    let secret = Secret::of(&right);
    let refused = |address: &str, environment: Vec<(&'static str, String)>, text: &str| {
        let mut server = start(address, environment);
        server.wait_for_log(text);
        assert_eq!(server.health(""), ServingStatus::NotServing);
    };
    // Another authority signed its certificate.
    wrong.mount(&right.certify("client"), secret.directory.path());
    refused(
        &address,
        secret.environment(),
        "UnknownIssuer); check CONFIG_GRPC_XDS_SERVER_TLS_CACERT",
    );
    // Ours is.
    right.mount(&wrong.certify("client"), secret.directory.path());
    refused(
        &address,
        secret.environment(),
        " CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
    );
    // It is for another name.
    right.mount(&right.certify("client"), secret.directory.path());
    let name = ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "somebody.else".to_owned());
    let mut named = secret.environment();
    named.push(name);
    refused(&address, named, "check CONFIG_GRPC_XDS_SERVER_TLS_SAN");
    // We have none, and it wants one.
    let without = secret
        .environment()
        .into_iter()
        .filter(|(name, _)| !name.contains("CLIENT"));
    refused(
        &address,
        without.collect(),
        " CONFIG_GRPC_XDS_CLIENT_TLS_CERT",
    );
    // One side speaks TLS and the other does not.
    refused(
        &address,
        Vec::new(),
        "if it speaks TLS, set CONFIG_GRPC_XDS_SERVER_USE_TLS=true",
    );
    let address = format!("localhost:{}", plaintext.address().port());
    refused(
        &address,
        secret.environment(),
        "TLS to the management server",
    );
}
