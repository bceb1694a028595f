//! Configurations that are wrong from end to end, changes without end, and files that are something else: memory
//! and log stay small, and no secret is repeated.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use ratekeeper::source::xds::pb::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};

use crate::support::{Management, Ratekeeper, ask, eventually, typed};

const RULES: &str =
    "domain: d\ndescriptors: [{key: a, rate_limit: {unit: year, requests_per_unit: 5}}]\n";

/// MiB that a megabyte of mistakes may cost at most, the parser's tree included.
const MIB_OF_A_MEGABYTE: u64 = 150;

fn asking(management: &Management) -> Ratekeeper {
    let environment = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW".to_owned()),
        (
            "CONFIG_GRPC_XDS_SERVER_URL",
            management.address().to_string(),
        ),
    ];
    Ratekeeper::start_with(Vec::<&str>::new(), environment)
}

// --- Memory ---

#[test]
fn a_file_that_is_wrong_from_end_to_end_costs_little_memory() {
    for (name, line) in [
        ("no maps", "-\n"),
        ("no keys", "- {}\n"),
        ("unknown keys", "- {k: 1}\n"),
        ("the same rule", "- {key: a}\n"),
        ("keys given twice", "? a\n: b\n"),
        ("aliases", "- *a\n"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rules.yaml");
        fs::write(&file, RULES).unwrap();
        let mut server = Ratekeeper::start_with(["--config".as_ref(), file.as_os_str()], []);
        let before = server.memory();
        let head = match name {
            "keys given twice" => "domain: d\n",
            "aliases" => "domain: &a d\ndescriptors:\n",
            _ => "domain: d\ndescriptors:\n",
        };
        let text = head.to_owned() + &line.repeat((1 << 20) / line.len());
        fs::write(&file, text).unwrap();
        server.wait_for_log("configuration rejected");
        let peak = server.peak_memory();
        assert!(
            peak - before <= MIB_OF_A_MEGABYTE,
            "{name}: {before} to {peak} MiB"
        );
        let kept = server.ask(ask("d", &["a=x"]));
        assert!(kept.is_ok(), "{name}: {kept:?}");
    }
}

#[test]
fn a_message_that_is_wrong_from_end_to_end_costs_little_memory() {
    let empty = RateLimitDescriptor::default;
    let nested = RateLimitDescriptor {
        key: "a".to_owned(),
        descriptors: vec![empty(); 1_800_000],
        ..empty()
    };
    let limits = RateLimitDescriptor {
        key: "a".to_owned(),
        more_rate_limits: vec![RateLimitPolicy::default(); 1_200_000],
        ..empty()
    };
    let wrong = (0..200_000).map(|i| RateLimitDescriptor {
        key: format!("key{i}"),
        rate_limit: Some(RateLimitPolicy {
            unit: RateLimitUnit::Unknown.into(),
            requests_per_unit: 5,
            ..RateLimitPolicy::default()
        }),
        ..empty()
    });
    for (name, descriptors, most) in [
        ("empty descriptors", vec![empty(); 1_800_000], 60),
        ("empty descriptors below another", vec![nested], 60),
        ("empty limits", vec![limits], 60),
        ("limits without a unit", wrong.collect(), 500),
    ] {
        let management = Management::start();
        let server = asking(&management);
        let session = management.session();
        session.request();
        let before = server.memory();
        let config = RateLimitConfig {
            name: "a".to_owned(),
            domain: "d".to_owned(),
            descriptors,
        };
        session.send("1", &[config]);
        let reason = session.refused("1", "");
        assert!(reason.len() < 300_000, "{name}: {}", reason.len());
        let peak = server.peak_memory();
        assert!(peak - before <= most, "{name}: {before} to {peak} MiB");
        // Another one is taken at once.
        session.accepted("2", &[]);
    }
}

// --- Logs ---

#[test]
fn a_flood_of_configurations_is_logged_in_a_few_lines() {
    let management = Management::start();
    let mut server = asking(&management);
    let session = management.session();
    session.request();
    let config = |requests_per_unit| RateLimitConfig {
        name: "a".to_owned(),
        domain: "d".to_owned(),
        descriptors: vec![RateLimitDescriptor {
            key: if requests_per_unit % 2 == 0 { "a" } else { "" }.to_owned(),
            rate_limit: Some(RateLimitPolicy {
                unit: RateLimitUnit::Year.into(),
                requests_per_unit,
                ..RateLimitPolicy::default()
            }),
            ..RateLimitDescriptor::default()
        }],
    };
    let start = Instant::now();
    for i in 0..100 {
        session.send(&i.to_string(), &[config(i)]);
        assert_eq!(session.request().error_detail.is_some(), i % 2 == 1);
    }
    let intervals = start.elapsed().as_secs() / 10 + 1;
    server.wait_for_log("logging only the latest change");
    // The end of the flood is a rejection, and the log ends with it.
    server.wait_for_log("configuration rejected");
    server.signal("TERM");
    let (_, log) = server.ended();
    let loads = log.matches("configuration loaded domains=1").count();
    let rejections = log.matches("configuration rejected").count();
    let most = 5 + 2 * usize::try_from(intervals).unwrap();
    assert!(
        loads + rejections <= most,
        "{loads} and {rejections} of {most}: {log}"
    );
    assert!(!log.contains("sent a configuration"), "{log}");
}

#[test]
fn a_flood_of_sighup_is_logged_in_a_few_lines() {
    let server = Ratekeeper::start(RULES, []);
    let start = Instant::now();
    for _ in 0..50 {
        server.signal("HUP");
        server.ask(ask("d", &["b=x"])).unwrap();
    }
    let intervals = usize::try_from(start.elapsed().as_secs() / 10 + 1).unwrap();
    server.signal("TERM");
    let (_, log) = server.ended();
    let lines = log.matches("SIGHUP received").count();
    assert!(
        (1..=intervals).contains(&lines),
        "{lines} of {intervals}: {log}"
    );
}

// --- Other files ---

#[test]
fn a_link_to_another_file_repeats_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("rules.yaml"), RULES).unwrap();
    for (name, text) in [
        (
            "shadow",
            "root:$6$s3cret$s3cret:19000:0:99999:7:::\ndaemon:*:19000:0:::\n",
        ),
        (
            "key.pem",
            "-----BEGIN PRIVATE KEY-----\ns3cretAAAA\n-----END PRIVATE KEY-----\n",
        ),
        ("values.yaml", "s3cret: a\ns3cret: b\npassword: s3cret\n"),
        ("broken", "s3cret: [a\ns3cret: \"\n"),
    ] {
        let target = directory.path().join(name);
        fs::write(&target, text).unwrap();
        let link = rules.join("link.yaml");
        let _ = fs::remove_file(&link);
        symlink(&target, &link).unwrap();
        let path = rules.to_str().unwrap();
        let mut server = Ratekeeper::start_with(["--config", path], []);
        server.wait_until_logged("no configuration is active");
        let status = server.debug().get("/api/v1/status").body;
        assert!(status.contains("link.yaml"), "{name}: {status}");
        server.signal("TERM");
        let (_, log) = server.ended();
        assert!(log.contains("link.yaml"), "{name}: {log}");
        for command in [["check", path], ["migrate", "--rules"]] {
            let more = (command[0] == "migrate").then_some(path);
            let printed = typed(command.into_iter().chain(more), []);
            let all = format!("{log}{status}{}{}", printed.stdout, printed.stderr);
            assert!(!all.contains("s3cret"), "{name}: {all}");
        }
    }
}

// --- Terminals ---

/// Names in rules and in answers that would clear the screen, color it, or forge a line.
#[test]
fn no_command_prints_control_characters() {
    const EVIL: &str = "\u{1b}[2J\u{9b}31m\u{7}\u{202e}";
    let yaml = "\\e[2J\\x9b31m\\a\\u202e";
    let rules = format!(
        "domain: \"d{yaml}\"\ndescriptors:\n- key: \"k{yaml}\"\n  rate_limit: {{unit: year, requests_per_unit: 5, name: \"n{yaml}\\nforged\"}}\n- {{key: \"u{yaml}*\", value: \"[0-9]+{yaml}\", shadow_mode: true}}\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("new.yaml"), rules.replace("unit: year", "unit: day")).unwrap();
    fs::write(at("old.yaml"), &rules).unwrap();
    fs::write(
        at("bad.yaml"),
        rules.replace("unit: year", &format!("unit: \"u{yaml}\", x{}: 1", "é")),
    )
    .unwrap();
    fs::write(
        at("bad.jsonl"),
        format!("{{\"v\": 1, \"domain\": \"d{EVIL}\"}}\n{EVIL}\n"),
    )
    .unwrap();
    fs::write(
        at("evil.env"),
        format!("REDIS_URL=a:1\nREDIS_TYPE={EVIL}\nLOG_FORMAT={EVIL}\n"),
    )
    .unwrap();
    fs::write(at("manifest.yaml"), format!("kind: \"P{yaml}\"\nmetadata: {{name: \"m{yaml}\"}}\nspec: {{containers: [{{name: \"c{yaml}\", image: x}}]}}\n")).unwrap();
    let server = Ratekeeper::start(&rules, [("RESPONSE_DYNAMIC_METADATA", "true".to_owned())]);
    let address = server.address().to_string();
    let (domain, pair) = (format!("d{EVIL}"), format!("k{EVIL}=v{EVIL}\nforged"));
    let (old, new, bad) = (at("old.yaml"), at("new.yaml"), at("bad.yaml"));
    let (lines, env, manifest) = (at("bad.jsonl"), at("evil.env"), at("manifest.yaml"));
    let rows: [&[&str]; 13] = [
        &["hit", "-a", &address, &domain, &pair],
        &["hit", "-a", &address, &domain, &pair, "--json"],
        &["hit", "-a", &address, &domain, &format!("none{EVIL}=1")],
        &["explain", "--config", &old, &domain, &pair],
        &["explain", "--config", &bad, &domain, &pair],
        &["check", &old],
        &["check", &bad],
        &["diff", &old, &new],
        &["diff", &old, &new, "--json"],
        &["migrate", "--env", &env, "--rules", &old],
        &["migrate", "--env", &env, "--rules", &bad, "--json"],
        &["migrate", "--manifest", &manifest],
        &["replay", "--config", &old, &lines],
    ];
    for row in rows {
        let printed = typed(row, []);
        let all = format!("{}{}", printed.stdout, printed.stderr);
        assert!(!all.is_empty(), "{row:?}");
        let harmful = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        assert!(!all.contains(harmful), "{row:?}: {all:?}");
        assert!(
            !all.lines().any(|line| line.starts_with("forged")),
            "{row:?}: {all}"
        );
        if row.contains(&"--json") {
            serde_json::from_str::<serde_json::Value>(&printed.stdout).unwrap();
        }
    }
    eventually("it answers", || server.ask(ask("x", &["a=b"])).is_ok());
}
