//! Lines of Envoy's access log, JSON or text, made to requests: what Envoy would have asked for them.

mod format;
mod template;

use serde_json::Value;

use super::recorded::{Answer, Recorded};
use super::when;
use crate::limiter::{Code, Descriptor, Request};

pub(super) use format::Format;
pub(super) use template::Template;

/// Where a time is looked for, in this order, when no field is named for it.
const TIMES: [&str; 6] = [
    "time",
    "start_time",
    "startTime",
    "timestamp",
    "@timestamp",
    "ts",
];

/// Where Envoy says that it denied a request for its rate.
const FLAGS: [&str; 2] = ["response_flags", "responseFlags"];

/// How lines become requests.
#[derive(Debug)]
pub(super) struct AccessLog {
    pub(super) domain: String,
    pub(super) descriptors: Vec<Template>,
    /// The field that has the hits.
    pub(super) hits: Option<String>,
    /// The field that has the time.
    pub(super) time: Option<String>,
    /// How lines are written that are no JSON.
    pub(super) format: Option<Format>,
}

/// Reads a template of a descriptor.
pub(super) fn template(text: &str) -> Result<Template, String> {
    text.parse()
}

/// Reads a format of lines.
pub(super) fn format(text: &str) -> Result<Format, String> {
    text.parse()
}

/// What a line says, by the names of its fields.
pub(super) trait Fields {
    /// The text of a field; `None` when it is not there, or says nothing.
    fn get(&self, name: &str) -> Option<String>;

    /// Whether there is such a field, even if it says nothing.
    fn has(&self, name: &str) -> bool;
}

impl AccessLog {
    /// The request that a line tells of; `None` for one that Envoy would not have asked anything for.
    pub(super) fn read(&self, line: &str) -> Result<Option<Recorded>, String> {
        if let Some(format) = &self.format
            && !line.starts_with('{')
        {
            return self.request(&format.read(line)?);
        }
        let value: Value = serde_json::from_str(line).map_err(|error| {
            let cause = error.to_string().replace(" at line 1 column ", " at column ");
            format!("this is no line of JSON ({cause}); of a text log, name the format with --log-format")
        })?;
        if !value.is_object() {
            return Err("this is no object of JSON, as a line of an access log is".to_owned());
        }
        self.request(&value)
    }

    fn request(&self, fields: &impl Fields) -> Result<Option<Recorded>, String> {
        let time = when::of_text(&self.time(fields)?)?;
        // What Envoy's actions find nothing for makes no descriptor.
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
                format!("{hits:?} are no hits; --hits names a field with a whole number")
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
            Some(name) => fields
                .get(name)
                .ok_or_else(|| format!("the line has no field {name:?}, which --time names")),
            None => TIMES.iter().find_map(|name| fields.get(name)).ok_or_else(|| {
                "the line has no time, or not under a name that is known; name its field with --time".to_owned()
            }),
        }
    }
}

/// A field by its name; where there is none, by the way to it, with dots.
impl Fields for Value {
    fn get(&self, name: &str) -> Option<String> {
        let found = Value::get(self, name).or_else(|| {
            name.split('.')
                .try_fold(self, |value, name| value.get(name))
        })?;
        match found {
            Value::String(text) => said(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn has(&self, name: &str) -> bool {
        Value::get(self, name).is_some()
    }
}

/// The text, unless it is the dash that Envoy writes for nothing.
fn said(text: &str) -> Option<String> {
    (text != "-").then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
