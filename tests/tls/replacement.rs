//! Certificates that are replaced while the server runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratekeeper::service::pb::rate_limit_service_client::RateLimitServiceClient;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Parties, RULES, certificate_in, connect, expiry, is_let_in, shown_by};
use crate::support::{Authority, Pair, Ratekeeper, ask, eventually};

/// Files of a secret as Kubernetes mounts them: links to `..data`, which is a link to a directory that
/// is exchanged.
struct Secret(TempDir);

impl Secret {
    fn mount(authority: &Authority, pair: &Pair) -> Self {
        let secret = Self(tempfile::tempdir().unwrap());
        secret.swap("..1", authority, pair);
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(Path::new("..data").join(name), secret.0.path().join(name)).unwrap();
        }
        secret
    }

    fn swap(&self, version: &str, authority: &Authority, pair: &Pair) {
        let directory = self.0.path().join(version);
        fs::create_dir(&directory).unwrap();
        fs::copy(&pair.certificate, directory.join("tls.crt")).unwrap();
        fs::copy(&pair.key, directory.join("tls.key")).unwrap();
        authority.write(&directory.join("ca.crt"));
        symlink(version, self.0.path().join("..new")).unwrap();
        fs::rename(self.0.path().join("..new"), self.0.path().join("..data")).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// Calls over one connection for as long as a test runs; none may fail.
struct Load {
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    calls: tokio::task::JoinHandle<u32>,
}

impl Load {
    fn start(server: &Ratekeeper, authority: &Authority, shown: Option<&Pair>) -> Self {
        let runtime = Runtime::new().unwrap();
        let channel = runtime.block_on(connect(server, authority, shown)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut client = RateLimitServiceClient::new(channel);
        let calls = runtime.spawn(async move {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) || count == 0 {
                client
                    .should_rate_limit(ask("mesh", &["k=1"]))
                    .await
                    .unwrap();
                count += 1;
            }
            count
        });
        Self {
            runtime,
            stop,
            calls,
        }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.runtime.block_on(self.calls).unwrap() > 0);
    }
}

#[test]
fn certificates_that_are_replaced_are_shown_without_dropping_a_connection() {
    let parties = Parties::new();
    let secret = Secret::mount(&parties.authority, &parties.server);
    let mut server = Ratekeeper::start(
        RULES,
        [
            ("GRPC_SERVER_USE_TLS", "true".to_owned()),
            ("GRPC_SERVER_TLS_CERT", secret.path("tls.crt")),
            ("GRPC_SERVER_TLS_KEY", secret.path("tls.key")),
        ],
    );
    assert_eq!(
        shown_by(&server, &parties.authority),
        certificate_in(&parties.server)
    );
    let load = Load::start(&server, &parties.authority, None);
    // The whole secret is swapped, as Kubernetes does.
    let second = parties
        .authority
        .sign(parties.directory.path(), "second", &["localhost"]);
    secret.swap("..2", &parties.authority, &second);
    server.wait_for_log("certificates replaced");
    assert_eq!(
        shown_by(&server, &parties.authority),
        certificate_in(&second)
    );
    // Signed by another authority, which the old clients do not trust.
    let another = Authority::new("another");
    let third = another.sign(parties.directory.path(), "third", &["localhost"]);
    secret.swap("..3", &another, &third);
    server.wait_for_log("certificates replaced");
    assert_eq!(shown_by(&server, &another), certificate_in(&third));
    assert!(!is_let_in(&server, &parties.authority, None));
    assert!(
        server
            .debug()
            .get("/stats")
            .body
            .contains("tls.certificate.rotations: 2")
    );
    let metrics = server.debug().get("/metrics").body;
    for line in [
        "ratekeeper_tls_certificate_rotations_total{outcome=\"used\"} 2",
        "ratekeeper_tls_certificate_rotations_total{outcome=\"unusable\"} 0",
    ] {
        assert!(
            metrics.lines().any(|exported| exported == line),
            "{metrics}"
        );
    }
    let end = expiry(&server, "grpc");
    let start = "ratekeeper_tls_certificate_start_timestamp_seconds{use=\"grpc\"} ";
    let start = metrics.lines().find_map(|line| line.strip_prefix(start));
    let start: f64 = start.unwrap().parse().unwrap();
    assert!(end > start, "{start} to {end}");
    load.end();
}

#[test]
fn files_that_are_replaced_one_by_one_are_taken_over_too() {
    let parties = Parties::new();
    let server = parties.start(&[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let next = parties
        .authority
        .sign(elsewhere.path(), "next", &["localhost"]);
    // Each by a rename, as who writes files with care does.
    for (from, to) in [(&next.certificate, "tls.crt"), (&next.key, "tls.key")] {
        let beside = parties.path("beside");
        fs::copy(from, &beside).unwrap();
        fs::rename(&beside, parties.path(to)).unwrap();
    }
    eventually("the new certificate is shown", || {
        shown_by(&server, &parties.authority) == certificate_in(&next)
    });
}

#[test]
fn certificates_that_cannot_be_used_leave_the_old_ones_and_are_told_once() {
    let parties = Parties::new();
    let mut server = parties.start(&[]);
    let load = Load::start(&server, &parties.authority, None);
    let good = fs::read_to_string(&parties.server.certificate).unwrap();
    let first = certificate_in(&parties.server);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = parties
        .authority
        .sign(elsewhere.path(), "other", &["localhost"]);
    let mismatch = fs::read_to_string(&other.certificate).unwrap();
    let certificate = parties.path("tls.crt");
    for (text, why) in [
        (Some("no certificate"), "has no certificate"),
        (Some(mismatch.as_str()), "cannot be used with the key"),
        (None, "does not exist"),
    ] {
        match text {
            Some(text) => fs::write(&certificate, text).unwrap(),
            None => fs::remove_file(&certificate).unwrap(),
        }
        server.wait_for_log(why);
        assert_eq!(shown_by(&server, &parties.authority), first, "{why}");
    }
    let count = server.log().matches("keeping the previous ones").count();
    // A file can be read while it is still empty; that is logged, too.
    assert!((3..=6).contains(&count), "{}", server.log());
    fs::write(&certificate, good).unwrap();
    server.wait_for_log("certificates replaced");
    assert_eq!(shown_by(&server, &parties.authority), first);
    load.end();
}

#[test]
fn authorities_that_are_replaced_decide_who_is_let_in() {
    let parties = Parties::new();
    let secret = Secret::mount(&parties.authority, &parties.server);
    let old = parties
        .authority
        .sign(parties.directory.path(), "old", &["envoy"]);
    let next = Authority::new("next");
    let new = next.sign(parties.directory.path(), "new", &["envoy"]);
    let mut server = Ratekeeper::start(
        RULES,
        [
            ("GRPC_SERVER_USE_TLS", "true".to_owned()),
            ("GRPC_SERVER_TLS_CERT", secret.path("tls.crt")),
            ("GRPC_SERVER_TLS_KEY", secret.path("tls.key")),
            ("GRPC_CLIENT_TLS_CACERT", secret.path("ca.crt")),
        ],
    );
    let load = Load::start(&server, &parties.authority, Some(&old));
    assert!(!is_let_in(&server, &parties.authority, Some(&new)));
    secret.swap("..2", &next, &parties.server);
    server.wait_for_log("certificates replaced");
    assert!(is_let_in(&server, &parties.authority, Some(&new)));
    assert!(!is_let_in(&server, &parties.authority, Some(&old)));
    load.end();
}
