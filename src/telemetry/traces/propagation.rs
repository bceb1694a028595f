//! Reads what a caller says of its trace, in the headers of W3C or of B3.

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_propagator_b3::Propagator as B3;
use opentelemetry_sdk::propagation::TraceContextPropagator as W3c;

#[derive(Debug)]
pub(super) struct Propagation {
    w3c: W3c,
    b3: B3,
}

impl Propagation {
    pub(super) fn new() -> Self {
        Self {
            w3c: W3c::new(),
            b3: B3::new(),
        }
    }

    /// The caller's span, if the headers tell of one. W3C wins over B3.
    pub(super) fn parent(&self, headers: &http::HeaderMap) -> Context {
        let nobody = Context::new();
        let told = |name| headers.contains_key(name);
        if told("traceparent") {
            let parent = self
                .w3c
                .extract_with_context(&nobody, &HeaderExtractor(headers));
            if opentelemetry::trace::TraceContextExt::has_active_span(&parent) {
                return parent;
            }
        }
        if told("b3") || told("x-b3-traceid") {
            return self
                .b3
                .extract_with_context(&nobody, &HeaderExtractor(headers));
        }
        nobody
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt as _;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parent(headers: &[(&'static str, String)]) -> Option<(String, bool)> {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        let context = Propagation::new().parent(&headers.collect());
        context.has_active_span().then(|| {
            let span = context.span();
            let span = span.span_context();
            assert_eq!(span.span_id().to_string(), SPAN);
            (span.trace_id().to_string(), span.is_sampled())
        })
    }

    #[test]
    fn callers_are_understood_in_either_language() {
        let sampled = Some((TRACE.to_owned(), true));
        let w3c = ("traceparent", format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!(parent(std::slice::from_ref(&w3c)), sampled);
        assert_eq!(parent(&[("b3", format!("{TRACE}-{SPAN}-1"))]), sampled);
        let single = [
            ("x-b3-traceid", TRACE.to_owned()),
            ("x-b3-spanid", SPAN.to_owned()),
            ("x-b3-sampled", "0".to_owned()),
        ];
        assert_eq!(parent(&single), Some((TRACE.to_owned(), false)));
        // W3C wins, unless it is not understood.
        let other = "1".repeat(32);
        assert_eq!(parent(&[("b3", format!("{other}-{SPAN}-0")), w3c]), sampled);
        let broken = ("traceparent", "00-nothing".to_owned());
        assert_eq!(
            parent(&[("b3", format!("{TRACE}-{SPAN}-1")), broken]),
            sampled
        );
        assert_eq!(parent(&[]), None);
        assert_eq!(parent(&[("b3", "0".to_owned())]), None);
    }
}
