//! Health and reflection, as an independent client sees them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;

use prost::Message;
use prost_types::FileDescriptorProto;
use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::start;
use crate::support::{Process, client, root, tool};

#[test]
fn health_names_the_server_and_the_service() {
    let server = start(&[]);
    let health = |service: &str| client(["health", &server.address().to_string(), service]);
    assert_eq!(health(""), "SERVING");
    assert_eq!(health("ratelimit"), "SERVING");
    assert_eq!(
        health("envoy.service.ratelimit.v3.RateLimitService"),
        "SERVING"
    );
    assert_eq!(health("nobody"), "NOT_FOUND");
    let all = client(["list", &server.address().to_string()]);
    let expected = json!({
        "": "SERVING",
        "ratelimit": "SERVING",
        "envoy.service.ratelimit.v3.RateLimitService": "SERVING",
    });
    assert_eq!(all, expected);
}

/// As grpc-go does it: a name that is unknown is reported as that, and the stream stays open.
#[test]
fn health_is_watched_under_known_and_unknown_names() {
    let server = start(&[]);
    let watch = |service: &str| {
        let script = root().join("tests/wire/client.py");
        let address = server.address().to_string();
        let mut process = Process::start(
            "the client",
            Command::new(tool("python"))
                .arg("-I")
                .arg(script)
                .args(["watch", &address, service]),
        );
        process
            .wait_for("it heard a status", |line| Some(line.to_owned()))
            .map(|line| (process, line))
            .unwrap_or_else(|ended| panic!("{}", ended.report))
    };
    let (mut known, first) = watch("ratelimit");
    assert_eq!(first, "SERVING");
    let (unknown, first) = watch("nobody");
    assert_eq!(first, "SERVICE_UNKNOWN");
    server.signal("TERM");
    known
        .wait_for("it heard a change", |line| {
            (line == "NOT_SERVING").then_some(())
        })
        .unwrap_or_else(|ended| panic!("{}", ended.report));
    // Both streams end in the same way, and hold the server up no longer.
    for process in [known, unknown] {
        let (_, printed) = process.ended();
        assert_eq!(printed.lines().last(), Some("\"OK\""), "{printed}");
    }
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("all requests were answered"), "{log}");
}

/// What grpcurl does with the older version of the protocol; the messages are compared field by field
/// with those that Envoy speaks.
#[test]
fn reflection_serves_the_messages_of_envoy() {
    let server = start(&[]);
    let found = client(["reflect", &server.address().to_string()]);
    let services: Vec<&str> = found["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    for service in [
        "envoy.service.ratelimit.v3.RateLimitService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.contains(&service), "{services:?}");
    }
    assert_eq!(found["different"], json!([]));
    // The number that envoyproxy/ratelimit and our overrides use for a week.
    assert_eq!(found["added"], json!(["envoy.type.v3.RateLimitUnit:7"]));
    // Quotas that Envoy declares and does not implement.
    let quota = "envoy.service.ratelimit.v3.RateLimitResponse";
    let missing = ["Quota:1", "Quota:2", "Quota:3", "DescriptorStatus:5"];
    let missing: BTreeSet<String> = missing
        .iter()
        .map(|field| format!("{quota}.{field}"))
        .chain([format!("{quota}:7")])
        .collect();
    let lacking: BTreeSet<String> = found["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(lacking, missing);
    assert!(found["same"].as_array().unwrap().len() > 40, "{found}");
}

/// What grpcurl does with the newer version of the protocol: it looks a symbol up and follows the
/// imports of the file, one by one.
#[tokio::test]
async fn reflection_resolves_a_message_with_its_imports() {
    let server = start(&[]);
    let endpoint = Endpoint::try_from(format!("http://{}", server.address())).unwrap();
    let mut reflection = ServerReflectionClient::new(endpoint.connect().await.unwrap());
    let symbol = "envoy.service.ratelimit.v3.RateLimitRequest".to_owned();
    let mut wanted = VecDeque::from([MessageRequest::FileContainingSymbol(symbol)]);
    let mut files = BTreeMap::new();
    while let Some(request) = wanted.pop_front() {
        for file in files_of(&mut reflection, request).await {
            let imports = file
                .dependency
                .iter()
                .filter(|name| !files.contains_key(*name));
            wanted.extend(imports.cloned().map(MessageRequest::FileByFilename));
            files.insert(file.name().to_owned(), file);
        }
    }
    let messages: Vec<String> = files
        .values()
        .flat_map(|file| {
            file.message_type
                .iter()
                .map(|m| format!("{}.{}", file.package(), m.name()))
        })
        .collect();
    for name in [
        "envoy.service.ratelimit.v3.RateLimitRequest",
        "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor",
        "google.protobuf.UInt64Value",
        "google.protobuf.Struct",
    ] {
        assert!(
            messages.iter().any(|message| message == name),
            "{name} is not in {messages:?}"
        );
    }
}

/// The files with which reflection answers one question.
async fn files_of(
    reflection: &mut ServerReflectionClient<Channel>,
    question: MessageRequest,
) -> Vec<FileDescriptorProto> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question.clone()),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::FileDescriptorResponse(found)) = answer else {
        panic!("{question:?} was answered with {answer:?}");
    };
    found
        .file_descriptor_proto
        .iter()
        .map(|bytes| FileDescriptorProto::decode(bytes.as_slice()).unwrap())
        .collect()
}
