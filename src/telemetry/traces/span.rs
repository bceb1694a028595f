//! The spans: of a call, and of a round trip to the store that decides many calls.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::SocketAddr;

use opentelemetry::trace::{
    FutureExt as _, Link, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};

use super::{Tracer, Tracing};

/// Name of the gRPC service in spans (`rpc.service`).
const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";

/// The codes of gRPC with which the server is at fault, by OpenTelemetry's conventions: UNKNOWN, DEADLINE_EXCEEDED,
/// UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS.
const SERVER_ERRORS: [i32; 6] = [2, 4, 12, 13, 14, 15];

/// The span of a call, until it is dropped.
#[derive(Debug)]
pub struct CallSpan(Context);

/// The span of a round trip to the store, until it is dropped.
#[derive(Debug)]
pub struct BatchSpan(Context);

/// The span on whose behalf the store is asked.
pub type Caller = SpanContext;

impl Tracing {
    /// Begins the span of a call with these headers, unless it is not to be traced.
    #[must_use]
    pub fn call(&self, headers: &http::HeaderMap) -> Option<CallSpan> {
        let Tracer {
            tracer,
            propagation,
        } = self.0.as_deref()?;
        let parent = propagation.parent(headers);
        let span = tracer
            .span_builder(format!("{SERVICE}/ShouldRateLimit"))
            .with_kind(SpanKind::Server);
        let span = span.with_attributes([
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", SERVICE),
            KeyValue::new("rpc.method", "ShouldRateLimit"),
        ]);
        let span = tracer.build_with_context(span, &parent);
        recording(parent.with_span(span)).map(CallSpan)
    }

    /// The span of the call that is being decided, if it has one.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        self.0.as_deref()?;
        Context::map_current(|context| {
            let span = context.span();
            let caller = span.span_context();
            caller.is_sampled().then(|| caller.clone())
        })
    }

    /// Begins the span of a round trip for so many requests, about so many buckets, at that address. It is a part
    /// of the first caller's trace and linked to all others; without any, there is none.
    pub fn batch(
        &self,
        callers: impl IntoIterator<Item = Caller>,
        (requests, buckets, address): (usize, usize, &str),
    ) -> Option<BatchSpan> {
        let Tracer { tracer, .. } = self.0.as_deref()?;
        let mut callers = callers.into_iter();
        let parent = Context::new().with_remote_span_context(callers.next()?);
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let span = tracer
            .span_builder("Redis EVALSHA")
            .with_kind(SpanKind::Client)
            .with_links(callers.map(Link::with_context).collect())
            .with_attributes(
                [
                    KeyValue::new("db.system.name", "redis"),
                    KeyValue::new("db.operation.name", "EVALSHA"),
                    KeyValue::new("ratelimit.batch.requests", count(requests)),
                    KeyValue::new("ratelimit.batch.buckets", count(buckets)),
                ]
                .into_iter()
                .chain(server(address)),
            );
        let span = tracer.build_with_context(span, &parent);
        recording(parent.with_span(span)).map(BatchSpan)
    }
}

/// The attributes of a server, by OpenTelemetry's conventions: its host and, if it has one, its port as a number. A Unix socket
/// is an address without a port.
fn server(address: &str) -> impl Iterator<Item = KeyValue> {
    let parts = match address.parse::<SocketAddr>() {
        Ok(address) => Some((address.ip().to_string(), address.port())),
        Err(_) => address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?))),
    };
    let (host, port) = match parts {
        Some((host, port)) => (host, Some(port)),
        None => (address.to_owned(), None),
    };
    let port = port.map(|port| KeyValue::new("server.port", i64::from(port)));
    [KeyValue::new("server.address", host)]
        .into_iter()
        .chain(port)
}

fn recording(context: Context) -> Option<Context> {
    let is_recording = context.span().is_recording();
    is_recording.then_some(context)
}

impl CallSpan {
    /// Does the work of the call, so that the store can tell on whose behalf.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> T {
        work.with_context(self.0.clone()).await
    }

    /// What was asked.
    pub fn asked(&self, domain: &str, descriptors: usize) {
        let descriptors = i64::try_from(descriptors).unwrap_or(i64::MAX);
        self.0.span().set_attributes([
            KeyValue::new("ratelimit.domain", domain.to_owned()),
            KeyValue::new("ratelimit.descriptors", descriptors),
        ]);
    }

    /// What was answered, and the rules that decided.
    pub fn answered<'r>(
        &self,
        verdict: &'static str,
        cause: &'static str,
        rules: impl Iterator<Item = &'r str>,
    ) {
        let rules: Vec<StringValue> = rules.map(|rule| rule.to_owned().into()).collect();
        self.0.span().set_attributes([
            KeyValue::new("rpc.grpc.status_code", 0_i64),
            KeyValue::new("ratelimit.verdict", verdict),
            KeyValue::new("ratelimit.cause", cause),
            KeyValue::new("ratelimit.rules", Value::Array(Array::String(rules))),
        ]);
    }

    /// The request could not be decided, and was answered by this code nevertheless.
    pub fn not_decided(&self, code: String, error: impl Display) {
        self.0.span().set_attributes([
            KeyValue::new("ratelimit.verdict", code),
            KeyValue::new("ratelimit.cause", "bad_request"),
            KeyValue::new("ratelimit.error", error.to_string()),
        ]);
    }

    /// The call failed with this code of gRPC. The span has the status Error only if the server is at fault: an invalid request is
    /// an error of the client's span.
    pub fn failed(&self, code: i32, error: impl Display) {
        let span = self.0.span();
        span.set_attributes([
            KeyValue::new("rpc.grpc.status_code", i64::from(code)),
            KeyValue::new("error.type", code.to_string()),
        ]);
        if SERVER_ERRORS.contains(&code) {
            span.set_status(error_status(error));
        }
    }
}

impl BatchSpan {
    /// The store did not decide, with an error of this kind.
    pub fn failed(&self, kind: &'static str, error: impl Display) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("error.type", kind));
        span.set_status(error_status(error));
    }
}

fn error_status(error: impl Display) -> Status {
    Status::Error {
        description: Cow::Owned(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_port_is_a_number_of_its_own() {
        for (address, host, port) in [
            ("10.0.0.7:6379", "10.0.0.7", Some(6379)),
            ("redis.example.com:6380", "redis.example.com", Some(6380)),
            ("[::1]:6379", "::1", Some(6379)),
            ("/run/redis.sock", "/run/redis.sock", None),
            ("", "", None),
        ] {
            let host = KeyValue::new("server.address", host.to_owned());
            let port = port.map(|port: i64| KeyValue::new("server.port", port));
            let expected: Vec<_> = [host].into_iter().chain(port).collect();
            assert_eq!(server(address).collect::<Vec<_>>(), expected, "{address}");
        }
    }
}
