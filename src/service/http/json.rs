//! `/json`: `ShouldRateLimit` with its messages as JSON, in protobuf's own mapping.
//!
//! The HTTP statuses are those of envoyproxy/ratelimit: 200 for OK, 429 for OVER_LIMIT, 400 for requests that cannot be
//! decided.

mod duplicate_fields;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};
use tonic::metadata::MetadataMap;
use tonic::{Code as FailureCode, Extensions, Request as Call, Status as Failure};

use super::body::{BodyError, read_body};
use super::text;
use crate::service::pb::rate_limit_response::Code;
use crate::service::pb::rate_limit_service_server::RateLimitService;
use crate::service::pb::{DESCRIPTORS, RateLimitRequest, RateLimitResponse};
use duplicate_fields::UniqueFields;

/// Maximum size of a body in bytes. A request takes far more memory as JSON than over gRPC, and Envoy does not send
/// JSON.
pub(crate) const MAX_JSON: usize = 400 << 10;

/// Larger bodies are parsed on a blocking thread, because they would delay other requests.
const LARGE: usize = 16 << 10;

/// Returns the route `/json`, for bodies of at most `max_bytes`.
pub(crate) fn json(service: impl RateLimitService, max_bytes: usize) -> Router {
    let (service, messages) = (Arc::new(service), Arc::new(Messages::new()));
    let answer = any(async move |request: Request| {
        answer(&*service, (&messages, max_bytes), request)
            .await
            .unwrap_or_else(|error| error)
    });
    Router::new().route("/json", answer)
}

/// Decides a request. Both results are responses.
async fn answer(
    service: &impl RateLimitService,
    (messages, max_bytes): (&Arc<Messages>, usize),
    request: Request,
) -> Result<Response, Response> {
    let (head, body) = request.into_parts();
    if is_of_another_origin(&head.headers) {
        return Err(error_response(
            StatusCode::FORBIDDEN,
            "pages of other origins cannot send requests here",
        ));
    }
    let body = read_body(body, max_bytes)
        .await
        .map_err(|BodyError { status, message }| error_response(status, &message))?;
    let message = parse(messages, body).await?;
    // As in gRPC, headers carry the deadline of the caller and the trace context.
    let call = Call::from_parts(
        MetadataMap::from_headers(head.headers),
        Extensions::default(),
        message,
    );
    let response = service.should_rate_limit(call).await.map_err(failed)?;
    Ok(http_response(messages, &response.into_inner()))
}

/// Parses a body, on a blocking thread if it is large.
async fn parse(messages: &Arc<Messages>, body: Vec<u8>) -> Result<RateLimitRequest, Response> {
    let parsed = if body.len() > LARGE {
        let messages = Arc::clone(messages);
        tokio::task::spawn_blocking(move || messages.read(&body)).await
    } else {
        Ok(messages.read(&body))
    };
    parsed
        .map_err(|_| {
            let message = "parsing the body panicked";
            error_response(StatusCode::INTERNAL_SERVER_ERROR, message)
        })?
        .map_err(|message| error_response(StatusCode::BAD_REQUEST, &message))
}

/// Converts a decision to a response with its status and headers.
fn http_response(messages: &Messages, response: &RateLimitResponse) -> Response {
    let status = match response.overall_code() {
        Code::Ok => StatusCode::OK,
        Code::OverLimit => StatusCode::TOO_MANY_REQUESTS,
        Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let kind = [(header::CONTENT_TYPE, "application/json")];
    let mut answer = (status, kind, messages.write(response)).into_response();
    // Envoy would add these headers to the response of the upstream; without Envoy, this is the response.
    for added in &response.response_headers_to_add {
        let name = HeaderName::try_from(added.key.as_str());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&added.value)) {
            answer.headers_mut().append(name, value);
        }
    }
    answer
}

/// Returns whether a browser sends the request for a page of another origin, or for one whose origin has a name.
///
/// The owner of a name can make it resolve to this server (DNS rebinding): a page of that name then sends requests of the same origin.
/// Therefore only the origins of IP addresses and of `localhost` are accepted.
///
/// Any media type is accepted, as in envoyproxy/ratelimit, so that an HTML form could send a request without a CORS
/// preflight. Clients other than browsers send neither of the headers.
fn is_of_another_origin(headers: &HeaderMap) -> bool {
    let is_of_another_site = |site: &HeaderValue| site != "same-origin" && site != "none";
    if headers
        .get("sec-fetch-site")
        .is_some_and(is_of_another_site)
    {
        return true;
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let authority = [&b"http://"[..], b"https://"]
        .iter()
        .find_map(|scheme| origin.as_bytes().strip_prefix(*scheme));
    authority.is_none() || authority != host || !authority.is_some_and(is_without_name)
}

/// Returns whether the host of an authority is an IP address or `localhost`.
fn is_without_name(authority: &[u8]) -> bool {
    let Ok(authority) = std::str::from_utf8(authority) else {
        return false;
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => authority,
    };
    let six = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok()
        || six.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

fn failed(failure: Failure) -> Response {
    let status = match failure.code() {
        FailureCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    error_response(status, failure.message())
}

/// Returns a response in plain text that begins with the reason phrase of its status.
fn error_response(status: StatusCode, message: &str) -> Response {
    let reason = status.canonical_reason().unwrap_or("Error");
    text(status, format!("{reason}: {message}\n"))
}

/// Converts messages from and to JSON.
struct Messages {
    request: MessageDescriptor,
    response: MessageDescriptor,
}

impl Messages {
    fn new() -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("build.rs wrote it");
        let message = |name| {
            pool.get_message_by_name(&format!("envoy.service.ratelimit.v3.{name}"))
                .expect("proto/ declares it")
        };
        Self {
            request: message("RateLimitRequest"),
            response: message("RateLimitResponse"),
        }
    }

    fn read(&self, text: &[u8]) -> Result<RateLimitRequest, String> {
        serde_json::from_slice::<UniqueFields>(text).map_err(|error| error.to_string())?;
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let mut json = serde_json::Deserializer::from_slice(text);
        let message =
            DynamicMessage::deserialize_with_options(self.request.clone(), &mut json, &options)
                .map_err(|error| error.to_string())?;
        json.end().map_err(|error| error.to_string())?;
        message.transcode_to().map_err(|error| error.to_string())
    }

    fn write(&self, response: &RateLimitResponse) -> Vec<u8> {
        let mut message = DynamicMessage::new(self.response.clone());
        message
            .transcode_from(response)
            .expect("the descriptor is that of the message");
        serde_json::to_vec(&message).expect("every protobuf message can be encoded as JSON")
    }
}
