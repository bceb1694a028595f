//! A management server that is silent, and options for it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{asking, config, key, start};
use crate::support::{Management, typed};

/// Forwards bytes between clients and a server. Connections can be cut without a signal: they stay open, and no byte arrives any
/// more.
struct Wire {
    address: SocketAddr,
    /// So many connections are cut: the first ones.
    cut: Arc<AtomicUsize>,
}

impl Wire {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicUsize::new(0));
        let is_cut = Arc::clone(&cut);
        thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                pass(client, server, number, Arc::clone(&is_cut));
                pass(back.0, back.1, number, Arc::clone(&is_cut));
            }
        });
        Self { address, cut }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, number: usize, cut: Arc<AtomicUsize>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if number < cut.load(Ordering::SeqCst) {
                continue;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

#[test]
fn a_peer_that_is_silent_is_noticed() {
    let management = Management::start();
    let wire = Wire::to(management.address());
    let keepalive = ("XDS_CLIENT_KEEPALIVE_INTERVAL", "2s".to_owned());
    let mut server = start(&wire.address.to_string(), [keepalive]);
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 50)]);
    wire.cut.store(1, Ordering::SeqCst);
    server.wait_for_log("management server unavailable, keeping the active configuration");
    let session = management.session();
    session.request();
    session.accepted("1", &[config("d", 60)]);
    key(&server, "again", "OK: OK 59 of 60/year");
}

#[test]
fn a_management_server_that_has_nothing_for_us_is_told_of() {
    let management = Management::start();
    let mut server = asking(&management);
    let session = management.session();
    session.request();
    server.wait_for_log(
        "management server has sent no configuration, no configuration is active; \
         check that it has one for node id \"default\" (CONFIG_GRPC_XDS_NODE_ID)",
    );
    session.accepted("1", &[config("d", 50)]);
    key(&server, "late", "OK: OK 49 of 50/year");
}

/// Starts the server with these variables; it does not start, and says this.
fn refused(given: &[(&str, &str)], texts: &[&str]) {
    let environment = given.iter().copied();
    let environment = environment.chain([("CONFIG_TYPE", "grpc_xds_sotw")]);
    let printed = typed(["serve"], environment);
    assert_eq!(printed.code, 2, "{given:?}: {}", printed.stderr);
    for text in texts {
        assert!(
            printed.stderr.contains(text),
            "{given:?}: {}",
            printed.stderr
        );
    }
    assert!(!printed.stderr.contains("s3cret"), "{}", printed.stderr);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (name, value, text) in [
        ("CONFIG_GRPC_XDS_SERVER_URL", "envoy-gateway", "host:port"),
        ("CONFIG_GRPC_XDS_SERVER_URL", "unix:///run/xds", "host:port"),
        ("CONFIG_GRPC_XDS_SERVER_URL", "http://a:1/path", "host:port"),
        ("CONFIG_GRPC_XDS_NODE_METADATA", "a=1,b", "key=value pairs"),
        (
            "CONFIG_GRPC_XDS_NODE_METADATA",
            "a=1,a=2",
            "write each key once",
        ),
        (
            "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
            "s3cret",
            "name:value pairs",
        ),
        (
            "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
            "0s",
            "longer than 0",
        ),
        (
            "CONFIG_GRPC_XDS_SERVER_TLS_SAN",
            "two words",
            "the name in the certificate",
        ),
        ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", "1.5", "from 0 to 1"),
        ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "-1", "whole number"),
        ("CONFIG_PATH", "/etc/rules", "leave one of them out"),
    ] {
        refused(&[(name, value)], &[name, text]);
    }
    let tls = ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true");
    let (certificate, key) = (
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "/tls.crt"),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/tls.key"),
    );
    refused(
        &[tls, certificate],
        &[key.0, "the file with its private key"],
    );
    refused(
        &[tls, key],
        &[certificate.0, "the file with its certificate"],
    );
}
