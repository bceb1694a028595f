//! Compiles `proto/` to Rust for the package `ratekeeper-api`, without `protoc`.
//!
//! The services that ratekeeper serves are compiled together with the descriptors for reflection. The xDS services that it
//! calls are compiled apart from them, because both have messages of the same packages.

use std::path::{Path, PathBuf};
use std::{error::Error, fs};

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;
use tonic_prost_build::Builder;

/// The `.proto` files, as seen from the package that is built, `crates/api`.
const PROTO: &str = "../../proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo passes arguments to a build script in the environment"
    )]
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let served = compile(
        &["envoy/service/ratelimit/v3/rls.proto"],
        &out.join("service"),
        tonic_prost_build::configure().codec_path("crate::codec::BoundedCodec"),
    )?;
    fs::write(out.join("descriptors.bin"), served)?;
    let health = compile(
        &["grpc/health/v1/health.proto"],
        &out.join("health"),
        tonic_prost_build::configure(),
    )?;
    fs::write(out.join("health.bin"), health)?;
    let asked = [
        "envoy/service/discovery/v3/ads.proto",
        "ratelimit/config/ratelimit/v3/rls_conf.proto",
    ];
    compile(&asked, &out.join("xds"), tonic_prost_build::configure())?;
    Ok(())
}

/// Text of clients, by message and field, that Rust code reads as bytes.
///
/// On the wire, `string` and `bytes` are the same, except that a `string` that is no UTF-8 cannot be decoded. Clients of
/// Envoy can put any byte into these fields. Reflection and `/json` serve the descriptors as they are published.
const BYTES: [(&str, &str); 3] = [
    ("RateLimitRequest", "domain"),
    ("Entry", "key"),
    ("Entry", "value"),
];

/// Changes the type of a field from `string` to `bytes`.
fn read_as_bytes(descriptors: &mut FileDescriptorSet, message: &str, field: &str) {
    let messages = descriptors.file.iter_mut().flat_map(|file| {
        let package = file.package.as_deref().unwrap_or_default();
        let is_ratelimit = package.contains(".ratelimit.");
        file.message_type.iter_mut().filter(move |_| is_ratelimit)
    });
    for outer in messages {
        let is_it = outer.name() == message;
        let nested = outer.nested_type.iter_mut();
        let fields = nested
            .filter(|nested| nested.name() == message)
            .flat_map(|nested| &mut nested.field)
            .chain(outer.field.iter_mut().filter(|_| is_it));
        for found in fields.filter(|found| found.name() == field) {
            found.set_type(Type::Bytes);
        }
    }
}

/// Compiles files to Rust in a directory, and returns them as an encoded `FileDescriptorSet`.
fn compile(files: &[&str], out: &Path, builder: Builder) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut descriptors = protox::compile(files, [PROTO])?;
    let encoded = descriptors.encode_to_vec();
    for (message, field) in BYTES {
        read_as_bytes(&mut descriptors, message, field);
    }
    fs::create_dir_all(out)?;
    builder
        .out_dir(out)
        .include_file("pb.rs")
        .compile_fds(descriptors)?;
    Ok(encoded)
}
