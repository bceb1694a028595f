use super::*;

#[test]
fn a_scrape_tells_what_was_counted() {
    let metrics = Arc::new(Metrics::new(
        MetricsSettings::default(),
        NonZeroUsize::new(2).unwrap(),
    ));
    let recorders = [metrics.recorder(), metrics.recorder()];
    for recorder in &recorders {
        recorder.decided(Told::Ok, DecidedBy::Buckets);
        recorder.answered(
            Method::ShouldRateLimit,
            std::time::Duration::from_micros(300),
        );
        let hits = Hits {
            within: 2,
            ..Hits::default()
        };
        for name in ["shop.a", "shop.a.b", "shop.a.b.c", "shop.a.\"\n"] {
            recorder.count(&recorder.series(name), &hits);
        }
    }
    let text = metrics.encode();
    for line in [
        "ratelimit_service_rate_limit_total_hits{domain=\"shop\",key1=\"a\"} 4",
        // Deeper levels add to the first two.
        "ratelimit_service_rate_limit_within_limit{domain=\"shop\",key1=\"a\",key2=\"b\"} 8",
        "ratelimit_service_rate_limit_over_limit{domain=\"shop\",key1=\"a\",key2=\"\\\"\\n\"} 0",
        "ratelimit_service_total_requests{grpc_method=\"ShouldRateLimit\"} 2",
        "ratelimit_service_response_time_seconds_bucket{grpc_method=\"ShouldRateLimit\",le=\"0.00025\"} 0",
        "ratelimit_service_response_time_seconds_bucket{grpc_method=\"ShouldRateLimit\",le=\"0.0005\"} 2",
        "ratelimit_service_response_time_seconds_sum{grpc_method=\"ShouldRateLimit\"} 0.0006",
        "ratekeeper_decisions_total{cause=\"buckets\",verdict=\"ok\"} 2",
        "ratekeeper_metric_series 4",
    ] {
        assert!(
            text.lines().any(|told| told == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(!text.contains(OTHER), "{text}");
}

/// The page is what people build dashboards from.
#[test]
fn every_metric_is_on_its_page() {
    let page = include_str!("../../../docs/metrics.md");
    let metrics = Arc::new(Metrics::default());
    metrics.store.remembered_denials(|| 0);
    metrics.store.in_memory(|| 0, 1, || 0);
    metrics.certificate_valid("grpc", || Some([0, 1]));
    metrics.certificate_valid("xds", || None);
    metrics.grpc_connections(&(Arc::new(ConnectionCounts::default) as Connections));
    metrics.certificate_rotations(|| 2, || 1);
    metrics.recorded(|| 2, || 1);
    metrics.store.give_backs("lost", || 1);
    let recorder = metrics.recorder();
    recorder.count(&recorder.series("d.k"), &Hits::default());
    recorder.store_failed();
    metrics.store.fallback_buckets(|| 0);
    metrics.store.breaker_state(|| 0);
    metrics.store.degraded(|| 0);
    metrics.store.breaker_opened(|| 0);
    for kind in ["timeout", "unfit"] {
        metrics.store.failures(kind, || 3);
    }
    let text = metrics.encode();
    assert!(
        text.contains("ratekeeper_store_errors_total{kind=\"unfit\"} 3\n"),
        "{text}"
    );
    let expiry = "ratekeeper_tls_certificate_expiry_timestamp_seconds{use=\"grpc\"} 1\n";
    assert!(
        text.contains(expiry) && !text.contains("xds"),
        "what is not known is not told: {text}"
    );
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let names: Vec<_> = names.collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("`{name}`")),
            "{name} is not on the page"
        );
    }
}

#[test]
fn the_ratio_is_reckoned_as_the_reference_does() {
    let recorder = Recorder::default();
    for (limit, near) in [
        (0, 0),
        (1, 0),
        (8, 6),
        (10, 8),
        (15, 12),
        (20, 16),
        (u32::MAX, 3_435_973_888),
    ] {
        assert_eq!(recorder.near(limit), near, "{limit}");
    }
}
