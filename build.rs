//! Compiles `proto/` to Rust, without `protoc`: what is served, together with the descriptor set that
//! reflection serves, and apart from it what management servers are asked.

use std::path::{Path, PathBuf};
use std::{error::Error, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo tells a build script by the environment"
    )]
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let served = compile(
        &["envoy/service/ratelimit/v3/rls.proto"],
        &out.join("service"),
    )?;
    fs::write(out.join("descriptors.bin"), served)?;
    let asked = [
        "envoy/service/discovery/v3/ads.proto",
        "ratelimit/config/ratelimit/v3/rls_conf.proto",
    ];
    compile(&asked, &out.join("xds"))?;
    Ok(())
}

/// Compiles files to Rust in a directory, and returns them as an encoded `FileDescriptorSet`.
fn compile(files: &[&str], out: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let descriptors = protox::compile(files, ["proto"])?;
    let encoded = descriptors.encode_to_vec();
    fs::create_dir_all(out)?;
    tonic_prost_build::configure()
        .out_dir(out)
        .include_file("pb.rs")
        .compile_fds(descriptors)?;
    Ok(encoded)
}
