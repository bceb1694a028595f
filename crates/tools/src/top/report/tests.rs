//! The report on samples of a server.

use serde_json::{Value, json};

use super::numbers::{decimal, grouped, period};
use super::*;
use ratekeeper_api::admin::{
    Breaker, Causes, ConfigurationSummary, Decisions, DeniedBucket, Distribution,
    DistributionBucket, Errors, Hits, HotBucket, Limit, Rejected, Rule, Source, Status, Store, Top,
};

/// A server at a time, with these numbers of decisions and an odd bucket key.
pub(in crate::top) fn sample(second: u64, admitted: u64, denied: u64) -> Sample {
    let rule = |path: &str, within: u64, denied: u64| Rule {
        path: path.to_owned(),
        limits: vec![Limit {
            text: "10 per minute, token bucket of 10".to_owned(),
            ..Limit::default()
        }],
        hits: Hits {
            within,
            denied,
            would_deny: Some(0),
            ..Hits::default()
        },
        ..Rule::default()
    };
    Sample {
        status: status(second, admitted, denied),
        rules: vec![
            rule("shop.calm", 5, 0),
            rule("shop.client", admitted, denied),
        ],
        all_rules: 2,
        top: Ok(top(second)),
    }
}

fn status(second: u64, admitted: u64, denied: u64) -> Status {
    let bucket = |le, count| DistributionBucket { le, count };
    let times = Distribution {
        count: admitted + denied,
        sum_seconds: 1.0,
        buckets: vec![bucket(0.001, admitted), bucket(0.01, admitted + denied)],
    };
    Status {
        version: "0.1.0".into(),
        instance: "host".into(),
        healthy: true,
        now_us: second * 1_000_000,
        uptime_seconds: second,
        store: redis(times.clone()),
        answers: times,
        decisions: Decisions {
            ok: Causes {
                buckets: admitted,
                ..Causes::default()
            },
            over_limit: Causes {
                buckets: denied,
                fallback_deny: 4,
                ..Causes::default()
            },
        },
        fallback_decisions: None,
        errors: Errors {
            service: 0,
            store: 1,
        },
        source: Source {
            kind: "files".into(),
            origin: "/etc/ratelimit".into(),
            connected: None,
        },
        configuration: ConfigurationSummary {
            version: Some("a3f9".to_owned()),
            loaded_us: Some(1),
            domains: 1,
            rules: 2,
            rejected: Some(Rejected {
                at_us: 1,
                mistakes: vec!["a.yaml:3:5: odd \u{1b}[31m".to_owned()],
                more: 2,
            }),
        },
        can_change: false,
    }
}

fn redis(latency: Distribution) -> Store {
    let breaker = Breaker {
        name: "redis".into(),
        state: "open".into(),
        times_opened: 2,
        ..Breaker::default()
    };
    Store {
        kind: "redis".into(),
        degraded: true,
        failure_mode: Some("local".into()),
        latency: Some(latency),
        breakers: vec![breaker],
        remembered_denials: 7,
        ..Store::default()
    }
}

fn top(second: u64) -> Top {
    let bucket = |key: &str, hits: Option<u64>| HotBucket {
        key: key.to_owned(),
        rule: "shop.client".to_owned(),
        hits,
        denied: 80,
        would_deny: 0,
    };
    Top {
        window: "minute".into(),
        total_hits: 1_234_567,
        total_denied: 89,
        error: 3,
        hottest: vec![bucket("rk:shop|client=\u{9b}2J", Some(1_000))],
        denied: vec![DeniedBucket {
            bucket: bucket("rk:shop|client=x", None),
            last_denied_us: Some((second - 3) * 1_000_000),
            request: Some("?".to_owned()),
        }],
        ..Top::default()
    }
}

pub(in crate::top) fn view() -> View {
    View {
        address: "localhost:6070".to_owned(),
        window: Window::Minute,
        sort: Sort::Rate,
    }
}

#[test]
fn rates_are_what_came_between_two_samples() {
    let report = Report::new(
        &view(),
        Some(&sample(100, 1_000, 10)),
        &sample(104, 3_000, 30),
    );
    assert_eq!(
        report.facts[0],
        "ratekeeper 0.1.0 on host, up 1 min, queried at localhost:6070"
    );
    assert_eq!(
        report.facts[1],
        "requests: admitted 500/s (3,000), denied 5.0/s (34), by fallback 0/s (4), errors 0/s (1)"
    );
    assert_eq!(
        report.facts[2],
        "latency: responses p50 0.51 ms, p99 1.00 ms; round trips to Redis p50 0.51 ms, p99 1.00 ms"
    );
    assert_eq!(
        report.rules.rows[0],
        [
            "shop.client",
            "10 per minute, token bucket of 10",
            "500",
            "5.0",
            "3,000",
            "30"
        ]
    );
    assert_eq!(
        report.denied.rows[0],
        ["rk:shop|client=x", "shop.client", "80", "3 s"]
    );
}

#[test]
fn what_shadow_mode_lets_pass_is_apart_from_what_is_denied() {
    let mut now = sample(100, 5, 9);
    now.rules[1].hits.denied = 2;
    now.rules[1].hits.would_deny = Some(7);
    let top = now.top.as_mut().unwrap();
    top.total_would_deny = 7;
    top.hottest[0].would_deny = 7;
    top.would_deny = vec![DeniedBucket {
        bucket: HotBucket {
            key: "rk:shop|client=y".to_owned(),
            rule: "shop.client".to_owned(),
            hits: Some(9),
            denied: 0,
            would_deny: 7,
        },
        last_denied_us: Some(95_000_000),
        request: Some("?".to_owned()),
    }];
    let report = Report::new(&view(), None, &now);
    let last = |table: &Table| {
        let cell = table.rows.last()?.last()?.clone();
        Some((table.columns.last()?.name, cell))
    };
    assert_eq!(last(&report.rules), Some(("would deny", "7".to_owned())));
    assert_eq!(report.rules.rows[1][4..6], ["5", "2"]);
    assert_eq!(last(&report.hottest), Some(("would deny", "7".to_owned())));
    let table = report.would_deny.unwrap();
    assert_eq!(
        table.title,
        "would deny most (shadow mode) of the last minute: 7 hits in total"
    );
    assert_eq!(
        table.rows,
        [["rk:shop|client=y", "shop.client", "7", "5 s"]]
    );
    assert_eq!(report.denied.rows[0][0], "rk:shop|client=x");
}

/// The documents of version 0.1.0 have no `would_deny`: it counts what shadow mode lets pass as denied.
#[test]
fn an_older_server_is_read() {
    let mut now = sample(100, 5, 9);
    now.rules[1].shadow_mode = true;
    let old = |document: Value, fields: &[&str]| {
        let mut document = document;
        for field in fields {
            let (parent, name) = field.rsplit_once('/').unwrap();
            let parent = document
                .pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap();
            parent.remove(name).unwrap();
        }
        document
    };
    let status = json!(now.status);
    let missing = ["/fallback_decisions", "/store/breakers/0/server"];
    now.status = serde_json::from_value(old(status, &missing)).unwrap();
    let rule = json!(now.rules[1]);
    let missing = ["/hits/would_deny", "/use"];
    now.rules[1] = serde_json::from_value(old(rule, &missing)).unwrap();
    let top = json!(now.top.unwrap());
    let missing = [
        "/total_would_deny",
        "/would_deny",
        "/hottest/0/would_deny",
        "/denied/0/would_deny",
    ];
    now.top = Ok(serde_json::from_value(old(top, &missing)).unwrap());
    let report = Report::new(&view(), None, &now);
    assert!(report.facts[1].contains("by fallback -/s (4)"));
    assert_eq!(report.rules.rows[1][4..], ["5", "0", "9"]);
    assert_eq!(report.hottest.columns.len(), 4);
    assert!(report.would_deny.is_none());
}

#[test]
fn texts_of_clients_and_files_are_escaped() {
    let report = Report::new(&view(), None, &sample(100, 1, 1));
    assert_eq!(report.hottest.rows[0][0], "rk:shop|client=\\u{9b}2J");
    let told = "the latest configuration was rejected: a.yaml:3:5: odd \\u{1b}[31m (and 2 more)";
    assert!(
        report.alarms.iter().any(|alarm| alarm == told),
        "{:?}",
        report.alarms
    );
    assert!(report.alarms[0].starts_with("degraded: "));
}

#[test]
fn without_a_sample_before_or_after_a_restart_there_are_no_rates() {
    let restarted = sample(50, 5, 0);
    for before in [None, Some(&sample(100, 1_000, 10))] {
        let report = Report::new(&view(), before, &restarted);
        assert!(
            report.facts[1].starts_with("requests: admitted -/s (5)"),
            "{}",
            report.facts[1]
        );
        assert_eq!(report.rules.rows[0][2], "-");
    }
}

#[test]
fn what_is_hot_may_be_untold() {
    let mut other = sample(100, 1, 1);
    other.top = Err("not \u{1b}here".to_owned());
    let report = Report::new(&view(), None, &other);
    assert_eq!(report.hottest.title, "hottest: not \\u{1b}here");
    assert_eq!(report.denied.title, "most denied: not \\u{1b}here");
}

#[test]
fn rules_are_sorted_as_asked() {
    let names = |sort| {
        let view = View { sort, ..view() };
        let report = Report::new(&view, Some(&sample(100, 0, 0)), &sample(101, 3, 0));
        report
            .rules
            .rows
            .into_iter()
            .map(|row| row[0].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(Sort::Rate), ["shop.client", "shop.calm"]);
    assert_eq!(names(Sort::Denied), ["shop.calm", "shop.client"]);
    assert_eq!(names(Sort::Total), ["shop.calm", "shop.client"]);
    assert_eq!(names(Sort::Name), ["shop.calm", "shop.client"]);
}

#[test]
fn numbers_are_short() {
    assert_eq!(
        [0, 999, 1_000, 1_234_567].map(grouped),
        ["0", "999", "1,000", "1,234,567"]
    );
    assert_eq!(
        [0.0, 0.25, 9.94, 1_234.0, 123_456.0].map(decimal),
        ["0", "0.2", "9.9", "1234", "123k"]
    );
    let periods = [5, 61, 7_300, 180_000].map(period);
    assert_eq!(periods, ["5 s", "1 min", "2 h 1 min", "2 d 2 h"]);
}
