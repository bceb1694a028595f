//! An independent gRPC client: Envoy's published messages in Python, on an implementation that shares no code with the server.

use std::ffi::OsStr;
use std::process::Command;

use serde_json::Value;

use super::{root, run, tool};

/// Runs a command of `tests/wire/client.py` and returns the JSON that it prints.
pub fn client(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Value {
    let script = root().join("tests/wire/client.py");
    let printed = run(Command::new(tool("python"))
        .arg("-I")
        .arg(script)
        .args(arguments));
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("not JSON ({error}): {printed}"))
}
