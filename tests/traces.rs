//! Traces: spans that a real collector receives.

use ratekeeper::service::pb::RateLimitRequest;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::support::{Backend, Collector, Protocol, Ratekeeper, Redis, Scrape, ask, eventually};

const RULES: &str = "
domain: m
descriptors:
  - {key: user, rate_limit: {unit: year, requests_per_unit: 2}}
  - {key: path, descriptors: [{key: method, rate_limit: {unit: year, requests_per_unit: 9}}]}
";

/// The name of the span of a call.
const CALL: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a request with a header that tells of the caller's trace; it may fail.
fn send(server: &Ratekeeper, request: RateLimitRequest, header: (&'static str, String)) {
    let (name, value) = header;
    Runtime::new().unwrap().block_on(async {
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert(name, value.parse().unwrap());
        let _ = server.client().await.should_rate_limit(request).await;
    });
}

#[test]
fn a_call_is_a_span_of_its_callers_trace_and_a_round_trip_a_span_of_the_call() {
    let headers = [
        ("traceparent", format!("00-{TRACE}-{SPAN}-01")),
        ("b3", format!("{TRACE}-{SPAN}-1")),
    ];
    for (speaks, header) in [Protocol::Grpc, Protocol::Http].into_iter().zip(headers) {
        let collector = Collector::start(speaks);
        let redis = Redis::start();
        let port = redis.port().to_string();
        let backend = Backend::Redis(redis);
        let own = [
            ("TRACING_SERVICE_NAME", "limits".to_owned()),
            ("TRACING_SERVICE_NAMESPACE", "mesh".to_owned()),
            ("TRACING_SERVICE_INSTANCE_ID", "one".to_owned()),
            ("OTEL_RESOURCE_ATTRIBUTES", "zone=b".to_owned()),
            ("REDIS_TIMEOUT", "10s".to_owned()),
        ];
        let environment = own.into_iter().chain(collector.environment());
        let server = Ratekeeper::start(RULES, environment.chain(backend.environment()));
        let request = ask("m", &["user=u x3", "path=p,method=m"]);
        send(&server, request, header);
        let calls = collector.wait_for(CALL, 1);
        let call = &calls[0];
        assert_eq!(hex(&call.span.trace_id), TRACE, "{speaks:?}");
        assert_eq!(hex(&call.span.parent_span_id), SPAN, "{speaks:?}");
        for (name, value) in [
            ("service.name", "limits"),
            ("service.namespace", "mesh"),
            ("service.instance.id", "one"),
            ("zone", "b"),
            ("rpc.method", "ShouldRateLimit"),
            ("rpc.grpc.status_code", "0"),
            ("ratelimit.domain", "m"),
            ("ratelimit.descriptors", "2"),
            ("ratelimit.verdict", "over_limit"),
            ("ratelimit.cause", "buckets"),
            ("ratelimit.rules", "m.user,m.path.method"),
        ] {
            assert_eq!(
                call.attribute(name).as_deref(),
                Some(value),
                "{name} over {speaks:?}"
            );
        }
        let batches = collector.wait_for("Redis EVALSHA", 1);
        let batch = &batches[0];
        for (name, value) in [("server.address", "127.0.0.1"), ("server.port", &port)] {
            assert_eq!(batch.attribute(name).as_deref(), Some(value), "{name}");
        }
        assert!(batch.is_integer("server.port"));
        assert_eq!(batch.span.trace_id, call.span.trace_id);
        assert_eq!(batch.span.parent_span_id, call.span.span_id);
        assert_eq!(
            batch.attribute("ratelimit.batch.requests").as_deref(),
            Some("1")
        );
        assert_eq!(
            batch.attribute("ratelimit.batch.buckets").as_deref(),
            Some("2")
        );
    }
}

#[test]
fn calls_that_share_a_round_trip_are_linked_to_its_span() {
    let collector = Collector::start(Protocol::Grpc);
    let redis = Redis::start();
    let own = [
        ("REDIS_URL", redis.url()),
        ("REDIS_TIMEOUT", "60s".to_owned()),
        ("WORKER_THREADS", "1".to_owned()),
    ];
    let metrics = Scrape::environment().map(|(name, value)| (name, value.to_owned()));
    let environment = own
        .into_iter()
        .chain(metrics)
        .chain(collector.environment());
    let server = Ratekeeper::start(RULES, environment);
    // The way to Redis is there.
    server.ask(ask("m", &["path=p,method=first"])).unwrap();
    let runtime = Runtime::new().unwrap();
    let client = runtime.block_on(server.client());
    // Calls that are sent together share a round trip as soon as the server reads them together.
    let counts = || {
        let scrape = Scrape::of(&server);
        ["batch_requests_sum", "round_trip_seconds_count"]
            .map(|name| scrape.value(&format!("ratekeeper_store_{name}")))
    };
    let mut sent = 1;
    eventually("two share a round trip", || {
        let calls: Vec<_> = (0..2)
            .map(|method| {
                let request = ask("m", &[&format!("path=p,method={method}")]);
                let mut client = client.clone();
                runtime.spawn(async move { client.should_rate_limit(request).await })
            })
            .collect();
        for call in calls {
            runtime.block_on(call).unwrap().unwrap();
            sent += 1;
        }
        let [requests, round_trips] = counts();
        requests > round_trips
    });
    let [requests, round_trips] = counts();
    assert_eq!(
        (requests, round_trips),
        (f64::from(sent), f64::from(sent - 1))
    );
    collector.wait_for(CALL, usize::try_from(sent).unwrap());
    let batches = collector.wait_for("Redis EVALSHA", usize::try_from(sent - 1).unwrap());
    let shared = batches
        .iter()
        .find(|batch| batch.attribute("ratelimit.batch.requests").as_deref() == Some("2"))
        .expect("two requests shared a call");
    assert_eq!(shared.span.links.len(), 1);
    let calls = collector.spans(CALL);
    let linked = |id: &[u8]| calls.iter().any(|call| call.span.span_id == id);
    assert!(linked(&shared.span.parent_span_id));
    assert!(linked(&shared.span.links[0].span_id));
}

#[test]
fn only_what_is_sampled_is_sent() {
    let collector = Collector::start(Protocol::Grpc);
    let rate = ("TRACING_SAMPLING_RATE", "0".to_owned());
    let environment = collector.environment().into_iter().chain([rate]);
    let server = Ratekeeper::start(RULES, environment);
    // Nobody has decided: the rate does.
    server.ask(ask("m", &["path=p,method=m"])).unwrap();
    // The caller has decided.
    for flags in ["00", "01"] {
        let header = ("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"));
        send(&server, ask("m", &["path=p,method=m"]), header);
    }
    // An error is told, too.
    send(
        &server,
        ask("", &["user=u"]),
        ("traceparent", format!("00-{TRACE}-{SPAN}-01")),
    );
    assert!(server.stop().success());
    let spans = collector.spans(CALL);
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert_eq!(
        spans[0].attribute("ratelimit.verdict").as_deref(),
        Some("ok")
    );
    assert_eq!(
        spans[1].attribute("rpc.grpc.status_code").as_deref(),
        Some("3")
    );
    // The request was invalid: by convention, that is no error of the server's span.
    assert_eq!(spans[1].span.status.as_ref().map_or(0, |s| s.code), 0);
}

#[test]
fn the_last_spans_are_sent_before_the_end() {
    for speaks in [Protocol::Grpc, Protocol::Http] {
        let collector = Collector::start(speaks);
        let mut environment = collector.environment();
        environment.retain(|(name, _)| *name != "OTEL_BSP_SCHEDULE_DELAY");
        environment.push(("OTEL_BSP_SCHEDULE_DELAY", "3600000".to_owned()));
        let server = Ratekeeper::start(RULES, environment);
        server.ask(ask("m", &["user=u"])).unwrap();
        assert!(collector.spans(CALL).is_empty());
        assert!(server.stop().success());
        assert_eq!(collector.spans(CALL).len(), 1, "{speaks:?}");
    }
}

#[test]
fn a_collector_that_does_not_answer_keeps_nobody() {
    let runtime = Runtime::new().unwrap();
    // It accepts connections, and that is all.
    let silent = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    for protocol in ["grpc", "http"] {
        let environment = [
            ("TRACING_ENABLED", "true".to_owned()),
            ("TRACING_EXPORTER_PROTOCOL", protocol.to_owned()),
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://{}", silent.local_addr().unwrap()),
            ),
            ("OTEL_BSP_SCHEDULE_DELAY", "10".to_owned()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10".to_owned()),
        ];
        let server = Ratekeeper::start(RULES, environment);
        for _ in 0..100 {
            server.ask(ask("m", &["user=u"])).unwrap();
        }
        server.signal("TERM");
        let (status, log) = server.ended();
        assert!(status.success(), "{log}");
        assert!(log.contains("traces could not be"), "{log}");
    }
}
