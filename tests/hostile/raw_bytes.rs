//! Bytes that no gRPC client sends.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost::encoding::encode_varint;
use ratekeeper::service::pb::RateLimitRequest;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Code as Failure, Status};

use super::{CALL, PREFACE, RULES, SETTINGS, frame, headers, send, well_behaved};
use crate::support::{Backend, Ratekeeper, Redis};

#[test]
fn bytes_that_are_no_call_harm_no_other_client() {
    let server = Ratekeeper::start(RULES, []);
    let settled = [PREFACE, SETTINGS].concat();
    let call = [settled.clone(), frame(1, 4, 1, &headers())].concat();
    let message = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        frame(0, 1, 1, &[&[0][..], &length, bytes].concat())
    };
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()[3]
    })
    .take(100_000)
    .collect();
    for (row, bytes) in [
        ("nothing", Vec::new()),
        ("noise", noise.clone()),
        ("noise after the preface", [PREFACE, &noise].concat()),
        ("noise after the settings", [&settled, &noise[..]].concat()),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
        ("half a preface", PREFACE[..10].to_vec()),
        (
            "headers without an end",
            [settled.clone(), frame(1, 0, 1, &headers())].concat(),
        ),
        (
            "an unfinished message",
            [call.clone(), frame(0, 0, 1, &[0, 0, 0, 1, 0])].concat(),
        ),
        (
            "a compressed message",
            [call.clone(), frame(0, 1, 1, &[1, 0, 0, 0, 0])].concat(),
        ),
        (
            "a length of 4 GiB",
            [call.clone(), frame(0, 1, 1, &[0, 255, 255, 255, 255])].concat(),
        ),
        (
            "no protobuf",
            [call.clone(), message(&noise[..500])].concat(),
        ),
        (
            "invalid UTF-8",
            [call.clone(), message(&[0x0a, 2, 0xff, 0xfe])].concat(),
        ),
    ] {
        send(&server, &bytes);
        well_behaved(&server, row);
    }
    assert_eq!(server.stop().code(), Some(0));
}

/// Sends the bytes of a message as they are.
#[derive(Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}

#[test]
fn messages_that_are_no_request_are_errors_of_their_calls_alone() {
    let server = Ratekeeper::start(RULES, []);
    let address = format!("http://{}", server.address());
    Runtime::new().unwrap().block_on(async {
        let channel = Endpoint::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut client = Grpc::new(channel);
        for (row, path, bytes, code) in [
            (
                "no descriptors",
                CALL,
                &[0x0a, 2, 0xff, 0xfe][..],
                Failure::InvalidArgument,
            ),
            ("cut off", CALL, &[0x0a, 200], Failure::Internal),
            ("another type", CALL, &[0x08, 1], Failure::Internal),
            ("nothing", CALL, &[], Failure::InvalidArgument),
            (
                "unknown fields",
                CALL,
                &[0xf8, 0x07, 1],
                Failure::InvalidArgument,
            ),
            (
                "no such method",
                "/envoy.service.ratelimit.v3.RateLimitService/No",
                &[],
                Failure::Unimplemented,
            ),
            ("no such service", "/No/No", &[], Failure::Unimplemented),
        ] {
            client.ready().await.unwrap();
            let call = tonic::Request::new(bytes.to_vec());
            let failure = client
                .unary(call, path.parse().unwrap(), Raw)
                .await
                .expect_err(row);
            assert_eq!(failure.code(), code, "{row}: {failure}");
        }
    });
    well_behaved(&server, "afterwards");
}

/// A field of protobuf: its number, its wire type, its bytes.
fn field(number: u32, wire_type: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    encode_varint(u64::from(number << 3 | u32::from(wire_type)), &mut field);
    if wire_type == 2 {
        encode_varint(bytes.len() as u64, &mut field);
    }
    field.extend_from_slice(bytes);
    field
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(value, &mut bytes);
    field(number, 0, &bytes)
}

/// Fields that no version of the message has, groups among them.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    (20..9_000_u32, 0..5_u8, any::<[u8; 8]>()).prop_map(|(number, kind, bytes)| match kind {
        0 => varint(number, u64::from_le_bytes(bytes)),
        1 => field(number, 1, &bytes),
        2 => field(number, 2, &bytes),
        3 => field(number, 5, &bytes[..4]),
        _ => [field(number, 3, &[]), varint(1, 7), field(number, 4, &[])].concat(),
    })
}

/// A message of any number of fields in any order: such as these, and unknown ones.
fn message(
    fields: impl Strategy<Value = Vec<u8>> + 'static,
    most: usize,
) -> impl Strategy<Value = Vec<u8>> {
    let fields = prop_oneof![4 => fields.boxed(), 1 => unknown().boxed()];
    prop::collection::vec(fields, 0..most).prop_map(|fields| fields.concat())
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"k".to_vec()),
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..40),
        // As long as headers can be, in many places.
        (any::<u8>(), 0..20_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

/// A wrapper of a number, as it may be written.
fn wrapper(number: u32) -> impl Strategy<Value = Vec<u8>> {
    let value = any::<u64>().prop_map(|value| varint(1, value));
    message(value, 3).prop_map(move |bytes| field(number, 2, &bytes))
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let entry = (1..3_u32, any_bytes()).prop_map(|(number, bytes)| field(number, 2, &bytes));
    let entry = message(entry, 4).prop_map(|bytes| field(1, 2, &bytes));
    let limit = prop_oneof![
        any::<u64>().prop_map(|value| varint(1, value)),
        prop_oneof![0..9_u64, any::<u64>()].prop_map(|value| varint(2, value)),
        wrapper(3),
    ];
    let limit = message(limit, 5).prop_map(|bytes| field(2, 2, &bytes));
    let negative = any::<u64>().prop_map(|value| varint(4, value));
    let descriptor = prop_oneof![5 => entry.boxed(), 1 => limit.boxed(), 1 => wrapper(3).boxed(), 1 => negative.boxed()];
    let descriptor = message(descriptor, 6).prop_map(|bytes| field(2, 2, &bytes));
    let domain = any_bytes().prop_map(|bytes| field(1, 2, &bytes));
    let hits = any::<u64>().prop_map(|value| varint(3, value));
    let request = prop_oneof![5 => descriptor.boxed(), 1 => domain.boxed(), 1 => hits.boxed()];
    // In the end, there is a domain that is not empty, and a descriptor: Envoy sends both in any case.
    message(request, 8).prop_map(|bytes| [bytes, field(2, 2, &[]), field(1, 2, b"d")].concat())
}

#[test]
fn whatever_can_be_decoded_is_decided() {
    for backend in [Backend::Memory, Backend::Redis(Redis::start())] {
        let server = Ratekeeper::start(RULES, backend.environment());
        let runtime = Runtime::new().unwrap();
        let channel = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
        let client = Grpc::new(runtime.block_on(channel.connect()).unwrap());
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let checked = runner.run(&any_request(), |bytes| {
            prop_assert!(RateLimitRequest::decode(&bytes[..]).is_ok());
            let mut client = client.clone();
            let answer = runtime.block_on(async {
                client.ready().await.unwrap();
                let call = tonic::Request::new(bytes);
                client.unary(call, CALL.parse().unwrap(), Raw).await
            });
            prop_assert!(answer.is_ok(), "{:?}", answer);
            Ok(())
        });
        checked.unwrap();
        well_behaved(&server, "afterwards");
    }
}
