//! Kubernetes manifests, rendered by kubectl and helm and validated against the schemas of their kinds.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::root;

/// The path of a program that `tests/setup` installed for deploy/ and lints.
///
/// # Panics
/// When the program is not installed.
pub fn deploy_tool(name: &str) -> PathBuf {
    let path = root().join("target/test-tools/deploy/bin").join(name);
    assert!(path.exists(), "{name} is not installed: run tests/setup");
    path
}

/// The objects that `kubectl kustomize` renders from a directory below deploy/kubernetes.
pub fn kustomize(directory: &str) -> Vec<Value> {
    let path = root().join("deploy/kubernetes").join(directory);
    let rendered = super::run(
        Command::new(deploy_tool("kubectl"))
            .arg("kustomize")
            .arg(path),
    );
    validated(&rendered).unwrap_or_else(|mistakes| panic!("{directory}: {mistakes}"))
}

/// The output of `helm template` for the chart, or its error message.
pub fn helm_template(options: &[&str]) -> Result<String, String> {
    let output = Command::new(deploy_tool("helm"))
        .args(["template", "rk"])
        .arg(root().join("deploy/helm/ratekeeper"))
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// The objects that `helm template` renders from the chart.
pub fn helm(options: &[&str]) -> Vec<Value> {
    let rendered = helm_template(options).unwrap_or_else(|error| panic!("{options:?}: {error}"));
    validated(&rendered).unwrap_or_else(|mistakes| panic!("{options:?}: {mistakes}\n{rendered}"))
}

/// Reads a YAML file with one document.
///
/// # Panics
/// When the file cannot be read.
pub fn yaml(path: &Path) -> Value {
    let program =
        "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let printed = super::run(
        Command::new(deploy_tool("python"))
            .args(["-I", "-c", program])
            .arg(path),
    );
    serde_json::from_str(&printed).unwrap()
}

/// The objects in the text of manifests, or all errors that the schemas report.
pub fn validated(manifests: &str) -> Result<Vec<Value>, String> {
    let mut child = Command::new(deploy_tool("python"))
        .arg("-I")
        .arg(root().join("tests/deploy/validate.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program reads all input before it prints. If it ended early, its output says why.
    let _ = child
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(manifests.as_bytes());
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}
