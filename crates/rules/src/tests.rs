//! Configuration as a whole: text in, rules or mistakes out.

mod accepted;
mod properties;
mod rejected;
mod several_files;

use super::{LoadOptions, RuleSet, SourceFile};

/// Files by name and text.
pub(super) fn files(files: &[(&str, &str)]) -> Vec<SourceFile> {
    let file = |&(name, text): &(&str, &str)| SourceFile {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    files.iter().map(file).collect()
}

/// The rules of one good file.
pub(super) fn rules(text: &str) -> RuleSet {
    match RuleSet::load(&files(&[("a.yaml", text)]), LoadOptions::default()) {
        Ok(rules) => rules,
        Err(mistakes) => panic!("{mistakes}\n{text}"),
    }
}

/// What is reported about files that have mistakes, a line each.
pub(super) fn mistakes(sources: &[(&str, &str)], options: LoadOptions) -> Vec<String> {
    let mistakes = RuleSet::load(&files(sources), options).expect_err("there are mistakes");
    mistakes.to_string().lines().map(str::to_owned).collect()
}
