//! The report, as text and as JSON.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::output::counted;

use super::environment::Environment;
use super::finding::{Finding, Kind};

/// All findings, in order of severity.
#[derive(Debug)]
pub(super) struct Report {
    source: String,
    variables: usize,
    files: usize,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(environment: &Environment, files: usize, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.kind);
        // The same finding can come from several sources.
        let mut seen = HashSet::new();
        findings.retain(|finding| seen.insert((finding.about.clone(), finding.what.clone())));
        Self {
            source: environment.source.clone(),
            variables: environment.len(),
            files,
            findings,
        }
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.of_kind(kind).next().is_some()
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.kind == kind)
    }

    fn verdict(&self) -> Kind {
        self.findings
            .first()
            .map_or(Kind::Same, |finding| match finding.kind {
                Kind::NoEffect | Kind::Unknown => Kind::Same,
                kind => kind,
            })
    }

    /// Variables to set for the behavior of envoyproxy/ratelimit, each with its finding.
    fn parity(&self) -> impl Iterator<Item = (&Finding, &'static str, &str)> {
        self.findings.iter().filter_map(|finding| {
            let (name, value) = finding.parity.as_ref()?;
            Some((finding, *name, value.as_str()))
        })
    }

    // --- Text ---

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}: {}, {}\n",
            self.source,
            counted(self.variables, "variable"),
            counted(self.files, "rule file")
        );
        for kind in Kind::ALL {
            let count = self.of_kind(kind).count();
            if count == 0 {
                continue;
            }
            let _ = writeln!(text, "\n{} ({count}):", kind.title());
            let mut plain = Vec::new();
            for Finding { about, what, .. } in self.of_kind(kind) {
                if what.is_empty() {
                    plain.push(about.as_str());
                } else {
                    let _ = writeln!(text, "  {about}\n      {what}");
                }
            }
            if !plain.is_empty() {
                let _ = writeln!(text, "  {}", plain.join(", "));
            }
        }
        if self.parity().next().is_some() {
            text.push_str("\nFor the behavior of envoyproxy/ratelimit, set:\n");
        }
        for (finding, name, value) in self.parity() {
            let _ = writeln!(text, "  {name}={value}    ({})", finding.about);
        }
        text.push_str(match self.verdict() {
            Kind::ChangeFirst => {
                "\nChange the items above first; the rest can be migrated unchanged.\n"
            }
            _ => "\nThe deployment can be migrated unchanged. docs/moving.md has the steps, and the rollback.\n",
        });
        text
    }

    // --- JSON ---

    pub(super) fn json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "kind": finding.kind.name(),
                "about": finding.about,
                "what": finding.what,
                "parity": finding.parity.as_ref().map(|(name, value)| json!({"name": name, "value": value})),
            })
        });
        json!({
            "verdict": self.verdict().name(),
            "source": self.source,
            "variables": self.variables,
            "rule_files": self.files,
            "findings": findings.collect::<Vec<_>>(),
        })
    }
}
