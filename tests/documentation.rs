//! The documentation: links lead somewhere, each page is in the book, and examples are valid.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{root, typed};
use crate::tidy::texts;

/// The largest README, in bytes: a reader decides in a minute.
const README_BYTES: usize = 12 << 10;

/// The pages of the repository with their text, without code blocks.
fn pages() -> Vec<(PathBuf, String)> {
    let is_page = |path: &Path| path.extension().is_some_and(|extension| extension == "md");
    let pages = texts().into_iter().filter(|(path, _)| is_page(path));
    pages.map(|(path, text)| (path, prose(&text))).collect()
}

/// The lines outside of code blocks.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The code blocks of a language.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let mut blocks = Vec::new();
    for part in text.split(&fence).skip(1) {
        let (block, _) = part.split_once("```").unwrap();
        blocks.push(block.to_owned());
    }
    blocks
}

/// The targets of the links of a page.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let (target, _) = rest.split_once(')')?;
        (!target.contains(char::is_whitespace)).then_some(target)
    })
}

/// The anchor of a heading, as GitHub and mdBook write it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut count = 0;
    for (path, text) in pages() {
        for link in links(&text).filter(|link| !link.contains(':')) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => root().join(&path),
                file => root().join(path.parent().unwrap()).join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !heading.is_empty()
                && target
                    .extension()
                    .is_some_and(|extension| extension == "md")
            {
                let page = prose(&fs::read_to_string(&target).unwrap());
                let mut headings = page.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|line| anchor(line) == heading),
                    "{}: {link} has no such heading",
                    path.display()
                );
            }
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn each_page_is_in_the_summary_of_the_book() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let listed: Vec<&str> = links(&summary).collect();
    let unique: BTreeSet<PathBuf> = listed
        .iter()
        .map(|link| Path::new("docs").join(link))
        .collect();
    assert_eq!(unique.len(), listed.len(), "a page is listed once");
    let pages = pages().into_iter().map(|(path, _)| path);
    let pages: BTreeSet<PathBuf> = pages
        .filter(|path| path.starts_with("docs") && !path.ends_with("SUMMARY.md"))
        .collect();
    assert_eq!(unique, pages);
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.len() <= README_BYTES, "{} bytes", readme.len());
}

#[test]
fn configurations_have_no_errors() {
    let directory = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (path, text) in texts() {
        let is_page = path.starts_with("docs") || path.ends_with("README.md");
        if !is_page || path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        for block in blocks(&text, "yaml") {
            if !block.lines().any(|line| line.starts_with("domain:")) {
                continue;
            }
            let file = directory.path().join(format!("{count}.yaml"));
            fs::write(&file, &block).unwrap();
            let printed = typed(["check", file.to_str().unwrap()], []);
            assert_eq!(
                printed.code,
                0,
                "{}:\n{block}\n{}",
                path.display(),
                printed.stderr
            );
            count += 1;
        }
    }
    assert!(count > 5, "{count}");
}

/// A tutorial shows files of examples/, which other tests run behind a real Envoy.
#[test]
fn tutorials_show_the_files_that_are_tested() {
    let mut count = 0;
    for (path, text) in texts() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if !path.starts_with("docs") || !name.starts_with("tutorial-") {
            continue;
        }
        for part in text.split("\n`examples/").skip(1) {
            let (file, rest) = part.split_once("`:\n\n```yaml\n").unwrap();
            let (shown, _) = rest.split_once("```").unwrap();
            let tested = fs::read_to_string(root().join("examples").join(file)).unwrap();
            assert_eq!(
                shown.trim_end(),
                tested.trim_end(),
                "{name}: examples/{file}"
            );
            count += 1;
        }
    }
    assert!(count >= 5, "{count}");
}

/// A command that no longer exists, or an option that was renamed, is an error here.
#[test]
fn commands_exist_with_their_options() {
    let commands = [
        "serve", "check", "explain", "hit", "bench", "top", "migrate", "replay", "diff", "schema",
    ];
    let helps = commands.map(|command| (command, typed([command, "--help"], []).stdout));
    let mut count = 0;
    for (path, text) in texts() {
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        for line in blocks(&text, "sh").iter().flat_map(|block| block.lines()) {
            let line = line.split(" # ").next().unwrap();
            let Some((_, arguments)) = line.split_once("ratekeeper ") else {
                continue;
            };
            let mut words = arguments.split_whitespace();
            let first = words.next().unwrap_or_default();
            let Some((_, help)) = helps.iter().find(|(command, _)| *command == first) else {
                continue;
            };
            let words = words.take_while(|word| !["|", "&&", ";", "&"].contains(word));
            for option in words.filter(|word| word.starts_with("--")) {
                let name = option.split('=').next().unwrap().trim_end_matches(';');
                assert!(help.contains(name), "{}: {line}: {name}", path.display());
            }
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

/// A bar within a cell begins another cell, also in code, unless a backslash precedes it.
#[test]
fn rows_of_a_table_have_as_many_cells_as_its_head() {
    let mut rows = 0;
    for (path, text) in pages() {
        let mut head = None;
        for (number, line) in (1..).zip(text.lines()) {
            if !line.starts_with('|') {
                head = None;
                continue;
            }
            let bars = line.matches('|').count() - line.matches("\\|").count();
            let expected = *head.get_or_insert(bars);
            assert_eq!(bars, expected, "{}: row {number}: {line}", path.display());
            rows += 1;
        }
    }
    assert!(rows > 300, "{rows}");
}
