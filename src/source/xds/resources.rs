//! Decodes the resources of a response into the values that a file with the same configuration has.
//!
//! Only the encoding is checked here. The values are checked in the same way as those of files, so that mistakes have the same
//! messages.

mod outline;

use std::collections::HashSet;

use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Any, Struct, Value as StructValue};
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

use super::TYPE_URL;
use super::error::printable;
use super::pb::{
    DiscoveryResponse, RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use crate::rules::{LoadOptions, MAX_LISTED, RuleSet, SourceValue};
use crate::source::MistakeSummary;

/// A hash of a response. It does not depend on the order of the resources.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint(response: &DiscoveryResponse) -> Fingerprint {
    let digest = |resource: &Any| -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(resource.type_url.len().to_le_bytes());
        hash.update(&resource.type_url);
        hash.update(&resource.value);
        hash.finalize().into()
    };
    let mut digests: Vec<_> = response.resources.iter().map(digest).collect();
    digests.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(digests.as_flattened());
    hash.update(&response.type_url);
    hash.finalize().into()
}

/// A whole configuration, as the management server sent it.
#[derive(Debug)]
pub struct Update {
    response: DiscoveryResponse,
}

/// Maximum number of decoding errors. Mistakes in the values are counted apart.
const MAX_ERRORS: usize = MAX_LISTED;

/// Decoded resources, and the errors of those that cannot be decoded.
#[derive(Debug, Default)]
struct Decoded {
    values: Vec<SourceValue>,
    errors: Vec<String>,
}

impl Update {
    pub(super) fn new(response: DiscoveryResponse) -> Self {
        Self { response }
    }

    /// Loads the rules of all resources. Large configurations take a second or more.
    ///
    /// Resources are loaded in the order of their names, because servers send them in any order, and with
    /// [`merge_domains`](LoadOptions::merge_domains) the order of patterns depends on it.
    ///
    /// # Errors
    /// If a resource cannot be decoded or has mistakes.
    pub fn load(&self, options: LoadOptions) -> Result<RuleSet, MistakeSummary> {
        let Decoded { values, mut errors } = self.decoded();
        match RuleSet::load_values(values, options) {
            Ok(rules) if errors.is_empty() => return Ok(rules),
            Ok(_) => {}
            Err(mistakes) => errors.extend(mistakes.into_iter().map(|mistake| mistake.to_string())),
        }
        Err(MistakeSummary::new(errors))
    }

    /// Returns the version of the management server, printable on one line.
    #[must_use]
    pub fn version(&self) -> String {
        printable(&self.response.version_info)
    }

    fn decoded(&self) -> Decoded {
        let mut decoded = Decoded::default();
        let wanted = message_name(TYPE_URL);
        let sent = &self.response.type_url;
        if message_name(sent) != wanted {
            decoded.error(format!(
                "the response is of type \"{}\", but only {TYPE_URL} was asked for",
                printable(sent)
            ));
            return decoded;
        }
        let mut configs = Vec::new();
        for (i, resource) in self.response.resources.iter().enumerate() {
            let sent = &resource.type_url;
            if message_name(sent) != wanted {
                let (number, sent) = (i + 1, printable(sent));
                let what = format!("resource #{number} is of type \"{sent}\", not {TYPE_URL}");
                decoded.error(what);
                continue;
            }
            if let Some(count) = outline::excess(&resource.value) {
                decoded.error(format!(
                    "resource #{} has {count} descriptors, limits and values of metadata in {} bytes, most of them \
                     empty; leave out empty ones",
                    i + 1,
                    resource.value.len()
                ));
                continue;
            }
            match RateLimitConfig::decode(&*resource.value) {
                Ok(config) => configs.push((i, config)),
                Err(error) => {
                    decoded.error(format!(
                        "resource #{} {}",
                        i + 1,
                        decoding_error(&error.to_string())
                    ));
                }
            }
        }
        configs.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        let mut names = HashSet::new();
        for (i, config) in configs {
            let name = printable(&config.name);
            let name = if name.is_empty() {
                format!("resource #{}", i + 1)
            } else if names.insert(name.clone()) {
                format!("resource {name}")
            } else {
                format!("resource {name} (#{})", i + 1)
            };
            decoded.add(name, config);
        }
        decoded
    }
}

/// Returns the description of an error of the protobuf library.
fn decoding_error(error: &str) -> String {
    if error.ends_with("recursion limit reached") {
        // The library's text lists all levels.
        return "is nested too deep; nest its descriptors less".to_owned();
    }
    format!(
        "cannot be decoded: {}; check that the server knows the published fields of RateLimitConfig",
        printable(error)
    )
}

/// Returns the name of the message type in a type URL.
fn message_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or_default()
}

impl Decoded {
    fn error(&mut self, error: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    fn add(&mut self, name: String, config: RateLimitConfig) {
        let mut fields = Fields::default();
        fields.text("domain", config.domain);
        fields.put("descriptors", self.descriptors(&name, config.descriptors));
        let value = Value::Object(fields.0);
        self.values.push(SourceValue { name, value });
    }

    fn descriptors(&mut self, resource: &str, descriptors: Vec<RateLimitDescriptor>) -> Value {
        let descriptors = descriptors.into_iter();
        descriptors
            .map(|descriptor| self.descriptor(resource, descriptor))
            .collect()
    }

    fn descriptor(&mut self, resource: &str, descriptor: RateLimitDescriptor) -> Value {
        let mut fields = Fields::default();
        fields.text("key", descriptor.key);
        fields.text("value", descriptor.value);
        fields.flag("shadow_mode", descriptor.shadow_mode);
        fields.flag("detailed_metric", descriptor.detailed_metric);
        fields.flag("quota_mode", descriptor.quota_mode);
        fields.flag("value_to_metric", descriptor.value_to_metric);
        fields.flag("share_threshold", descriptor.share_threshold);
        fields.text("on_store_failure", descriptor.on_store_failure);
        let more = descriptor.more_rate_limits;
        let limits: Vec<Value> = descriptor
            .rate_limit
            .into_iter()
            .chain(more)
            .map(policy)
            .collect();
        if !limits.is_empty() {
            fields.put("rate_limit", Value::Array(limits));
        }
        if !descriptor.candidates.is_empty() {
            let candidates = descriptor.candidates.into_iter().map(policy);
            fields.put("candidate", candidates.collect());
        }
        if let Some(metadata) = descriptor.metadata {
            let metadata = self.json_object(resource, metadata);
            fields.put("metadata", metadata);
        }
        if !descriptor.descriptors.is_empty() {
            let below = self.descriptors(resource, descriptor.descriptors);
            fields.put("descriptors", below);
        }
        Value::Object(fields.0)
    }

    fn json_object(&mut self, resource: &str, fields: Struct) -> Value {
        let fields = fields.fields.into_iter();
        let fields = fields.map(|(key, value)| (key, self.json(resource, value)));
        Value::Object(fields.collect())
    }

    fn json(&mut self, resource: &str, value: StructValue) -> Value {
        match value.kind {
            None | Some(Kind::NullValue(_)) => Value::Null,
            Some(Kind::BoolValue(flag)) => Value::Bool(flag),
            Some(Kind::StringValue(text)) => Value::String(text),
            Some(Kind::StructValue(fields)) => self.json_object(resource, fields),
            Some(Kind::ListValue(list)) => {
                let values = list.values.into_iter();
                values.map(|value| self.json(resource, value)).collect()
            }
            Some(Kind::NumberValue(number)) => match Number::from_f64(number) {
                Some(number) => Value::Number(number),
                None => {
                    self.error(format!(
                        "{resource}: error parsing metadata: {number} is not a JSON number; send it \
                         as a text"
                    ));
                    Value::Null
                }
            },
        }
    }
}

fn policy(policy: RateLimitPolicy) -> Value {
    let mut fields = Fields::default();
    match RateLimitUnit::try_from(policy.unit) {
        // Treated as a missing unit.
        Ok(RateLimitUnit::Unknown) => {}
        Ok(unit) => fields.text("unit", unit.as_str_name().to_lowercase()),
        Err(_) => fields.text("unit", policy.unit.to_string()),
    }
    fields.put("requests_per_unit", policy.requests_per_unit.into());
    fields.flag("unlimited", policy.unlimited);
    fields.text("name", policy.name);
    if !policy.replaces.is_empty() {
        let replaces = policy.replaces.into_iter().map(|replaced| {
            let mut fields = Fields::default();
            fields.text("name", replaced.name);
            Value::Object(fields.0)
        });
        fields.put("replaces", replaces.collect());
    }
    fields.count("burst", policy.burst);
    fields.count("unit_multiplier", policy.unit_multiplier);
    fields.text("algorithm", policy.algorithm);
    fields.text("hits", policy.hits);
    fields.count("max_debt", policy.max_debt);
    Value::Object(fields.0)
}

/// A map of the fields that are set. In protobuf, an empty value is the same as a missing one.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    fn text(&mut self, name: &str, text: String) {
        if !text.is_empty() {
            self.put(name, Value::String(text));
        }
    }

    fn flag(&mut self, name: &str, flag: bool) {
        if flag {
            self.put(name, Value::Bool(true));
        }
    }

    fn count(&mut self, name: &str, count: Option<u32>) {
        if let Some(count) = count {
            self.put(name, count.into());
        }
    }
}

#[cfg(test)]
mod tests;
