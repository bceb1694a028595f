//! Metrics: what a scrape tells after calls whose answers are known.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::deploy::monitoring::questions;
use crate::support::{Prometheus, Ratekeeper, Scrape, ask, eventually, on_every_store, times};

/// Starts a server that tells its metrics.
fn start(rules: &str, environment: &[(&'static str, &str)]) -> Ratekeeper {
    let own = Scrape::environment().into_iter();
    let own = own.chain(environment.iter().copied());
    Ratekeeper::start(rules, own.map(|(name, value)| (name, value.to_owned())))
}

/// The counters of a rule, by what their names end in.
fn of_rule<const N: usize>(scrape: &Scrape, rule: &str, ends: [&str; N]) -> [f64; N] {
    ends.map(|end| {
        scrape.value(&format!(
            "ratelimit_service_rate_limit_{end}{{domain=\"m\",{rule}}}"
        ))
    })
}

const ENDS: [&str; 4] = ["over_limit", "near_limit", "within_limit", "total_hits"];

#[test]
fn hits_are_counted_as_the_reference_counts_them() {
    // The limit; what is taken before, and by the request; what is over, near, within, all.
    let rows: [(u32, u32, u32, [u32; 4]); 12] = [
        (10, 4, 1, [0, 0, 1, 1]),
        (10, 10, 1, [1, 0, 0, 1]),
        (15, 10, 1, [0, 0, 1, 1]),
        (15, 12, 1, [0, 1, 1, 1]),
        (15, 15, 1, [1, 0, 0, 1]),
        (20, 2, 3, [0, 0, 3, 3]),
        (8, 5, 2, [0, 1, 2, 2]),
        (20, 16, 3, [0, 3, 3, 3]),
        (20, 19, 3, [2, 1, 0, 3]),
        (20, 15, 7, [2, 4, 0, 7]),
        (10, 27, 3, [3, 0, 0, 3]),
        (10, 10, 0, [0, 0, 0, 0]),
    ];
    for algorithm in ["token_bucket", "fixed_window"] {
        let mut rules = "domain: m\ndescriptors:\n".to_owned();
        for (row, (limit, before, ..)) in rows.iter().enumerate() {
            // Only what is reported afterwards takes more than there is.
            let hits = if before > limit {
                "postpaid"
            } else {
                "prepaid"
            };
            rules += &format!(
                "  - {{ key: row{row}, rate_limit: {{ unit: year, requests_per_unit: {limit}, \
                 algorithm: {algorithm}, hits: {hits} }} }}\n"
            );
        }
        on_every_store(&rules, &Scrape::environment(), |server, store| {
            for (row, (_, before, hits, expected)) in rows.iter().enumerate() {
                let shown = format!("row {row}, {algorithm} on {store}");
                let take = |hits: u32| {
                    let descriptor = format!("row{row}=x x{hits}");
                    server.ask(ask("m", &[&descriptor])).unwrap();
                };
                take(*before);
                let rule = format!("key1=\"row{row}\"");
                let earlier = of_rule(&Scrape::of(server), &rule, ENDS);
                take(*hits);
                let later = of_rule(&Scrape::of(server), &rule, ENDS);
                let counted: Vec<f64> = later.iter().zip(earlier).map(|(l, e)| l - e).collect();
                assert_eq!(counted, expected.map(f64::from), "{shown}");
            }
        });
    }
}

#[test]
fn modes_of_rules_and_causes_are_counted() {
    let rules = "
domain: m
descriptors:
  - {key: shadow, shadow_mode: true, rate_limit: {unit: year, requests_per_unit: 15}}
  - {key: free, rate_limit: {unlimited: true}}
  - {key: old, rate_limit: {name: old, unit: year, requests_per_unit: 1}}
  - {key: new, rate_limit: {unit: year, requests_per_unit: 5, replaces: [{name: old}]}}
  - {key: two, rate_limit: [{unit: year, requests_per_unit: 9}, {unit: week, requests_per_unit: 1}]}
  - {key: none}
";
    on_every_store(rules, &Scrape::environment(), |server, store| {
        let send = |descriptors: &[&str]| server.ask(ask("m", descriptors)).unwrap();
        for _ in 0..2 {
            send(&["shadow=x x15"]);
        }
        send(&["shadow=x x15"]);
        send(&["free=x"]);
        send(&["none=x"]);
        send(&["old=x", "new=x"]);
        send(&["new=x x-1"]);
        send(&["two=x"]);
        send(&["two=x"]);
        send(&["new=x limit=3/day"]);
        server.ask(ask("unknown", &["a=b", "c=d"])).unwrap();
        let scrape = Scrape::of(server);
        let ends = ["total_hits", "within_limit", "over_limit", "shadow_mode"];
        let shadow = of_rule(&scrape, "key1=\"shadow\"", ends);
        assert_eq!(shadow, [45.0, 15.0, 30.0, 30.0], "{store}");
        // The second denial is remembered, unless there is nothing to spare by that.
        let remembered = of_rule(&scrape, "key1=\"shadow\"", ["over_limit_with_local_cache"]);
        assert_eq!(
            remembered,
            [if store == "memory" { 0.0 } else { 15.0 }],
            "{store}"
        );
        for rule in ["free", "none", "old"] {
            let counted = of_rule(&scrape, &format!("key1=\"{rule}\""), ["total_hits"]);
            assert_eq!(counted, [0.0], "{rule} on {store}");
        }
        let new = of_rule(
            &scrape,
            "key1=\"new\"",
            ["total_hits", "total_negative_hits"],
        );
        assert_eq!(new, [1.0, 1.0], "{store}");
        // Of two limits, the one that is shown counts, and a request once.
        let two = of_rule(&scrape, "key1=\"two\"", ["total_hits", "over_limit"]);
        assert_eq!(two, [2.0, 1.0], "{store}");
        let own = of_rule(&scrape, "key1=\"new_x\"", ["total_hits"]);
        assert_eq!(own, [1.0], "{store}");
        assert_eq!(
            scrape.value("ratelimit_service_rate_limit_domain_not_found"),
            2.0
        );
        let decided = |cause: &str, verdict: &str| {
            scrape.value(&format!(
                "ratekeeper_decisions_total{{cause=\"{cause}\",verdict=\"{verdict}\"}}"
            ))
        };
        assert_eq!(decided("no_limit", "ok"), 3.0, "{store}");
        assert_eq!(decided("buckets", "over_limit"), 1.0, "{store}");
    });
}

#[test]
fn calls_errors_and_configurations_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    fs::write(
        &file,
        "{domain: m, descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 1}}]}",
    )
    .unwrap();
    let environment = Scrape::environment().map(|(name, value)| (name, value.to_owned()));
    let shadow = ("SHADOW_MODE", "true".to_owned());
    let flags = ["--config".as_ref(), file.as_os_str()];
    let mut server = Ratekeeper::start_with(flags, environment.into_iter().chain([shadow]));
    for _ in 0..3 {
        server.ask(ask("m", &["k=x"])).unwrap();
    }
    server.ask(ask("", &["k=x"])).unwrap_err();
    server.health("ratelimit");
    let scrape = Scrape::of(&server);
    let method = |name: &str| {
        scrape.value(&format!(
            "ratelimit_service_total_requests{{grpc_method=\"{name}\"}}"
        ))
    };
    assert_eq!(method("ShouldRateLimit"), 4.0);
    assert_eq!(method("Check"), 1.0);
    let count = scrape
        .value("ratelimit_service_response_time_seconds_count{grpc_method=\"ShouldRateLimit\"}");
    assert_eq!(count, 4.0);
    assert_eq!(
        scrape.value("ratelimit_service_should_rate_limit_error{err_type=\"service_error\"}"),
        1.0
    );
    assert_eq!(
        scrape.value("ratelimit_service_should_rate_limit_error{err_type=\"redis_error\"}"),
        0.0
    );
    assert_eq!(scrape.value("ratelimit_service_global_shadow_mode"), 2.0);
    assert_eq!(scrape.value("ratelimit_service_config_load_success"), 1.0);
    assert_eq!(scrape.value("ratekeeper_config_rules"), 1.0);
    assert_eq!(scrape.value("ratekeeper_buckets"), 1.0);
    assert!(scrape.value("ratekeeper_config_last_success_timestamp_seconds") > 1e9);
    assert!(scrape.value("process_resident_memory_bytes") > 1e6);

    fs::write(
        &file,
        "{domain: m, descriptors: [{key: k, rate_limit: {unit: eon}}]}",
    )
    .unwrap();
    server.wait_for_log("configuration rejected");
    let scrape = Scrape::of(&server);
    assert_eq!(scrape.value("ratelimit_service_config_load_error"), 1.0);
    assert_eq!(scrape.value("ratekeeper_config_last_load_successful"), 0.0);
    fs::write(&file, "{domain: m, descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 1}}, {key: l}]}").unwrap();
    server.wait_for_log("configuration loaded");
    // A rule that is still there counts on.
    server.ask(ask("m", &["k=x"])).unwrap();
    let scrape = Scrape::of(&server);
    assert_eq!(of_rule(&scrape, "key1=\"k\"", ["total_hits"]), [4.0]);
    assert_eq!(scrape.value("ratelimit_service_config_load_success"), 2.0);
    assert_eq!(scrape.value("ratekeeper_config_last_load_successful"), 1.0);
}

/// What the tests of Envoy Gateway look for.
#[test]
fn envoy_gateways_queries_find_what_they_look_for() {
    let rules = "
domain: eg/http
descriptors:
  - key: route
    value: route
    descriptors:
      - key: masked_remote_address
        value: 0.0.0.0/0
        descriptors:
          - {key: remote_address, rate_limit: {unit: hour, requests_per_unit: 1}}
      - {key: header_x-user-id, value: one, rate_limit: {unit: hour, requests_per_unit: 1}}
";
    let server = start(rules, &[]);
    for _ in 0..2 {
        let address = "route=route,masked_remote_address=0.0.0.0/0,remote_address=10.0.0.1";
        server.ask(ask("eg/http", &[address])).unwrap();
        server
            .ask(ask("eg/http", &["route=route,header_x-user-id=one"]))
            .unwrap();
    }
    let scrape = Scrape::of(&server);
    for key2 in ["masked_remote_address_0_0_0_0/0", "header_x-user-id_one"] {
        let series = format!(
            "ratelimit_service_rate_limit_over_limit{{domain=\"eg/http\",key1=\"route_route\",key2=\"{key2}\"}}"
        );
        assert_eq!(scrape.value(&series), 1.0, "{series}");
    }
}

#[test]
fn a_hostile_client_cannot_grow_the_series() {
    let rules = "
domain: m
descriptors:
  - {key: known, rate_limit: {unit: year, requests_per_unit: 1000}}
  - {key: user, detailed_metric: true, rate_limit: {unit: year, requests_per_unit: 1000}}
";
    let server = start(rules, &[("METRICS_MAX_SERIES", "20")]);
    server.ask(ask("m", &["known=x"])).unwrap();
    for i in 0..25 {
        let values: Vec<String> = (0..10).map(|j| format!("user={}", i * 10 + j)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        server.ask(ask("m", &values)).unwrap();
        let own = format!("evil={i}{} limit=5/day", "x".repeat(10_000));
        server.ask(ask("m", &[&own])).unwrap();
        server.ask(ask(&format!("domain{i}"), &["k=v"])).unwrap();
    }
    server.ask(ask("m", &["known=x"])).unwrap();
    let scrape = Scrape::of(&server);
    assert_eq!(scrape.series("ratelimit_service_rate_limit_total_hits"), 21);
    assert_eq!(scrape.value("ratekeeper_metric_series"), 20.0);
    assert_eq!(of_rule(&scrape, "key1=\"known\"", ["total_hits"]), [2.0]);
    let other = "ratelimit_service_rate_limit_total_hits{domain=\"other\",key1=\"other\"}";
    let refused = scrape.value("ratekeeper_metric_series_refused_total");
    assert_eq!(scrape.value(other), refused);
    // 250 users and 25 limits, of which 19 found room.
    assert_eq!(refused, 256.0);
    assert!(scrape.text().len() < 60_000, "{}", scrape.text().len());
}

#[test]
fn promtool_finds_nothing_but_the_references_names() {
    let server = start(
        "{domain: m, descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 1}}]}",
        &[],
    );
    server.ask(times(5, ask("m", &["k=x"]))).unwrap();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: run tests/setup");
    let scrape = Scrape::of(&server);
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(scrape.text().as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let mut names = 0;
    for line in said.lines() {
        // The reference's counters have no _total.
        let is_known = line.starts_with("ratelimit_service_") && line.contains("\"_total\" suffix");
        assert!(is_known, "{said}");
        names += 1;
    }
    assert!(names > 5, "promtool has not read them: {said}");
}

#[test]
fn a_real_prometheus_scrapes_and_answers() {
    let server = start(
        "{domain: m, descriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 1}}]}",
        &[],
    );
    for _ in 0..3 {
        server.ask(ask("m", &["k=x"])).unwrap();
    }
    let target = Scrape::address(&server);
    let prometheus = Prometheus::start(&format!(
        "scrape_configs: [{{job_name: ratekeeper, scrape_interval: 200ms, scrape_timeout: 200ms, static_configs: [{{targets: ['{target}']}}]}}]"
    ));
    for (question, answer) in [
        (
            "ratelimit_service_rate_limit_over_limit{domain=\"m\",key1=\"k\"}",
            "2",
        ),
        ("sum(ratelimit_service_total_requests)", "3"),
        (
            "histogram_quantile(0.5, ratelimit_service_response_time_seconds_bucket{grpc_method=\"ShouldRateLimit\"}) < bool 10",
            "1",
        ),
        ("up{job=\"ratekeeper\"}", "1"),
    ] {
        eventually(question, || {
            prometheus.query(question).as_deref() == Some(answer)
        });
    }
    // What the dashboard asks, it answers, too, but for what there is none of here: a Redis, certificates, and
    // rules that something happens to while it looks.
    let elsewhere = [
        "ratekeeper_store_",
        "ratekeeper_degraded",
        "ratekeeper_remembered_",
        "_certificate_",
        "ratekeeper_candidate_",
        "> 0",
    ];
    let questions = questions();
    let here = questions
        .iter()
        .filter(|question| !elsewhere.iter().any(|name| question.contains(name)));
    for question in here {
        eventually(question, || prometheus.query(question).is_some());
    }
}

#[test]
fn dots_of_keys_and_values_are_replaced_when_that_is_wanted() {
    let rules = "domain: m\ndescriptors: [{key: host.name, value: www.example.com, rate_limit: {unit: year, requests_per_unit: 5}}]\n";
    for (set, labels) in [
        ("false", "key1=\"host\",key2=\"name_www\""),
        ("true", "key1=\"host_name_www_example_com\""),
    ] {
        let server = start(rules, &[("SANITIZE_DESCRIPTOR_METRIC_DOTS", set)]);
        server
            .ask(ask("m", &["host.name=www.example.com"]))
            .unwrap();
        let hits = of_rule(&Scrape::of(&server), labels, ["total_hits"]);
        assert_eq!(hits, [1.0], "{set}");
    }
}
