//! Connections that hold resources.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use h2::client::handshake;
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::{CALL, PREFACE, RULES, SETTINGS, frame, headers, well_behaved};
use crate::support::{Ratekeeper, ask};

#[test]
fn idle_connections_do_not_delay_other_clients() {
    let server = Ratekeeper::start(RULES, []);
    let half_open: Vec<TcpStream> = (0..200)
        .map(|i| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            let call = [PREFACE, SETTINGS, &frame(1, 0, 1, &headers())].concat();
            let begun = [
                0,
                10,
                PREFACE.len(),
                PREFACE.len() + SETTINGS.len(),
                call.len(),
            ][i % 5];
            stream.write_all(&call[..begun]).unwrap();
            stream
        })
        .collect();
    for i in 0..20 {
        well_behaved(&server, &i.to_string());
    }
    drop(half_open);
    assert_eq!(server.stop().code(), Some(0));
}

/// A client that does not read its responses: the server stops reading its calls and holds little memory for it.
#[test]
fn who_never_reads_answers_does_not_fill_the_memory() {
    let server = Ratekeeper::start(RULES, []);
    well_behaved(&server, "before");
    let before = server.peak_memory();
    let message = ask("d", &["k=slow"; 100]).encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0][..], &length, &message].concat();
    // One lets the server send no more than 64 KiB by the rules of HTTP/2, one all that the socket takes.
    let open = frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let mut deaf = Vec::new();
    for (name, window) in [("a closed window", &[][..]), ("an open one", &open[..])] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        stream
            .write_all(&[PREFACE, SETTINGS, window].concat())
            .unwrap();
        let mut sent = 0;
        for call in 0..40_000 {
            let call = 2 * call + 1;
            let bytes = [frame(1, 4, call, &headers()), frame(0, 1, call, &message)].concat();
            // It takes no more, or has closed.
            if stream.write_all(&bytes).is_err() {
                break;
            }
            sent += 1;
        }
        assert!(sent > 100, "{name}: {sent} calls");
        well_behaved(&server, name);
        deaf.push(stream);
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 48, "{grown} MiB more");
    drop(deaf);
    well_behaved(&server, "afterwards");
}

/// A client starts many large requests and completes none: they are rejected before they fill the memory, and other clients are
/// not affected.
#[test]
fn requests_that_are_never_complete_do_not_fill_the_memory() {
    let mode = ("BAD_REQUEST_MODE", "error".to_owned());
    let server = Ratekeeper::start(RULES, [mode]);
    let before = server.peak_memory();
    let runtime = Runtime::new().unwrap();
    let held = runtime.block_on(async {
        // A message of 400,000 bytes, of which the last never come.
        let mut message = vec![0; 400_000];
        message[..5].copy_from_slice(&[0, 0, 6, 0x1a, 0x80]);
        let message = Bytes::from(message);
        let mut calls = JoinSet::new();
        // Few on each connection, since the server ends those on which it refuses too much.
        for _ in 0..14 {
            let socket = tokio::net::TcpStream::connect(server.address());
            let (mut client, connection) = handshake(socket.await.unwrap()).await.unwrap();
            tokio::spawn(connection);
            for _ in 0..50 {
                client = client.ready().await.unwrap();
                let request = http::Request::post(format!("http://{}{CALL}", server.address()))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(())
                    .unwrap();
                let (response, mut body) = client.send_request(request, false).unwrap();
                // It fails where the server has refused the call already.
                let _ = body.send_data(message.clone(), false);
                let client = client.clone();
                calls.spawn(async move { (response.await, (body, client)) });
            }
        }
        // There is room for some of them, but not for most.
        for _ in 0..400 {
            let (response, _) = calls.join_next().await.unwrap().unwrap();
            let response = response.unwrap();
            let status = response.headers().get("grpc-status");
            assert!(
                status.is_some_and(|status| status == "8"),
                "{response:?} is not RESOURCE_EXHAUSTED"
            );
        }
        calls
    });
    well_behaved(&server, "other");
    let grown = server.peak_memory() - before;
    assert!(grown < 200, "{grown} MiB more");
    drop(held);
    drop(runtime);
    well_behaved(&server, "afterwards");
}
