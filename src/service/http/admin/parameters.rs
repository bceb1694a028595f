//! Query parameters and bodies of requests to the admin API.

use axum::extract::Request;
use serde_json::{Map, Value};

use super::ApiError;
use crate::limiter::Typed;
use crate::limiter::inspect::Which;
use crate::service::http::body::read_body;

/// Maximum size of a body in bytes. Descriptors that requests can have are far smaller.
const MAX_BODY: usize = 64 << 10;

/// The parameters of a query.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Parses a query that must have no other parameters than those in `known`, each at most once.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let query = query.unwrap_or_default();
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            check_name("parameter", &name, known)?;
            if all.iter().any(|(other, _)| *other == name) {
                return Err(ApiError::bad_request(format!(
                    "the parameter {name} is given twice; remove one of them"
                )));
            }
            all.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(all))
    }

    /// Returns the value of a parameter; `None` if it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Returns the value of a parameter that must be present.
    pub(super) fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| missing(name))
    }

    /// Returns the value of a parameter that must be a whole number of at most `max`.
    pub(super) fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| *number <= max);
        number.ok_or_else(|| {
            ApiError::bad_request(format!(
                "{name}={text:?} is invalid; use a whole number from 0 to {max}"
            ))
        })
    }

    /// Returns the buckets that the parameters name.
    pub(super) fn which(&self) -> Result<Which, ApiError> {
        which(self.get("domain"), self.get("descriptor"), self.get("key"))
    }
}

/// Reads a body that must be a JSON object without other fields than those in `known`.
pub(super) async fn body(request: Request, known: &[&str]) -> Result<Body, ApiError> {
    let bytes = read_body(request.into_body(), MAX_BODY).await?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
    let Value::Object(fields) = value else {
        return Err(ApiError::bad_request(
            "the body must be a JSON object, such as {\"key\": \"...\"}",
        ));
    };
    for name in fields.keys() {
        check_name("field", name, known)?;
    }
    Ok(Body(fields))
}

/// The fields of a body.
#[derive(Debug)]
pub(super) struct Body(Map<String, Value>);

impl Body {
    fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::bad_request(format!("{name} must be a string"))),
        }
    }

    /// Returns the buckets that the body names.
    pub(super) fn which(&self) -> Result<Which, ApiError> {
        which(
            self.text("domain")?,
            self.text("descriptor")?,
            self.text("key")?,
        )
    }

    /// Returns the number of tokens to set; negative for a debt.
    pub(super) fn tokens(&self) -> Result<i64, ApiError> {
        let tokens = self.0.get("tokens").ok_or_else(|| missing("tokens"))?;
        tokens
            .as_i64()
            .ok_or_else(|| ApiError::bad_request(format!("tokens is {tokens}; use a whole number")))
    }
}

fn which(
    domain: Option<&str>,
    descriptor: Option<&str>,
    key: Option<&str>,
) -> Result<Which, ApiError> {
    match (domain, descriptor, key) {
        (None, None, Some(key)) => Ok(Which::Key(key.to_owned())),
        (Some(domain), Some(descriptor), None) => Ok(Which::Descriptor {
            domain: domain.into(),
            entries: typed(descriptor)?.0,
        }),
        _ => Err(ApiError::bad_request(
            "name buckets either by domain and descriptor (key=value,key=value) or by key",
        )),
    }
}

/// Parses a descriptor as it is typed: `key=value,key=value`.
pub(super) fn typed(text: &str) -> Result<Typed, ApiError> {
    text.parse()
        .map_err(|error| ApiError::bad_request(format!("descriptor: {error}")))
}

fn missing(name: &str) -> ApiError {
    ApiError::bad_request(format!("{name} is missing"))
}

fn check_name(kind: &str, name: &str, known: &[&str]) -> Result<(), ApiError> {
    if known.contains(&name) {
        return Ok(());
    }
    let known = match known {
        [] => "this path has none".to_owned(),
        known => format!("this path has {}", known.join(", ")),
    };
    Err(ApiError::bad_request(format!(
        "unknown {kind} {name:?}; {known}"
    )))
}
