//! What stands around the code of a public project: workflows, dependencies, release notes.

use std::fs;
use std::process::Command;

use crate::support::{deploy_tool, root, run};
use crate::tidy::texts;

#[test]
fn workflows_have_no_lint() {
    // shellcheck stands beside actionlint, which runs it over the scripts of the steps.
    let tools = deploy_tool("actionlint");
    let path = tools.parent().unwrap();
    run(Command::new(&tools)
        .args(["-shellcheck", path.join("shellcheck").to_str().unwrap()])
        .current_dir(root()));
}

#[test]
fn shell_scripts_have_no_lint() {
    let scripts: Vec<_> = texts()
        .into_iter()
        .filter(|(_, text)| {
            let first = text.lines().next().unwrap_or_default();
            first.starts_with("#!") && first.ends_with("sh")
        })
        .map(|(path, _)| path)
        .collect();
    assert!(scripts.len() > 5, "{scripts:?}");
    run(Command::new(deploy_tool("shellcheck"))
        .args(scripts)
        .current_dir(root()));
}

/// An action's tag can be moved to other code; a commit cannot.
#[test]
fn actions_are_pinned_by_commit() {
    let mut count = 0;
    for entry in fs::read_dir(root().join(".github/workflows")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\npermissions:\n  contents: read\n"),
            "{}: a workflow may read, jobs add what they need",
            path.display()
        );
        for line in text.lines() {
            let Some((_, action)) = line.split_once("uses: ") else {
                continue;
            };
            if action.starts_with("./") {
                continue;
            }
            count += 1;
            let (_, commit) = action.split_once('@').unwrap();
            let (commit, version) = commit.split_once(" # v").unwrap_or((commit, ""));
            let is_commit =
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(
                is_commit && !version.is_empty(),
                "{}: '{action}' must be '@COMMIT # vVERSION'",
                path.display()
            );
        }
    }
    assert!(count > 0);
}

/// Licenses, sources and banned crates; advisories need the network and are CI's.
#[test]
fn dependencies_are_allowed() {
    run(Command::new(deploy_tool("cargo-deny"))
        .args([
            "--offline",
            "--locked",
            "check",
            "bans",
            "licenses",
            "sources",
        ])
        .current_dir(root()));
}

#[test]
fn the_changelog_becomes_release_notes() {
    let notes = |version: &str| {
        Command::new(root().join(".github/release-notes"))
            .arg(version)
            .output()
            .unwrap()
    };
    let unreleased = notes("Unreleased");
    assert!(unreleased.status.success());
    let text = String::from_utf8(unreleased.stdout).unwrap();
    assert!(
        text.contains("### Added") && !text.contains("\n## "),
        "{text}"
    );
    let missing = notes("9.9.9");
    assert!(!missing.status.success() && missing.stdout.is_empty());
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.contains("no section \"## 9.9.9\""), "{error}");
}
