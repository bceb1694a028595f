//! The JSON Schema of a configuration file, for editors and pipelines.

use serde_json::{Map, Value, json};

use super::limit::Unit;
use super::vocabulary::{Place, Takes};

/// The JSON Schema (draft 2020-12) of one configuration file.
///
/// Every file that the server accepts is valid, except for an empty `unit` together with `unlimited`. Misspelled and
/// misplaced keys are invalid. Only the server checks what a schema cannot express: duplicates, `burst` of a fixed window,
/// and the domains of other files.
///
/// ```
/// let schema = ratekeeper_rules::schema();
/// assert_eq!(schema["required"], serde_json::json!(["domain"]));
/// ```
#[must_use]
pub fn schema() -> Value {
    let mut schema = map_schema(Place::File);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("ratekeeper rules");
    schema["description"] = json!("The rate limits of one domain.");
    schema["$defs"] = json!({
        "descriptor": map_schema(Place::Descriptor),
        "rate_limit": map_schema(Place::RateLimit),
        "candidate": map_schema(Place::Candidate),
        "replaces": map_schema(Place::Replaces),
    });
    schema
}

fn map_schema(place: Place) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in place.keys() {
        let mut property = value_schema(key.takes);
        property["description"] = json!(key.about);
        properties.insert(key.name.to_owned(), property);
        if key.takes == Takes::RequiredText {
            required.push(key.name);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn value_schema(takes: Takes) -> Value {
    match takes {
        // Numbers and booleans are read as text.
        Takes::RequiredText => json!({ "type": ["string", "integer", "boolean"], "minLength": 1 }),
        Takes::Text => json!({ "type": ["string", "integer", "boolean", "null"] }),
        // The server reads YAML 1.1, which has more booleans than YAML 1.2.
        Takes::Flag => json!({
            "anyOf": [
                { "type": ["boolean", "null"] },
                { "enum": ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON",
                           "n", "N", "no", "No", "NO", "off", "Off", "OFF"] },
            ],
        }),
        Takes::Count(least) => {
            json!({ "type": ["integer", "null"], "minimum": least, "maximum": u32::MAX })
        }
        Takes::Unit => json!({
            "anyOf": [
                { "enum": Unit::ALL.map(Unit::name) },
                { "type": "string", "pattern": any_case(&Unit::ALL.map(Unit::name)) },
            ],
        }),
        Takes::Word(words) => json!({ "enum": words }),
        Takes::Descriptors => list_schema("descriptor"),
        Takes::Limits => one_or_several("rate_limit"),
        Takes::Candidates => one_or_several("candidate"),
        Takes::Replaces => list_schema("replaces"),
        Takes::AnyMap => json!({ "type": ["object", "null"] }),
    }
}

fn one_or_several(element: &str) -> Value {
    let element = format!("#/$defs/{element}");
    json!({
        "anyOf": [
            { "$ref": element },
            { "type": "array", "minItems": 1, "items": { "$ref": element } },
            { "type": "null" },
        ],
    })
}

fn list_schema(element: &str) -> Value {
    let element = format!("#/$defs/{element}");
    json!({ "type": ["array", "null"], "items": { "$ref": element } })
}

/// Returns a regular expression for the words in any case; JSON Schema has no flag for that.
fn any_case(words: &[&str]) -> String {
    let word = |word: &&str| {
        word.chars()
            .map(|c| format!("[{c}{}]", c.to_ascii_uppercase()))
            .collect::<String>()
    };
    format!(
        "^({})$",
        words.iter().map(word).collect::<Vec<_>>().join("|")
    )
}

#[cfg(test)]
mod tests;
