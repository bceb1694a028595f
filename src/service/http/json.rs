//! `/json`: `ShouldRateLimit` with its messages as JSON, in protobuf's own mapping.
//!
//! The statuses are envoyproxy/ratelimit's: 200 for OK, 429 for over the limit, 400 for whatever got no
//! verdict.

mod duplicate_fields;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor};
use tonic::metadata::MetadataMap;
use tonic::{Code as FailureCode, Extensions, Request as Call, Status as Failure};

use super::body::whole;
use super::text;
use crate::service::pb::rate_limit_response::Code;
use crate::service::pb::rate_limit_service_server::RateLimitService;
use crate::service::pb::{DESCRIPTORS, RateLimitRequest, RateLimitResponse};
use duplicate_fields::EachOnce;

/// The most bytes of a body. As JSON, a request takes far more memory than over gRPC, and Envoy does not send it so.
pub const MAX_JSON: usize = 400 << 10;

/// Bodies of more bytes take long enough to read for others to notice.
const LARGE: usize = 16 << 10;

/// The routes of `/json`, for bodies of at most so many bytes.
///
/// # Panics
/// Never: the messages are those that this program was built from.
pub fn json(service: impl RateLimitService, max_bytes: usize) -> Router {
    let (service, messages) = (Arc::new(service), Arc::new(Messages::new()));
    let answer = any(async move |request: Request| {
        answer(&*service, (&messages, max_bytes), request)
            .await
            .unwrap_or_else(|refusal| refusal)
    });
    Router::new().route("/json", answer)
}

/// Answers a request, or says why there is no verdict.
async fn answer(
    service: &impl RateLimitService,
    (messages, max_bytes): (&Arc<Messages>, usize),
    request: Request,
) -> Result<Response, Response> {
    let (head, body) = request.into_parts();
    if is_of_another_origin(&head.headers) {
        return Err(refused(
            StatusCode::FORBIDDEN,
            "pages of other origins may not send requests here",
        ));
    }
    let body = whole(body, max_bytes)
        .await
        .map_err(|(status, why)| refused(status, &why))?;
    let message = if body.len() > LARGE {
        let messages = Arc::clone(messages);
        tokio::task::spawn_blocking(move || messages.read(&body)).await
    } else {
        Ok(messages.read(&body))
    };
    let message = message
        .map_err(|_| refused(StatusCode::INTERNAL_SERVER_ERROR, "reading it panicked"))?
        .map_err(|why| refused(StatusCode::BAD_REQUEST, &why))?;
    // As in gRPC, the headers say how long the caller waits and which trace the call is part of.
    let call = Call::from_parts(
        MetadataMap::from_headers(head.headers),
        Extensions::default(),
        message,
    );
    let response = service.should_rate_limit(call).await.map_err(failed)?;
    let response = response.into_inner();
    let status = match response.overall_code() {
        Code::Ok => StatusCode::OK,
        Code::OverLimit => StatusCode::TOO_MANY_REQUESTS,
        Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let kind = [(header::CONTENT_TYPE, "application/json")];
    let mut answer = (status, kind, messages.write(&response)).into_response();
    // Here, the response that they are to be added to is this one.
    for added in &response.response_headers_to_add {
        let name = HeaderName::try_from(added.key.as_str());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&added.value)) {
            answer.headers_mut().append(name, value);
        }
    }
    Ok(answer)
}

/// Whether a browser sends the request for a page that does not come from this port. Any media type is accepted, as in
/// envoyproxy/ratelimit, so a form could send it without being asked. Other clients send neither of the headers.
fn is_of_another_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let authority = [&b"http://"[..], b"https://"]
        .iter()
        .find_map(|scheme| origin.as_bytes().strip_prefix(*scheme));
    authority.is_none() || authority != host
}

fn failed(failure: Failure) -> Response {
    let status = match failure.code() {
        FailureCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    refused(status, failure.message())
}

/// A refusal that begins with the words of its status, and says why.
fn refused(status: StatusCode, why: &str) -> Response {
    let words = status.canonical_reason().unwrap_or("Error");
    text(status, format!("{words}: {why}\n"))
}

/// How the messages look as JSON.
struct Messages {
    request: MessageDescriptor,
    response: MessageDescriptor,
}

impl Messages {
    fn new() -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("the build wrote it");
        let message = |name| {
            pool.get_message_by_name(&format!("envoy.service.ratelimit.v3.{name}"))
                .expect("it is declared in proto/")
        };
        Self {
            request: message("RateLimitRequest"),
            response: message("RateLimitResponse"),
        }
    }

    fn read(&self, text: &[u8]) -> Result<RateLimitRequest, String> {
        serde_json::from_slice::<EachOnce>(text).map_err(|error| error.to_string())?;
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
            .expect("a message is what its descriptor says");
        serde_json::to_vec(&message).expect("every message has a form in JSON")
    }
}
