//! A response to rules: its resources are decoded and become the values that a file would have.
//!
//! Nothing is judged here but the bytes; what the values mean is checked where files are, so that
//! the same mistakes get the same words.

mod outline;

use std::collections::HashSet;

use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Any, Struct, Value as StructValue};
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

use super::TYPE_URL;
use super::pb::{
    DiscoveryResponse, RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use super::trouble::shown;
use crate::rules::{LoadOptions, MAX_LISTED, RuleSet, SourceValue};
use crate::source::told::{Told, told};

/// Stands for all that a response says; the order of its resources says nothing.
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

/// The most flaws that are kept; mistakes in the values come on top.
const MAX_FLAWS: usize = MAX_LISTED;

/// What could be made of resources, and what could not.
#[derive(Debug, Default)]
struct Decoded {
    values: Vec<SourceValue>,
    flaws: Vec<String>,
}

impl Update {
    pub(super) fn new(response: DiscoveryResponse) -> Self {
        Self { response }
    }

    /// The rules of all resources together. It may take a second or more.
    ///
    /// Resources are read in the order of their names: servers send them in any, and with
    /// [`merge_domains`](LoadOptions::merge_domains) the order of patterns hangs on it.
    ///
    /// # Errors
    /// What is wrong: the first mistakes, and how many more.
    pub fn load(&self, options: LoadOptions) -> Result<RuleSet, Told> {
        let Decoded { values, mut flaws } = self.decoded();
        match RuleSet::load_values(values, options) {
            Ok(rules) if flaws.is_empty() => return Ok(rules),
            Ok(_) => {}
            Err(mistakes) => flaws.extend(mistakes.into_iter().map(|mistake| mistake.to_string())),
        }
        Err(told(flaws))
    }

    /// What the management server calls it, fit for a line.
    #[must_use]
    pub fn version(&self) -> String {
        shown(&self.response.version_info)
    }

    fn decoded(&self) -> Decoded {
        let mut decoded = Decoded::default();
        let wanted = message_name(TYPE_URL);
        let sent = &self.response.type_url;
        if message_name(sent) != wanted {
            decoded.flaw(format!(
                "the response is of type \"{}\", but only {TYPE_URL} was asked for",
                shown(sent)
            ));
            return decoded;
        }
        let mut configs = Vec::new();
        for (i, resource) in self.response.resources.iter().enumerate() {
            let sent = &resource.type_url;
            if message_name(sent) != wanted {
                let (number, sent) = (i + 1, shown(sent));
                let what = format!("resource #{number} is of type \"{sent}\", not {TYPE_URL}");
                decoded.flaw(what);
                continue;
            }
            if let Some(count) = outline::excess(&resource.value) {
                decoded.flaw(format!(
                    "resource #{} has {count} descriptors, limits and values of metadata in {} bytes, most of them \
                     empty; send only those that say something",
                    i + 1,
                    resource.value.len()
                ));
                continue;
            }
            match RateLimitConfig::decode(&*resource.value) {
                Ok(config) => configs.push((i, config)),
                Err(error) => {
                    decoded.flaw(format!("resource #{} {}", i + 1, flaw(&error.to_string())));
                }
            }
        }
        configs.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        let mut names = HashSet::new();
        for (i, config) in configs {
            let name = shown(&config.name);
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

/// What is wrong with bytes that the library does not decode, by what it says.
fn flaw(error: &str) -> String {
    if error.ends_with("recursion limit reached") {
        // It lists all of the levels.
        return "is nested too deep; nest its descriptors less".to_owned();
    }
    format!(
        "cannot be decoded: {}; check that the server knows the published fields of RateLimitConfig",
        shown(error)
    )
}

/// The message that a type URL names.
fn message_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or_default()
}

impl Decoded {
    fn flaw(&mut self, flaw: String) {
        if self.flaws.len() < MAX_FLAWS {
            self.flaws.push(flaw);
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
                    self.flaw(format!(
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
        // It says nothing, as a unit that is left out.
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

/// A map that gets only what was set: in protobuf, nothing and the empty value are the same.
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
