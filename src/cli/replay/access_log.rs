//! Turns lines of Envoy's access log, JSON or text, into the requests that Envoy would have sent for them.

mod format;
mod template;

use serde_json::Value;

use super::recorded::{Answer, Recorded};
use super::timestamp;
use crate::limiter::{Code, Descriptor, Request};

pub(super) use format::Format;
pub(super) use template::Template;

/// Fields that can contain the time, in order of precedence, unless `--time` names one.
const TIMES: [&str; 6] = [
    "time",
    "start_time",
    "startTime",
    "timestamp",
    "@timestamp",
    "ts",
];

/// Fields with Envoy's response flags; `RL` marks a request that was rate limited.
const FLAGS: [&str; 2] = ["response_flags", "responseFlags"];

/// How lines of an access log become requests.
#[derive(Debug)]
pub(super) struct AccessLog {
    pub(super) domain: String,
    pub(super) descriptors: Vec<Template>,
    /// Field with the number of hits.
    pub(super) hits: Option<String>,
    /// Field with the time.
    pub(super) time: Option<String>,
    /// Format of lines that are not JSON.
    pub(super) format: Option<Format>,
}

/// Parses the template of a descriptor.
pub(super) fn template(text: &str) -> Result<Template, String> {
    text.parse()
}

/// Parses a format of lines.
pub(super) fn format(text: &str) -> Result<Format, String> {
    text.parse()
}

/// The fields of a line by name.
pub(super) trait Fields {
    /// Text of a field; `None` if the field is missing or empty.
    fn get(&self, name: &str) -> Option<String>;

    /// Whether the line has the field, even if it is empty.
    fn has(&self, name: &str) -> bool;
}

impl AccessLog {
    /// Parses a line; `None` if Envoy would have sent no request for it.
    pub(super) fn read(&self, line: &str) -> Result<Option<Recorded>, String> {
        if let Some(format) = &self.format
            && !line.starts_with('{')
        {
            return self.request(&format.read(line)?);
        }
        let value: Value = serde_json::from_str(line).map_err(|error| {
            let cause = error
                .to_string()
                .replace(" at line 1 column ", " at column ");
            format!(
                "the line is not JSON ({cause}); set the format of a text log with --log-format"
            )
        })?;
        if !value.is_object() {
            return Err(
                "the line is not a JSON object; each line of an access log must be one".to_owned(),
            );
        }
        self.request(&value)
    }

    fn request(&self, fields: &impl Fields) -> Result<Option<Recorded>, String> {
        let time = timestamp::parse_text(&self.time(fields)?)?;
        // Like an action of Envoy, a template without a value for a field produces no descriptor.
        let descriptors: Vec<Descriptor> = self
            .descriptors
            .iter()
            .filter_map(|template| template.fill(fields))
            .map(|entries| Descriptor {
                entries,
                ..Descriptor::default()
            })
            .collect();
        if descriptors.is_empty() {
            return Ok(None);
        }
        let hits_addend = match self.hits.as_deref().and_then(|field| fields.get(field)) {
            None => 0,
            Some(hits) => hits.parse().map_err(|_| {
                format!("{hits:?} is not a whole number; name a field with the number of hits with --hits")
            })?,
        };
        let flags = FLAGS.iter().find_map(|name| fields.get(name));
        let has_flags = FLAGS.iter().any(|name| fields.has(name));
        let is_denied = flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "RL"));
        Ok(Some(Recorded {
            time,
            request: Request {
                domain: self.domain.as_str().into(),
                descriptors,
                hits_addend,
            },
            marks: Vec::new(),
            answer: has_flags.then_some(Answer {
                code: if is_denied { Code::OverLimit } else { Code::Ok },
                is_fallback: false,
                tells_each: false,
            }),
        }))
    }

    fn time(&self, fields: &impl Fields) -> Result<String, String> {
        match &self.time {
            Some(name) => fields.get(name).ok_or_else(|| {
                format!("the line has no field {name:?}; name the field with the time with --time")
            }),
            None => TIMES
                .iter()
                .find_map(|name| fields.get(name))
                .ok_or_else(|| {
                    "the line has no known field with a time; name the field with --time".to_owned()
                }),
        }
    }
}

/// Finds a field by its name, or else by its path with dots.
impl Fields for Value {
    fn get(&self, name: &str) -> Option<String> {
        let found = Value::get(self, name).or_else(|| {
            name.split('.')
                .try_fold(self, |value, name| value.get(name))
        })?;
        match found {
            Value::String(text) => non_empty(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn has(&self, name: &str) -> bool {
        Value::get(self, name).is_some()
    }
}

/// Returns the text, or `None` for the dash that Envoy writes for an empty field.
fn non_empty(text: &str) -> Option<String> {
    (text != "-").then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
