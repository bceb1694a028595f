//! TLS on the gRPC port: who is let in, through a real Envoy too, and what happens when certificates are
//! replaced while calls are in flight.

mod replacement;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ratekeeper::service::pb::rate_limit_service_client::RateLimitServiceClient;
use ratekeeper::service::pb::{RateLimitRequest, RateLimitResponse};
use ratekeeper::tls::{pem, provider};
use ratekeeper::watch::TextFile;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::support::{
    Authority, Envoy, Form, Pair, Plan, Ratekeeper, Route, TIMEOUT, ask, extension, typed,
};

const RULES: &str = "
domain: mesh
descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 1000000}}]
";

/// An authority, and a directory with certificates that it signed.
struct Parties {
    authority: Authority,
    directory: TempDir,
    server: Pair,
}

impl Parties {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("mesh");
        authority.write(&directory.path().join("ca.crt"));
        let server = authority.sign(directory.path(), "tls", &["localhost"]);
        Self {
            authority,
            directory,
            server,
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn start(&self, more: &[(&'static str, &str)]) -> Ratekeeper {
        let environment = [
            ("GRPC_SERVER_USE_TLS", "true".to_owned()),
            ("GRPC_SERVER_TLS_CERT", self.path("tls.crt")),
            ("GRPC_SERVER_TLS_KEY", self.path("tls.key")),
        ];
        let more = more.iter().map(|&(name, value)| (name, value.to_owned()));
        Ratekeeper::start(RULES, environment.into_iter().chain(more))
    }
}

fn identity(pair: &Pair) -> Identity {
    let read = |path: &PathBuf| fs::read(path).unwrap();
    Identity::from_pem(read(&pair.certificate), read(&pair.key))
}

/// A connection that trusts an authority, and shows a certificate if there is one to show.
async fn connect(
    server: &Ratekeeper,
    authority: &Authority,
    shown: Option<&Pair>,
) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost");
    let tls = match shown {
        None => tls,
        Some(pair) => tls.identity(identity(pair)),
    };
    let address = format!("https://{}", server.address());
    let endpoint = Endpoint::from_shared(address)?.tls_config(tls)?;
    endpoint.connect().await
}

/// Whether a client is let in and answered, about the domain `mesh`.
pub(crate) fn is_let_in(server: &Ratekeeper, authority: &Authority, shown: Option<&Pair>) -> bool {
    answered(server, authority, shown, ask("mesh", &["k=1"])).is_some()
}

/// What a client is answered, if it is let in.
pub(crate) fn answered(
    server: &Ratekeeper,
    authority: &Authority,
    shown: Option<&Pair>,
    request: RateLimitRequest,
) -> Option<RateLimitResponse> {
    Runtime::new().unwrap().block_on(async {
        // In TLS 1.3 a client learns only afterwards that it was refused.
        let channel = connect(server, authority, shown).await.ok()?;
        let mut client = RateLimitServiceClient::new(channel);
        let answer = client.should_rate_limit(request).await;
        Some(answer.ok()?.into_inner())
    })
}

/// The certificate that a handshake shows now.
fn shown_by(server: &Ratekeeper, authority: &Authority) -> CertificateDer<'static> {
    let roots = pem::authorities(&TextFile {
        name: "the authority".to_owned(),
        text: authority.pem().to_owned(),
    });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.unwrap())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).unwrap();
    }
    assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
    connection.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

fn certificate_in(pair: &Pair) -> CertificateDer<'static> {
    let file = TextFile {
        name: "a certificate".to_owned(),
        text: fs::read_to_string(&pair.certificate).unwrap(),
    };
    pem::certificates(&file).unwrap().remove(0)
}

#[test]
fn tls_is_served_to_who_trusts_the_authority() {
    let parties = Parties::new();
    let mut server = parties.start(&[]);
    assert!(is_let_in(&server, &parties.authority, None));
    assert!(!is_let_in(&server, &Authority::new("another"), None));
    // Health and JSON stay in clear: probes know no certificates.
    assert_eq!(server.http().get("/healthcheck").status, 200);
    let stats = server.debug().get("/stats").body;
    assert!(
        stats.contains("tls.certificate.expires_unix_seconds: "),
        "{stats}"
    );
    server.wait_for_log("client cannot connect");
}

#[test]
fn plaintext_to_the_tls_port_is_refused_and_told_of() {
    let parties = Parties::new();
    let mut server = parties.start(&[]);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    server.wait_for_log("the client does not use TLS");
    assert!(is_let_in(&server, &parties.authority, None));
}

#[test]
fn a_handshake_that_never_ends_is_not_waited_for() {
    let parties = Parties::new();
    let mut server = parties.start(&[("GRPC_HANDSHAKE_TIMEOUT", "200ms")]);
    let mut silent = TcpStream::connect(server.address()).unwrap();
    silent.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert_eq!(silent.read_to_end(&mut Vec::new()).unwrap(), 0);
    server.wait_for_log("TLS handshake in time");
}

#[test]
fn clients_must_show_a_certificate_of_the_authority_when_there_is_one() {
    let parties = Parties::new();
    let client = parties
        .authority
        .sign(parties.directory.path(), "client", &["envoy.mesh"]);
    let authorities = parties.path("ca.crt");
    let mut server = parties.start(&[("GRPC_CLIENT_TLS_CACERT", &authorities)]);
    assert!(is_let_in(&server, &parties.authority, Some(&client)));
    assert!(!is_let_in(&server, &parties.authority, None));
    server.wait_for_log("sent no certificate, but GRPC_CLIENT_TLS_CACERT requires one");
}

/// The log names the option by which a client was turned away.
#[test]
fn a_certificate_of_another_authority_is_rejected_by_name_of_the_option() {
    let parties = Parties::new();
    let stranger =
        Authority::new("another").sign(parties.directory.path(), "stranger", &["envoy.mesh"]);
    let authorities = parties.path("ca.crt");
    let mut server = parties.start(&[
        ("GRPC_CLIENT_TLS_CACERT", &authorities),
        ("GRPC_SERVER_TLS_CA_CERT", &authorities),
    ]);
    assert!(!is_let_in(&server, &parties.authority, Some(&stranger)));
    server.wait_for_log("GRPC_CLIENT_TLS_CACERT must contain the authority that signed it");
}

/// Standalone Envoy Gateway signs Envoy's certificate with another authority than the one that it names here.
#[test]
fn the_servers_ca_certificate_authenticates_no_client() {
    let parties = Parties::new();
    let stranger = Authority::new("another").sign(parties.directory.path(), "stranger", &["envoy"]);
    let authorities = parties.path("ca.crt");
    let mut server = parties.start(&[("GRPC_SERVER_TLS_CA_CERT", &authorities)]);
    server.wait_until_logged("client certificates are not required");
    assert!(is_let_in(&server, &parties.authority, Some(&stranger)));
    assert!(is_let_in(&server, &parties.authority, None));
    // As the reference, it does not read the file either.
    let missing = parties.path("missing.crt");
    let server = parties.start(&[("GRPC_SERVER_TLS_CA_CERT", &missing)]);
    assert!(is_let_in(&server, &parties.authority, None));
}

#[test]
fn a_client_may_show_a_certificate_that_is_itself_among_the_authorities() {
    let parties = Parties::new();
    let directory = parties.directory.path();
    let trusted = Pair::openssl(directory, "trusted", Form::Ca);
    let version_1 = Pair::openssl(directory, "version-1", Form::Version1);
    let other = Pair::openssl(directory, "other", Form::Ca);
    let read = |pair: &Pair| fs::read_to_string(&pair.certificate).unwrap();
    let both = parties.path("clients.crt");
    fs::write(&both, read(&trusted) + &read(&version_1)).unwrap();
    let mut server = parties.start(&[("GRPC_CLIENT_TLS_CACERT", &both)]);
    assert!(is_let_in(&server, &parties.authority, Some(&trusted)));
    // The library that the tests connect with makes no client of it.
    let plan = plan(&parties, &version_1);
    assert_eq!(
        Envoy::start(server.address(), &plan).get("/", &[]).status,
        200
    );
    assert!(!is_let_in(&server, &parties.authority, Some(&other)));
    server.wait_for_log("add this certificate to GRPC_CLIENT_TLS_CACERT");
    let server = parties.start(&[
        ("GRPC_CLIENT_TLS_CACERT", &both),
        ("GRPC_CLIENT_TLS_SAN", "localhost"),
    ]);
    assert!(is_let_in(&server, &parties.authority, Some(&trusted)));
    let envoy = Envoy::start(server.address(), &plan);
    assert_eq!(envoy.get("/", &[]).status, 500, "it has no name");
}

#[test]
fn clients_must_be_who_is_named() {
    let parties = Parties::new();
    let authorities = parties.path("ca.crt");
    let sign = |stem, names: &[&str]| {
        parties
            .authority
            .sign(parties.directory.path(), stem, names)
    };
    let named = sign("named", &["envoy.mesh", "other.mesh"]);
    let other = sign("other", &["other.mesh"]);
    let nobody = sign("nobody", &[]);
    let server = parties.start(&[
        ("GRPC_CLIENT_TLS_CACERT", &authorities),
        ("GRPC_CLIENT_TLS_SAN", "envoy.mesh"),
    ]);
    assert!(is_let_in(&server, &parties.authority, Some(&named)));
    for pair in [Some(&other), Some(&nobody), None] {
        assert!(!is_let_in(&server, &parties.authority, pair), "{pair:?}");
    }
    assert!(is_let_in(&server, &parties.authority, Some(&named)));
}

/// When a certificate ends, as the metrics tell.
pub(crate) fn expiry(server: &Ratekeeper, used_for: &str) -> f64 {
    let metrics = server.debug().get("/metrics").body;
    let series =
        format!("ratekeeper_tls_certificate_expiry_timestamp_seconds{{use=\"{used_for}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0.0, |value| value.parse().unwrap())
}

/// What Envoy's cluster needs for mutual TLS.
fn secured(parties: &Parties, client: &Pair) -> Value {
    let file = |path: &Path| json!({"filename": path.to_str().unwrap()});
    let socket = extension(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        json!({
            "sni": "localhost",
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": file(&client.certificate),
                    "private_key": file(&client.key),
                }],
                "validation_context": {
                    "trusted_ca": file(&parties.directory.path().join("ca.crt")),
                },
            },
        }),
    );
    json!({"transport_socket": socket})
}

/// An Envoy that shows this certificate, and asks for each request.
fn plan(parties: &Parties, client: &Pair) -> Plan {
    let limits =
        json!([{"actions": [{"generic_key": {"descriptor_key": "k", "descriptor_value": "1"}}]}]);
    Plan {
        routes: vec![Route::new("/", limits)],
        cluster: secured(parties, client),
        ..Plan::default()
    }
}

#[test]
fn envoy_is_let_in_with_mutual_tls() {
    let parties = Parties::new();
    let authorities = parties.path("ca.crt");
    let client = parties
        .authority
        .sign(parties.directory.path(), "envoy", &["envoy.mesh"]);
    let other = parties
        .authority
        .sign(parties.directory.path(), "other", &["other.mesh"]);
    let mut server = parties.start(&[
        ("GRPC_CLIENT_TLS_CACERT", &authorities),
        ("GRPC_CLIENT_TLS_SAN", "envoy.mesh"),
    ]);
    let envoy = Envoy::start(server.address(), &plan(&parties, &client));
    let reply = envoy.get("/", &[]);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(
        reply.header("x-ratelimit-limit").starts_with("1000000"),
        "{reply:?}"
    );
    // Who has another name is refused, and so are those whose requests it lets through.
    let envoy = Envoy::start(server.address(), &plan(&parties, &other));
    assert_eq!(envoy.get("/", &[]).status, 500);
    server.wait_for_log("client cannot connect");
}

#[test]
fn certificates_that_cannot_be_used_at_the_start_are_mistakes() {
    let parties = Parties::new();
    let start = |environment: &[(&str, &str)]| typed(["serve"], environment.iter().copied());
    let (certificate, key) = (parties.path("tls.crt"), parties.path("tls.key"));
    for (environment, texts) in [
        (
            &[("GRPC_SERVER_USE_TLS", "true")][..],
            &["GRPC_SERVER_TLS_CERT", "GRPC_SERVER_TLS_KEY"][..],
        ),
        (
            &[
                ("GRPC_SERVER_USE_TLS", "true"),
                ("GRPC_SERVER_TLS_CERT", "/nonexistent/tls.crt"),
                ("GRPC_SERVER_TLS_KEY", "/nonexistent/tls.key"),
            ],
            &[
                "/nonexistent/tls.crt",
                "/nonexistent/tls.key",
                "does not exist",
            ],
        ),
        (
            &[
                ("GRPC_SERVER_USE_TLS", "true"),
                ("GRPC_SERVER_TLS_CERT", &key),
                ("GRPC_SERVER_TLS_KEY", &certificate),
            ],
            &["tls.key has no certificate"],
        ),
        (
            &[
                ("GRPC_SERVER_USE_TLS", "true"),
                ("GRPC_SERVER_TLS_CERT", &certificate),
                ("GRPC_SERVER_TLS_KEY", &key),
                ("GRPC_CLIENT_TLS_SAN", "envoy"),
            ],
            &["GRPC_CLIENT_TLS_SAN needs GRPC_CLIENT_TLS_CACERT"],
        ),
    ] {
        let printed = start(environment);
        assert_eq!(printed.code, 2, "{environment:?}: {}", printed.stderr);
        for text in texts {
            assert!(printed.stderr.contains(text), "{text}: {}", printed.stderr);
        }
    }
}
