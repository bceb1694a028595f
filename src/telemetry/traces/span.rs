//! The spans: of a call, and of a round trip to the store that decides many calls.

use std::borrow::Cow;
use std::fmt::Display;

use opentelemetry::trace::{
    FutureExt as _, Link, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Array, Context, Key, KeyValue, StringValue, Value};

use super::{Tracer, Tracing};

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
            .span_builder("ShouldRateLimit")
            .with_kind(SpanKind::Server);
        let span = span.with_attributes([
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", "envoy.service.ratelimit.v3.RateLimitService"),
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
            .with_attributes([
                KeyValue::new("db.system.name", "redis"),
                KeyValue::new("db.operation.name", "EVALSHA"),
                KeyValue::new("server.address", address.to_owned()),
                KeyValue::new("ratelimit.batch.requests", count(requests)),
                KeyValue::new("ratelimit.batch.buckets", count(buckets)),
            ]);
        let span = tracer.build_with_context(span, &parent);
        recording(parent.with_span(span)).map(BatchSpan)
    }
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
            KeyValue::new("ratelimit.verdict", verdict),
            KeyValue::new("ratelimit.cause", cause),
            KeyValue::new("ratelimit.rules", Value::Array(Array::String(rules))),
        ]);
    }

    /// There is no answer but an error, with that code of gRPC.
    pub fn failed(&self, code: i64, error: impl Display) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new(Key::new("rpc.grpc.status_code"), code));
        span.set_status(error_status(error));
    }
}

impl BatchSpan {
    /// The store did not decide.
    pub fn failed(&self, error: impl Display) {
        self.0.span().set_status(error_status(error));
    }
}

fn error_status(error: impl Display) -> Status {
    Status::Error {
        description: Cow::Owned(error.to_string()),
    }
}
