//! House rules for the text of the repository, held by a test as rust-analyzer's tidy does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

/// Words that the field does not use for what a server does: a metric is exported, an event is logged, a client receives a
/// response, an actor has a name.
const IDIOMS: [&str; 12] = [
    "told",
    "tell",
    "tells",
    "whoever",
    "nobody",
    "somebody",
    "whom",
    "lest",
    "anew",
    "likewise",
    "meanwhile",
    "beforehand",
];

/// Parts that still have such words; none may be added to the list.
const OLD_WORDS: [&str; 15] = [
    "benches",
    "crates/rules",
    "crates/tools",
    "docs/log-events.md",
    "docs/rehearsal.md",
    "src/cli",
    "src/cli.rs",
    "src/limiter",
    "src/limiter.rs",
    "src/service/http/admin/status.rs",
    "src/service/rls.rs",
    "src/store",
    "src/telemetry",
    "src/telemetry.rs",
    "tests",
];

/// The longest test file, in lines.
const TEST_FILE_LINES: usize = 500;

/// Marks of unfinished work.
const MARKS: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Directories that are built or downloaded, not written.
const SKIPPED: [&str; 5] = [
    ".git",
    "target",
    "corpus",
    "artifacts",
    "proptest-regressions",
];

const EXTENSIONS: [&str; 17] = [
    "css",
    "editorconfig",
    "gotmpl",
    "html",
    "js",
    "json",
    "lua",
    "md",
    "proto",
    "py",
    "rs",
    "sh",
    "toml",
    "tpl",
    "txt",
    "yaml",
    "yml",
];

/// Files that quote the words, or that others wrote.
const EXEMPT: [&str; 2] = ["tests/tidy.rs", "LICENSE"];

#[test]
fn nothing_is_left_unfinished() {
    for (path, text) in texts() {
        for (number, line) in (1..).zip(text.lines()) {
            let mark = words(line).find(|word| MARKS.contains(word));
            assert_eq!(
                mark,
                None,
                "{}:{number}: finish it or open an issue",
                path.display()
            );
        }
    }
}

#[test]
fn the_text_uses_the_words_of_the_field() {
    let mut found = Vec::new();
    for (path, text) in texts() {
        if OLD_WORDS.iter().any(|part| path.starts_with(part)) {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = words(line);
            if let Some(word) =
                words.find(|word| IDIOMS.iter().any(|idiom| word.eq_ignore_ascii_case(idiom)))
            {
                found.push(format!("{}:{number}: {word}", path.display()));
            }
        }
    }
    assert!(
        found.is_empty(),
        "use the field's word (CONTRIBUTING.md, \"Words\"): {found:#?}"
    );
}

#[test]
fn test_files_have_one_subject() {
    for (path, text) in texts() {
        let lines = text.lines().count();
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let is_test = path.starts_with("tests") || path.ends_with("tests.rs");
        assert!(
            !is_rust || !is_test || lines <= TEST_FILE_LINES,
            "{} has {lines} lines; split it by subject, at most {TEST_FILE_LINES}",
            path.display()
        );
    }
}

#[test]
fn modules_are_files_of_their_name() {
    for (path, _) in texts() {
        assert!(
            !path.ends_with("mod.rs"),
            "{}: name the file after the module",
            path.display()
        );
    }
}

#[test]
fn lines_end_where_their_text_ends() {
    for (path, text) in texts() {
        let line = text.lines().position(|line| line.ends_with([' ', '\t']));
        assert_eq!(
            line,
            None,
            "{} has a line with trailing white space (counted from 0)",
            path.display()
        );
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "{} lacks a line end at its end",
            path.display()
        );
    }
}

/// A file that is not declared in tests.rs would not be compiled, and its tests would not run; the same for a file that
/// tests/tiers does not list.
#[test]
fn each_test_file_is_compiled_and_belongs_to_a_tier() {
    let directory = fs::read_dir(root().join("tests")).unwrap();
    let files: BTreeSet<String> = directory
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !["tests", "support"].contains(&name.as_str()))
        .collect();
    let declared: BTreeSet<String> = include_str!("tests.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    assert_eq!(files, declared, "tests/ and the modules of tests/tests.rs");
    let lines = include_str!("tiers").lines();
    let listed: Vec<&str> = lines
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split(' ').skip(1))
        .collect();
    let tiers: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(files, tiers, "tests/ and tests/tiers");
    assert_eq!(listed.len(), tiers.len(), "a file has one tier");
}

/// The words of a line, identifiers split at underscores and at upper-case letters.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|character: char| !character.is_ascii_alphanumeric())
        .flat_map(|name| {
            let mut starts: Vec<usize> = (1..name.len())
                .filter(|&at| {
                    let bytes = name.as_bytes();
                    bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase()
                })
                .collect();
            starts.insert(0, 0);
            let ends = starts
                .iter()
                .skip(1)
                .copied()
                .chain([name.len()])
                .collect::<Vec<_>>();
            starts
                .into_iter()
                .zip(ends)
                .map(move |(start, end)| &name[start..end])
        })
        .filter(|word| !word.is_empty())
}

/// The text files of the repository with their paths in it.
pub(crate) fn texts() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    assert!(
        found.len() > 300,
        "the repository is larger: {}",
        found.len()
    );
    found
}

fn collect(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !path.is_symlink() {
            if !SKIPPED.contains(&name) {
                collect(&path, found);
            }
            continue;
        }
        let relative = path.strip_prefix(root()).unwrap();
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        // Scripts and a few well-known files have no extension.
        let is_text = EXTENSIONS.contains(&extension) || !name.contains('.');
        if is_text && !EXEMPT.iter().any(|exempt| relative == Path::new(exempt)) {
            let text = fs::read_to_string(&path);
            let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.push((relative.to_owned(), text));
        }
    }
}
