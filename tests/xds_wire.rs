//! The wire of a management server, compared with one that shares no code with ours: the messages that
//! Envoy publishes, compiled by others, on another gRPC implementation.

use std::process::Command;

use ratekeeper::source::xds::TYPE_URL;
use serde_json::{Value, json};

use crate::support::{Process, Ratekeeper, ask, check, json_of, root, tool};

/// Starts `tests/wire/management.py` with snapshots, and returns its port, too.
fn management(snapshots: &Value) -> (Process, u16) {
    let script = root().join("tests/wire/management.py");
    let mut process = Process::start(
        "management.py",
        Command::new(tool("python"))
            .arg("-I")
            .arg(script)
            .arg(snapshots.to_string()),
    );
    let port = next(&mut process)["port"].as_u64().unwrap();
    (process, u16::try_from(port).unwrap())
}

/// The next line of JSON that it prints.
fn next(process: &mut Process) -> Value {
    process
        .wait_for("it printed JSON", |line| serde_json::from_str(line).ok())
        .unwrap_or_else(|ended| panic!("{}", ended.report))
}

/// Every published field, set.
fn everything() -> Value {
    let unit = |unit: &str| {
        let limit = json!({"unit": unit, "requestsPerUnit": 9});
        json!({"key": unit, "rateLimit": limit})
    };
    let units = ["SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "YEAR"];
    let mut descriptors: Vec<Value> = units.map(unit).to_vec();
    let banned = json!({"unit": "YEAR", "requestsPerUnit": 0, "name": "banned"});
    let free = json!({"unit": "YEAR", "requestsPerUnit": 2, "name": "free",
        "replaces": [{"name": "banned"}]});
    descriptors.extend([
        json!({"key": "banned", "rateLimit": banned}),
        json!({"key": "free", "value": "yes", "rateLimit": free}),
        json!({"key": "unlimited", "rateLimit": {"unlimited": true}}),
        json!({"key": "shadow", "shadowMode": true, "detailedMetric": true,
            "rateLimit": {"unit": "YEAR", "requestsPerUnit": 0}}),
        json!({"key": "top", "value": "a", "descriptors": [
            {"key": "quota", "quotaMode": true, "metadata": {"tier": "gold", "share": 0.5},
             "rateLimit": {"unit": "YEAR", "requestsPerUnit": 1}},
        ]}),
    ]);
    json!({"name": "eg", "domain": "wire", "descriptors": descriptors})
}

#[test]
fn a_management_server_of_others_is_understood() {
    let wrong =
        json!({"name": "bad", "domain": "wire", "descriptors": [{"key": "k", "rateLimit": {}}]});
    let snapshots = json!([[everything()], [wrong], []]);
    let (mut management, port) = management(&snapshots);
    let environment = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW".to_owned()),
        ("CONFIG_GRPC_XDS_SERVER_URL", format!("127.0.0.1:{port}")),
        ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit".to_owned()),
        ("CONFIG_GRPC_XDS_NODE_METADATA", "zone=a".to_owned()),
        ("RESPONSE_DYNAMIC_METADATA", "true".to_owned()),
    ];
    let server = Ratekeeper::start_with(Vec::<&str>::new(), environment);
    let node = json!({
        "id": "envoy-ratelimit",
        "metadata": {"zone": "a"},
        "userAgentName": "ratekeeper",
        "userAgentVersion": env!("CARGO_PKG_VERSION"),
    });
    assert_eq!(
        next(&mut management),
        json!({"node": node, "typeUrl": TYPE_URL})
    );

    let accepted =
        json!({"versionInfo": "v1", "node": node, "typeUrl": TYPE_URL, "responseNonce": "n1"});
    assert_eq!(next(&mut management), accepted);

    let refused = next(&mut management);
    assert_eq!(refused["versionInfo"], "v1");
    assert_eq!(refused["responseNonce"], "n2");
    assert_eq!(refused["errorDetail"]["code"], 3);
    let message = refused["errorDetail"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("resource bad: wire.k: invalid rate limit unit ''"),
        "{message}"
    );

    let accepted =
        json!({"versionInfo": "v3", "node": node, "typeUrl": TYPE_URL, "responseNonce": "n3"});
    assert_eq!(next(&mut management), accepted);
    check(&server, "empty", ask("wire", &["SECOND=a"]), "OK: OK");
}

#[test]
fn every_published_field_has_its_effect() {
    let (mut management, port) = management(&json!([[everything()]]));
    let environment = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW".to_owned()),
        ("CONFIG_GRPC_XDS_SERVER_URL", format!("127.0.0.1:{port}")),
        ("RESPONSE_DYNAMIC_METADATA", "true".to_owned()),
    ];
    let server = Ratekeeper::start_with(Vec::<&str>::new(), environment);
    next(&mut management);
    assert_eq!(next(&mut management)["versionInfo"], "v1");
    for unit in ["second", "minute", "hour", "day", "week", "month", "year"] {
        let asked = ask("wire", &[&format!("{}=a", unit.to_uppercase())]);
        check(&server, unit, asked, &format!("OK: OK 8 of 9/{unit}"));
    }
    let rows: [(&[&str], &str); 5] = [
        (&["banned=a"], "OVER: OVER 0 of 0/year (banned) never"),
        (&["banned=a", "free=yes"], "OK: OK | OK 1 of 2/year (free)"),
        (&["free=no"], "OK: OK"),
        (&["unlimited=a"], "OK: OK unlimited"),
        (&["shadow=a"], "OK: OK 0 of 0/year never"),
    ];
    for (descriptors, expected) in rows {
        check(&server, expected, ask("wire", descriptors), expected);
    }
    let quota = || ask("wire", &["top=a,quota=b", "top=a,quota=c"]);
    let answer = server.ask(quota()).unwrap();
    let metadata = json_of(&answer.dynamic_metadata.unwrap());
    assert_eq!(metadata["metadata"], json!({"tier": "gold", "share": 0.5}));
    server.ask(ask("wire", &["top=a,quota=d"])).unwrap();
    let one_is_left = ask("wire", &["top=a,quota=b", "top=a,quota=e"]);
    assert_eq!(server.ask(one_is_left).unwrap().overall_code, 1);
    assert_eq!(server.ask(quota()).unwrap().overall_code, 2);
}

#[test]
fn a_server_that_is_asked_too_often_whether_it_is_alive_says_so() {
    let (_management, port) = management(&json!([[]]));
    let environment = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW".to_owned()),
        ("CONFIG_GRPC_XDS_SERVER_URL", format!("127.0.0.1:{port}")),
        ("XDS_CLIENT_KEEPALIVE_INTERVAL", "500ms".to_owned()),
    ];
    let mut server = Ratekeeper::start_with(Vec::<&str>::new(), environment);
    server.wait_for_log("; raise XDS_CLIENT_KEEPALIVE_INTERVAL");
    assert!(server.log().contains("keeping the active configuration"));
}
