//! Any text: rules or mistakes, never a panic; and what was loaded can be walked and explained.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ratekeeper::rules::{LoadOptions, RuleSet, SourceFile};

fuzz_target!(|text: &str| {
    // Two files, so that what files may do to each other is tried, too.
    let (first, second) = text.split_once("\u{1}").unwrap_or((text, ""));
    let files: Vec<SourceFile> = [("a.yaml", first), ("b.yaml", second)]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| SourceFile { name: name.to_owned(), text: text.to_owned() })
        .collect();
    for merge_domains in [false, true] {
        let options = LoadOptions { merge_domains, ..LoadOptions::default() };
        match RuleSet::load(&files, options) {
            Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
            Ok(rules) => {
                for domain in rules.domains() {
                    let entries = [("a", "b"), ("key", "value"), ("", "*")];
                    for count in 0..=entries.len() {
                        let found = domain.find(entries[..count].iter().copied()).is_some();
                        let trace = rules.trace(domain.name(), &entries[..count]);
                        let explained = matches!(trace.end, ratekeeper::rules::End::Rule { .. });
                        assert_eq!(found, explained, "{trace}");
                    }
                }
            }
        }
    }
});
