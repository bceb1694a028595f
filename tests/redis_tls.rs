//! TLS to a real Redis, with certificates of the tests' own.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Authority, Form, Pair, Ratekeeper, Redis, ask, check, eventually, free_port};

const RULES: &str = "
domain: d
descriptors: [{key: k, rate_limit: {unit: hour, requests_per_unit: 10}}]
";

/// A Redis that speaks TLS only.
struct Secured {
    redis: Redis,
    directory: TempDir,
    authority: Authority,
}

impl Secured {
    /// One with a certificate for these names. `clients` is whether it asks for certificates of clients.
    fn start(names: &[&str], clients: &str) -> Self {
        Self::signed_by(Authority::new("ours"), names, clients)
    }

    /// The same with a certificate that this authority signed.
    fn signed_by(authority: Authority, names: &[&str], clients: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        authority.write(&directory.path().join("ca.crt"));
        let pair = authority.sign(directory.path(), "server", names);
        let redis = (0..5)
            .find_map(|_| start_on(free_port(), &pair, directory.path(), clients))
            .expect("a port is free for redis-server");
        Self {
            redis,
            directory,
            authority,
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn url(&self, host: &str) -> String {
        format!("rediss://{host}:{}", self.redis.port())
    }

    /// A server with these options.
    fn server(&self, options: &[(&'static str, &str)]) -> Ratekeeper {
        let more = [
            ("STORE_FAILURE_MODE", "error".to_owned()),
            ("REDIS_TIMEOUT", "3s".to_owned()),
        ];
        let options = options
            .iter()
            .map(|&(name, value)| (name, value.to_owned()));
        Ratekeeper::start(RULES, options.chain(more))
    }
}

fn start_on(port: u16, pair: &Pair, directory: &Path, clients: &str) -> Option<Redis> {
    let path = |path: &Path| path.display().to_string();
    let number = port.to_string();
    Redis::start_on(
        port,
        &[
            &["--port", "0", "--tls-port", &number][..],
            &["--tls-cert-file", &path(&pair.certificate)],
            &["--tls-key-file", &path(&pair.key)],
            &["--tls-ca-cert-file", &path(&directory.join("ca.crt"))],
            &["--tls-auth-clients", clients],
            &["--bind", "127.0.0.1", "127.0.0.2"],
        ]
        .concat(),
    )
}

/// Why a request is not decided.
fn failure(server: &Ratekeeper) -> String {
    server
        .ask(ask("d", &["k=1"]))
        .unwrap_err()
        .message()
        .to_owned()
}

#[test]
fn a_certificate_of_our_authority_is_trusted() {
    let secured = Secured::start(&["localhost", "127.0.0.1"], "no");
    let authority = secured.path("ca.crt");
    let plain = secured.redis.url();
    for (url, tls) in [
        (secured.url("localhost"), ""),
        (secured.url("127.0.0.1"), ""),
        (plain, "true"),
    ] {
        let server = secured.server(&[
            ("REDIS_URL", &url),
            ("REDIS_TLS", tls),
            ("REDIS_TLS_CACERT", &authority),
        ]);
        assert!(server.ask(ask("d", &["k=1"])).is_ok(), "{url}");
    }
}

#[test]
fn what_no_authority_of_ours_signed_is_refused_whatever_its_name() {
    let secured = Secured::start(&["localhost"], "no");
    let other = secured.path("other.crt");
    Authority::new("other").write(Path::new(&other));
    for skip in ["false", "true"] {
        let server = secured.server(&[
            ("REDIS_URL", &secured.url("localhost")),
            ("REDIS_TLS_CACERT", &other),
            ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", skip),
        ]);
        eventually("it is refused", || {
            failure(&server).contains("invalid peer certificate")
        });
        // The authorities of the system did not sign it either.
        let server = secured.server(&[
            ("REDIS_URL", &secured.url("localhost")),
            ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", skip),
        ]);
        eventually("it is refused", || {
            failure(&server).contains("invalid peer certificate")
        });
    }
}

#[test]
fn a_certificate_for_another_name_is_refused_unless_names_are_ignored() {
    let secured = Secured::start(&["redis.example"], "no");
    let (url, authority) = (secured.url("localhost"), secured.path("ca.crt"));
    let options = [
        ("REDIS_URL", url.as_str()),
        ("REDIS_TLS_CACERT", &authority),
    ];
    let server = secured.server(&options);
    let failure = failure(&server);
    assert!(
        failure.contains("localhost") && failure.contains("redis.example"),
        "{failure}"
    );
    let skip = [("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true")];
    let server = secured.server(&[&options[..], &skip[..]].concat());
    check(
        &server,
        "any name",
        ask("d", &["k=1"]),
        "OK: OK 9 of 10/hour",
    );
}

#[test]
fn a_client_certificate_is_shown_when_asked_for() {
    let secured = Secured::start(&["localhost"], "yes");
    let client = secured
        .authority
        .sign(secured.directory.path(), "client", &["ratekeeper"]);
    let (url, authority) = (secured.url("localhost"), secured.path("ca.crt"));
    let options = [
        ("REDIS_URL", url.as_str()),
        ("REDIS_TLS_CACERT", &authority),
    ];
    let server = secured.server(&options);
    let failure = failure(&server);
    assert!(
        failure.to_ascii_lowercase().contains("certificate"),
        "{failure}"
    );
    let (certificate, key) = (client.certificate.display(), client.key.display());
    let shown = [
        ("REDIS_TLS_CLIENT_CERT", certificate.to_string()),
        ("REDIS_TLS_CLIENT_KEY", key.to_string()),
    ];
    let shown = shown.each_ref().map(|(name, path)| (*name, path.as_str()));
    let server = secured.server(&[&options[..], &shown[..]].concat());
    check(&server, "shown", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
}

#[test]
fn plaintext_is_told_from_tls() {
    let secured = Secured::start(&["localhost"], "no");
    let server = secured.server(&[("REDIS_URL", &secured.redis.url())]);
    assert!(server.ask(ask("d", &["k=1"])).is_err());
    let plain = Redis::start();
    let server = secured.server(&[
        ("REDIS_URL", &format!("rediss://{}", plain.url())),
        ("REDIS_TLS_CACERT", &secured.path("ca.crt")),
    ]);
    assert!(failure(&server).contains("TLS"), "{}", failure(&server));
}

#[test]
fn certificates_are_exchanged_while_it_runs() {
    let secured = Secured::start(&["localhost"], "no");
    let authority = secured.path("ca.crt");
    let url = secured.url("localhost");
    let server = secured.server(&[("REDIS_URL", &url), ("REDIS_TLS_CACERT", &authority)]);
    check(&server, "before", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    let socket = secured.redis.socket().display().to_string();
    let client = redis::Client::open(format!("unix://{socket}")).unwrap();
    let mut admin = client.get_connection().unwrap();
    // Redis gets a certificate of another authority...
    let next = Authority::new("next");
    let pair = next.sign(secured.directory.path(), "next", &["localhost"]);
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    redis::cmd("CONFIG")
        .arg(&["SET", "tls-cert-file", &certificate.to_string()])
        .arg(&["tls-key-file", &key.to_string()])
        .exec(&mut admin)
        .unwrap();
    redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
        .exec(&mut admin)
        .unwrap();
    eventually("it is refused", || {
        failure(&server).contains("invalid peer certificate")
    });
    // ... which is trusted as soon as the file says so.
    let both = fs::read_to_string(&authority).unwrap() + next.pem();
    fs::write(&authority, both).unwrap();
    eventually("it trusts the new one", || {
        server.ask(ask("d", &["k=1"])).is_ok()
    });
}

// --- Certificates that are trusted themselves ---

/// A Redis that shows a certificate as `openssl` makes them, on two addresses.
fn shown_by_redis(form: Form) -> Secured {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    authority.write(&directory.path().join("ca.crt"));
    let pair = Pair::openssl(directory.path(), "redis", form);
    let redis = (0..5)
        .find_map(|_| start_on(free_port(), &pair, directory.path(), "no"))
        .expect("a port is free for redis-server");
    Secured {
        redis,
        directory,
        authority,
    }
}

#[test]
fn a_certificate_that_signed_itself_is_trusted_when_the_file_has_it() {
    let secured = shown_by_redis(Form::Ca);
    let own = secured.path("redis.crt");
    for host in ["localhost", "127.0.0.1"] {
        let url = secured.url(host);
        let server = secured.server(&[("REDIS_URL", &url), ("REDIS_TLS_CACERT", &own)]);
        assert!(server.ask(ask("d", &["k=1"])).is_ok(), "{url}");
    }
    // The certificate is for these two names, and no other.
    let url = secured.url("127.0.0.2");
    let server = secured.server(&[("REDIS_URL", &url), ("REDIS_TLS_CACERT", &own)]);
    eventually("another name is rejected", || {
        failure(&server).contains("REDIS_URL must have a name of the certificate")
    });
    // One that says the same of itself, but is another one, is not trusted.
    let other = Pair::openssl(secured.directory.path(), "other", Form::Ca);
    let other = other.certificate.display().to_string();
    for skip in ["false", "true"] {
        let server = secured.server(&[
            ("REDIS_URL", &secured.url("localhost")),
            ("REDIS_TLS_CACERT", &other),
            ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", skip),
        ]);
        eventually("it is rejected", || {
            failure(&server).contains("add this certificate to REDIS_TLS_CACERT")
        });
    }
}

#[test]
fn a_certificate_of_version_1_is_trusted_without_its_name() {
    let secured = shown_by_redis(Form::Version1);
    let own = secured.path("redis.crt");
    let url = secured.url("localhost");
    let options = [("REDIS_URL", url.as_str()), ("REDIS_TLS_CACERT", &own)];
    let server = secured.server(&options);
    eventually("it has no name", || {
        failure(&server).contains("X.509 version 1")
    });
    let skip = [("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true")];
    let server = secured.server(&[&options[..], &skip[..]].concat());
    check(&server, "v1", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
}

#[test]
fn a_certificate_whose_time_is_over_is_rejected_though_the_file_has_it() {
    let secured = shown_by_redis(Form::Expired);
    let server = secured.server(&[
        ("REDIS_URL", &secured.url("localhost")),
        ("REDIS_TLS_CACERT", &secured.path("redis.crt")),
        ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true"),
    ]);
    eventually("it has expired", || {
        let failure = failure(&server);
        failure.contains("it has expired") || failure.contains("not valid yet")
    });
}

// --- The authorities of the system ---

const SECONDS: &str = "
domain: d
descriptors:
- {key: k, rate_limit: {unit: hour, requests_per_unit: 10}}
- {key: s, rate_limit: {unit: second, requests_per_unit: 10}}
";

/// A private Redis beside a public one, whose certificate an authority of the system signed.
#[test]
fn the_file_adds_to_the_authorities_of_the_system() {
    let private = Secured::start(&["localhost"], "no");
    let public = Secured::signed_by(Authority::new("public"), &["localhost"], "no");
    let system = public.path("ca.crt");
    let start = |only: &str| {
        let environment = [
            ("REDIS_URL", private.url("localhost")),
            ("REDIS_TLS_CACERT", private.path("ca.crt")),
            ("REDIS_TLS_CACERT_ONLY", only.to_owned()),
            ("REDIS_PERSECOND", "true".to_owned()),
            ("REDIS_PERSECOND_URL", public.url("localhost")),
            ("SSL_CERT_FILE", system.clone()),
            ("STORE_FAILURE_MODE", "error".to_owned()),
            ("REDIS_TIMEOUT", "3s".to_owned()),
        ];
        Ratekeeper::start(SECONDS, environment)
    };
    let server = start("false");
    check(&server, "file", ask("d", &["k=1"]), "OK: OK 9 of 10/hour");
    check(
        &server,
        "system",
        ask("d", &["s=1"]),
        "OK: OK 9 of 10/second",
    );
    let server = start("true");
    check(&server, "file", ask("d", &["k=1"]), "OK: OK 8 of 10/hour");
    eventually("the system's is not trusted", || {
        let failure = server.ask(ask("d", &["s=1"])).unwrap_err();
        failure.message().contains("REDIS_TLS_CACERT must contain")
    });
}
