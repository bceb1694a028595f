//! What is asked of the admin API: parameters, bodies, headers, and what is wrong with them.

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use super::Refusal;
use crate::limiter::Typed;
use crate::limiter::inspect::Which;
use crate::service::http::body::whole;

/// The most bytes of a body. Descriptors of any use are far smaller.
const MAX_BODY: usize = 64 << 10;

/// What stands behind the question mark.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads it; nothing else may be there.
    pub(super) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let query = query.unwrap_or_default();
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            is_known("parameter", &name, known)?;
            if all.iter().any(|(other, _)| *other == name) {
                return Err(Refusal::bad(format!(
                    "the parameter {name} is there twice; leave one of them out"
                )));
            }
            all.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(all))
    }

    /// What a parameter says; nothing is as if it were not there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// What one says that must be there.
    pub(super) fn need(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| missing(name))
    }

    /// A whole number of at most so much, or what it is without.
    pub(super) fn number(&self, name: &str, default: usize, most: usize) -> Result<usize, Refusal> {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| *number <= most);
        number.ok_or_else(|| {
            Refusal::bad(format!(
                "{name}={text:?}: write a whole number from 0 to {most}"
            ))
        })
    }

    /// Which buckets are meant.
    pub(super) fn which(&self) -> Result<Which, Refusal> {
        which(self.get("domain"), self.get("descriptor"), self.get("key"))
    }
}

/// A body: an object of these fields.
pub(super) async fn body(request: Request, known: &[&str]) -> Result<Body, Refusal> {
    let bytes = whole(request.into_body(), MAX_BODY).await?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad(format!("the body is not JSON: {error}")))?;
    let Value::Object(fields) = value else {
        return Err(Refusal::bad(
            "the body must be a JSON object, such as {\"key\": \"...\"}",
        ));
    };
    for name in fields.keys() {
        is_known("field", name, known)?;
    }
    Ok(Body(fields))
}

/// The fields of a body.
#[derive(Debug)]
pub(super) struct Body(Map<String, Value>);

impl Body {
    fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::bad(format!("{name} must be a text"))),
        }
    }

    /// Which buckets are meant.
    pub(super) fn which(&self) -> Result<Which, Refusal> {
        which(
            self.text("domain")?,
            self.text("descriptor")?,
            self.text("key")?,
        )
    }

    /// How many tokens a bucket is to have.
    pub(super) fn tokens(&self) -> Result<i64, Refusal> {
        let tokens = self.0.get("tokens").ok_or_else(|| missing("tokens"))?;
        tokens
            .as_i64()
            .ok_or_else(|| Refusal::bad(format!("tokens is {tokens}; write a whole number")))
    }
}

fn which(
    domain: Option<&str>,
    descriptor: Option<&str>,
    key: Option<&str>,
) -> Result<Which, Refusal> {
    match (domain, descriptor, key) {
        (None, None, Some(key)) => Ok(Which::Key(key.to_owned())),
        (Some(domain), Some(descriptor), None) => Ok(Which::Descriptor {
            domain: domain.into(),
            entries: typed(descriptor)?.0,
        }),
        _ => Err(Refusal::bad(
            "name buckets either by domain and descriptor (key=value,key=value) or by key",
        )),
    }
}

/// A descriptor as people type it.
pub(super) fn typed(text: &str) -> Result<Typed, Refusal> {
    text.parse()
        .map_err(|error| Refusal::bad(format!("descriptor: {error}")))
}

fn missing(name: &str) -> Refusal {
    Refusal::bad(format!("{name} is missing"))
}

fn is_known(kind: &str, name: &str, known: &[&str]) -> Result<(), Refusal> {
    if known.contains(&name) {
        return Ok(());
    }
    let known = match known {
        [] => "there are none here".to_owned(),
        known => format!("there are {}", known.join(", ")),
    };
    Err(Refusal::bad(format!(
        "{name:?} is no {kind} of this; {known}"
    )))
}

// --- Headers ---

/// Whether a request to change something comes from a tool, or from a page of this very server. A page of another
/// origin cannot send this media type without asking first, and is never allowed to; and browsers tell where the
/// page is from.
pub(super) fn is_ours(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = headers
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default();
    if !kind.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Err(Refusal::bad(
            "send a body with Content-Type: application/json",
        ));
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin = origin.as_bytes();
    let from = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    let here = headers.get(HOST).map(HeaderValue::as_bytes);
    match from.is_some() && from == here {
        true => Ok(()),
        false => Err(Refusal(
            StatusCode::FORBIDDEN,
            "pages of another origin change nothing here".to_owned(),
        )),
    }
}

/// The token of an Authorization header.
pub(super) fn bearer(header: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = header.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}
