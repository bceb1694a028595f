//! The environment of a deployment, from a file, a manifest or this process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::super::ratelimit_variables::{PREFIXES, effect};

/// The value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// Set, but its value is unknown, such as one from a Secret.
    Hidden,
}

/// Variables by name. Empty variables count as not set.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Description of the source, for the report.
    pub(super) source: String,
    variables: BTreeMap<String, Value>,
}

impl Environment {
    /// An empty environment.
    pub(super) fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            variables: BTreeMap::new(),
        }
    }

    /// Reads a file of `NAME=value` lines.
    pub(super) fn of_file(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("--env {}", path.display()))?;
        let mut environment = Self::new(path.display().to_string());
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let pair = line
                .split_once('=')
                .map(|(name, value)| (name.trim(), value.trim()));
            let (name, value) = pair.filter(|(name, _)| is_name(name)).with_context(|| {
                let place = path.display();
                format!(
                    "--env {place}:{}: this is not a NAME=value line; if the file is a manifest, use --manifest",
                    number + 1
                )
            })?;
            environment.set(name, Value::Text(unquoted(value).to_owned()));
        }
        Ok(environment)
    }

    /// Variables of this process that a rate limit service can read.
    pub(super) fn of_process() -> Self {
        let mut environment = Self::new("the environment of this process");
        for (name, value) in std::env::vars_os() {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
                continue;
            };
            let is_ours =
                effect(name).is_some() || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if is_ours {
                environment.set(name, Value::Text(value.to_owned()));
            }
        }
        environment
    }

    pub(super) fn set(&mut self, name: &str, value: Value) {
        if value != Value::Text(String::new()) {
            self.variables.insert(name.to_owned(), value);
        } else {
            self.variables.remove(name);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    /// The value, if it is set and known.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.variables.get(name)? {
            Value::Text(text) => Some(text),
            Value::Hidden => None,
        }
    }

    /// Whether a boolean is true, in the spellings that both servers accept.
    pub(super) fn is_on(&self, name: &str) -> bool {
        let text = self.text(name);
        text.is_some_and(|text| super::super::options::boolean(text) == Ok(true))
    }

    pub(super) fn len(&self) -> usize {
        self.variables.len()
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Removes the quotes around a value, as shells and systemd do.
fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}
