//! Lines that `replay` reads.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Desk, minute};
use crate::support::root;

#[test]
fn lines_that_cannot_be_played_are_named() {
    let desk = Desk::new();
    let good = r#"{"time":1764020334,"domain":"mesh","descriptors":["user=ann"]}"#;
    let replay = |arguments: &[&str], input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ratekeeper"))
            .env_clear()
            .arg("replay")
            .arg("--config")
            .arg(&desk.rules)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have seen enough before the end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            error,
        )
    };
    for (input, expected) in [
        ("", "the files have no lines"),
        ("\n\n", "the files have no lines"),
        ("nonsense\n", "-:1: this is no line of JSON"),
        (
            &format!("{good}\n\n{{\"time\":1}}\n"),
            "-:3: the line has no descriptors",
        ),
        (
            &format!("{good}\n{{\"time\":1,\"domain\":\"\",\"descriptors\":[\"a=1\"]}}\n"),
            "-:2: rate limit domain must not be empty",
        ),
        (
            &format!("{good}\n{{\"v\":9,\"time\":1}}\n"),
            "-:2: the line is of version 9",
        ),
        ("\u{1f}\u{8b}", "-:1: this is no line"),
    ] {
        let (code, _, error) = replay(&["-"], input);
        assert_eq!(code, 1, "{input}: {error}");
        assert!(
            error.contains(expected) && error.lines().count() == 1,
            "{input}: {error}"
        );
    }
    let (code, text, error) = replay(
        &["--skip-broken", "-"],
        &format!("{good}\nnonsense\n{good}\n"),
    );
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(
        text.contains("requests: 2,")
            && text.contains("skipped: 1; the first: -:2: this is no line"),
        "{text}"
    );
    let (code, _, error) = replay(&["--skip-broken", "-"], "nonsense\n");
    assert!(
        code == 1 && error.contains("no line could be read: -:1:"),
        "{error}"
    );

    // Compressed, a directory, nothing.
    let packed = desk.path("requests.jsonl.gz");
    fs::write(&packed, b"\x1f\x8b\x08\x00").unwrap();
    for (path, expected) in [
        (packed.to_str().unwrap(), "gunzip -c"),
        (
            desk.directory.path().to_str().unwrap(),
            "is a directory; name the files in it",
        ),
        ("/nonexistent.jsonl", "cannot be read: No such file"),
    ] {
        let (code, _, error) = replay(&[path], "");
        assert!(code == 1 && error.contains(expected), "{path}: {error}");
    }
    for (arguments, expected) in [
        (&["--domain", "mesh", "-"][..], "--descriptor"),
        (&["--descriptor", "a={b}", "-"], "--domain"),
        (
            &["--domain", "d", "--descriptor", "a={b|c}", "-"],
            "write one of host",
        ),
        (
            &[
                "--domain",
                "d",
                "--descriptor",
                "a={b}",
                "--log-format",
                "x",
                "-",
            ],
            "format string",
        ),
        (&[], "<FILE>"),
    ] {
        let (code, _, error) = replay(arguments, "");
        assert!(
            code == 2 && error.contains(expected),
            "{arguments:?}: {error}"
        );
    }
}

#[test]
fn lines_out_of_order_are_put_in_order() {
    let desk = Desk::new();
    let text = minute(&["ann", "ben"]);
    let mut lines: Vec<&str> = text.lines().collect();
    let ordered = desk.replayed(&[desk.write("ordered.jsonl", &text).as_ref()]);
    lines.reverse();
    let (one, other) = lines.split_at(70);
    let one = desk.write("one.jsonl", &one.join("\n"));
    let other = desk.write("other.jsonl", &other.join("\n"));
    let merged = desk.replayed(&[one.as_ref(), other.as_ref()]);
    let numbers = |report: &Value| {
        let side = &report["configurations"][0];
        (
            side["denied"].clone(),
            side["over_time"].clone(),
            report["lines"]["late"].clone(),
        )
    };
    assert_eq!(numbers(&merged), numbers(&ordered));
    assert_eq!(merged["lines"]["late"], 0);
}

#[test]
fn the_examples_of_the_page_work_as_written() {
    let page = fs::read_to_string(root().join("docs/rehearsal.md")).unwrap();
    let desk = Desk::new();
    // Files that the page shows: a name in the line before.
    for (before, block) in blocks(&page) {
        if let Some(name) = before
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix("`:"))
        {
            desk.write(name, block);
        }
    }
    let mut commands = 0;
    for (_, block) in blocks(&page) {
        for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let shown: Vec<&str> = block
                .split(&format!("$ {command}\n"))
                .nth(1)
                .unwrap()
                .lines()
                .take_while(|line| !line.starts_with("$ "))
                .collect();
            let output = Command::new("sh")
                .args([
                    "-c",
                    &command.replace(
                        "ratekeeper ",
                        &format!("{} ", env!("CARGO_BIN_EXE_ratekeeper")),
                    ),
                ])
                .current_dir(desk.directory.path())
                .env_clear()
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap()
                + &String::from_utf8(output.stderr).unwrap();
            assert_eq!(text.trim_end(), shown.join("\n").trim_end(), "{command}");
            commands += 1;
        }
    }
    assert_eq!(commands, 2);
}

/// The blocks of code of a page, each with the line before it.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut pieces = page.split("```");
    let mut before = pieces.next().unwrap_or_default();
    while let (Some(block), Some(behind)) = (pieces.next(), pieces.next()) {
        let (_, block) = block.split_once('\n').unwrap();
        blocks.push((before.trim_end().lines().last().unwrap_or_default(), block));
        before = behind;
    }
    blocks
}
