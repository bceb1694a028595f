//! What is played is what the server decides. That a live server's recordings give what it gave is tested in
//! `tests/rehearsal.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::key::KeyFormat;
use crate::limiter::{
    Bounds, Code, Descriptor, Entry, InForce, Limiter, LimiterSettings, Override, Record, Request,
    Sample,
};
use crate::rules::{Algorithm, SourceFile, Unit};
use crate::store::memory::MemoryStore;
use crate::telemetry::recording::{Recording, RecordingSettings};

const RULES: &str = "
domain: d
descriptors:
  - key: bucket
    rate_limit: {unit: second, requests_per_unit: 3, burst: 5}
  - key: window
    rate_limit: {unit: minute, requests_per_unit: 4, algorithm: fixed_window}
  - key: twice
    rate_limit:
      - {unit: second, requests_per_unit: 2}
      - {unit: hour, requests_per_unit: 20, hits: prepaid}
  - key: paid
    rate_limit: {unit: minute, requests_per_unit: 10, hits: postpaid, max_debt: 7}
  - key: shared
    value: v*
    share_threshold: true
    rate_limit: {unit: second, requests_per_unit: 4}
  - key: shadow
    shadow_mode: true
    rate_limit: {unit: second, requests_per_unit: 1}
  - key: quota
    quota_mode: true
    rate_limit: {unit: second, requests_per_unit: 1}
  - key: free
    rate_limit: {unlimited: true}
";

fn rules(text: &str) -> RuleSet {
    let file = SourceFile {
        name: "test.yaml".to_owned(),
        text: text.to_owned(),
    };
    RuleSet::load(&[file], LoadOptions::default()).unwrap()
}

fn settings() -> LimiterSettings {
    LimiterSettings {
        keys: KeyFormat::new(""),
        bounds: Bounds {
            descriptors: 100,
            entries: 100,
            bytes: 10_000,
        },
        default_algorithm: Algorithm::TokenBucket,
        default_hits: crate::rules::Hits::Auto,
        shadow_mode: false,
        quota_mode: false,
    }
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    const KEYS: [&str; 9] = [
        "bucket", "window", "twice", "paid", "shared", "shadow", "quota", "free", "unknown",
    ];
    let own = Override {
        requests_per_unit: 2,
        unit: Unit::Second,
        unit_multiplier: 3,
    };
    (
        prop::sample::select(&KEYS[..]),
        0..3_u8,
        prop::option::weighted(0.1, Just(own)),
        prop::option::weighted(0.5, 0..7_u64),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(key, value, limit, hits_addend, is_negative_hits)| Descriptor {
                entries: vec![Entry {
                    key: key.into(),
                    value: match value {
                        2 => b"v\xff%FF\"".to_vec().into(),
                        value => format!("v\"{value}\\\u{1}").into(),
                    },
                }],
                limit,
                hits_addend,
                is_negative_hits,
            },
        )
}

/// Requests, each with the time since the one before.
fn requests() -> impl Strategy<Value = Vec<(u64, Request)>> {
    let descriptors = prop::collection::vec(descriptor(), 1..4);
    let request = (descriptors, 0..4_u32).prop_map(|(descriptors, hits_addend)| Request {
        domain: "d".into(),
        descriptors,
        hits_addend,
    });
    prop::collection::vec((0..900_000_u64, request), 1..120)
}

/// A server in miniature: decides the requests in memory and records a part of the buckets. Returns the lines.
fn live(requests: &[(u64, Request)], share: f64) -> (Vec<Code>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("requests.jsonl");
    let recording = Recording::start(&RecordingSettings {
        path: path.clone(),
        max_bytes: 1 << 30,
    })
    .unwrap();
    let now = Arc::new(AtomicU64::new(1_790_000_000_000_000));
    let shown = Arc::clone(&now);
    let clock: Clock = Arc::new(move || shown.load(Ordering::Relaxed));
    let in_force = Arc::new(InForce::default());
    in_force.install(rules(RULES));
    let record = Record::new(
        recording.handle().lines(),
        Sample::new(share),
        Arc::clone(&clock),
    );
    let limiter = Limiter::new(MemoryStore::new(1_000, clock), in_force, settings())
        .recorded_by(Some(record));
    let codes = requests
        .iter()
        .map(|(wait, request)| {
            // Never twice the same instant, whose order no recording tells.
            now.fetch_add(wait + 1, Ordering::Relaxed);
            let verdict = limiter.decide(request, None).now_or_never().unwrap();
            verdict.unwrap().code
        })
        .collect();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(recording.end());
    (codes, fs::read_to_string(path).unwrap())
}

fn played(lines: &str, text: &str) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("requests.jsonl");
    fs::write(&path, lines).unwrap();
    let mut input =
        Input::open(&[path], input::Reading::Recording, input::BrokenLines::Fail).unwrap();
    let rules = rules(text);
    let side = Play {
        name: "test.yaml".to_owned(),
        tally: Tally::new(rules.rules().len()),
        rehearsal: Rehearsal::new(rules, settings(), 1_000),
    };
    play(&mut input, vec![side]).unwrap()
}

/// Found by the property below. That a rule is given hits back is not recorded of buckets outside the sample, and their
/// answers must not depend on it.
#[test]
fn a_bucket_outside_the_sample_answers_as_recorded_whatever_is_asked_of_it() {
    for (code, denied) in [("OK", 0), ("OVER_LIMIT", 1)] {
        let each = match code {
            "OK" => String::new(),
            code => format!(r#","code":"{code}""#),
        };
        let lines = format!(
            r#"{{"v":1,"time":1790000000000001,"domain":"d","descriptors":[{{"entries":[["quota","v"]],"is_negative_hits":true,"asked":true,"sampled":false{each}}},{{"entries":[["quota","v"]],"hits_addend":3,"asked":true,"sampled":false{each}}},{{"entries":[["shadow","v"]]}}],"code":"{code}"}}
"#
        );
        let report = played(&lines, RULES);
        let compared = report.with_recorded.as_ref().unwrap();
        assert_eq!(
            (compared.changed(), compared.denied),
            (0, denied),
            "{lines}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_recording_replayed_gives_the_verdicts_that_were_given(requests in requests()) {
        let (codes, lines) = live(&requests, 1.0);
        let report = played(&lines, RULES);
        let compared = report.with_recorded.as_ref().unwrap();
        prop_assert_eq!((compared.changed(), compared.changed_descriptors), (0, 0), "{}", lines);
        let denied = codes.iter().filter(|code| **code == Code::OverLimit).count();
        prop_assert_eq!(compared.denied, denied as u64);
        prop_assert_eq!(compared.compared(), codes.len() as u64);
    }

    #[test]
    fn so_does_a_sample_of_the_buckets(requests in requests(), share in 0.1..0.9) {
        let (codes, lines) = live(&requests, share);
        let recorded = lines.lines().count();
        prop_assert!(recorded <= codes.len());
        if recorded > 0 {
            let report = played(&lines, RULES);
            let compared = report.with_recorded.as_ref().unwrap();
            prop_assert_eq!(compared.changed(), 0, "{}", lines);
            prop_assert_eq!(compared.compared(), recorded as u64);
        }
    }

    #[test]
    fn no_line_has_the_program_panic(line in "\\PC{0,60}|[\\[\\]{}\":,0-9a-z]{0,60}") {
        let _ = Recorded::read(&line);
    }
}
