//! The status of the server and of its configuration.

use std::fs;

use ratekeeper::source::xds::pb::{
    RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitUnit,
};
use serde_json::{Value, json};

use super::{RULES, of, peek};
use crate::support::{Api, Management, Ratekeeper, ask, eventually, on_every_store, times};

#[test]
fn the_status_tells_of_every_store() {
    on_every_store(RULES, &[], |server, store| {
        let api = Api::of(server);
        server.ask(times(10, ask("shop", &["client=a"]))).unwrap();
        server.ask(ask("shop", &["client=a"])).unwrap();
        server.ask(ask("shop", &["nothing=a"])).unwrap();
        server.ask(ask("", &["client=a"])).unwrap_err();
        let status = api.get("/status");
        let in_memory = store == "memory";
        assert_eq!(status["healthy"], true);
        assert_eq!(
            status["store"]["kind"],
            if in_memory { "memory" } else { "redis" }
        );
        assert_eq!(
            status["store"]["buckets"],
            if in_memory { json!(1) } else { Value::Null }
        );
        assert_eq!(status["store"]["latency"].is_null(), in_memory);
        assert_eq!(status["decisions"]["ok"]["buckets"], 1, "{store}");
        assert_eq!(status["decisions"]["over_limit"]["buckets"], 1, "{store}");
        assert_eq!(status["decisions"]["ok"]["no_limit"], 1, "{store}");
        assert_eq!(status["errors"]["service"], 1, "{store}");
        assert_eq!(status["answers"]["count"], 4, "{store}");
        assert_eq!(status["source"]["kind"], "files");
        assert_eq!(status["configuration"]["rules"], 10);
    });
}

#[test]
fn mistakes_are_kept_until_a_good_configuration_comes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.yaml");
    fs::write(&file, RULES).unwrap();
    let mut server =
        Ratekeeper::start_with(["--config".as_ref(), directory.path().as_os_str()], []);
    let api = Api::of(&server);
    let first = api.get("/status")["configuration"].clone();
    let version = first["version"].as_str().unwrap();
    assert!(
        version.len() == 12 && version.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{version}"
    );
    assert_eq!(first["rejected"], Value::Null);
    fs::write(&file, RULES.replace("year", "eon")).unwrap();
    server.wait_for_log("keeping the active configuration");
    let now = api.get("/status")["configuration"].clone();
    assert_eq!(
        (&now["version"], &now["loaded_us"]),
        (&first["version"], &first["loaded_us"])
    );
    let mistakes = now["rejected"]["mistakes"].as_array().unwrap();
    assert!(
        mistakes[0].as_str().unwrap().contains("shop.yaml:4:"),
        "{mistakes:?}"
    );
    let configuration = api.get("/configuration");
    assert_eq!(configuration["rejected"], now["rejected"]);
    assert_eq!(configuration["text"], server.debug().get("/rlconfig").body);
    assert_eq!(configuration["files"][0]["rules"], 10);
    fs::write(&file, RULES.replace("year", "day")).unwrap();
    server.wait_for_log("configuration loaded");
    let now = api.get("/status")["configuration"].clone();
    assert_eq!(now["rejected"], Value::Null);
    assert_ne!(now["version"], first["version"]);
}

#[test]
fn before_there_are_rules_there_is_a_status() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bad.yaml"), "domain: [").unwrap();
    let server = Ratekeeper::start_with(["--config".as_ref(), directory.path().as_os_str()], []);
    let api = Api::of(&server);
    let status = api.get("/status");
    assert_eq!(status["healthy"], false);
    assert_eq!(status["configuration"]["version"], Value::Null);
    assert!(status["configuration"]["rejected"]["mistakes"][0].is_string());
    assert_eq!(api.get("/rules")["total"], 0);
    api.get("/configuration");
    for path in [&of("client=a"), "/explain?domain=d&descriptor=a%3Db"] {
        let (status, why) = api.ask(path);
        assert_eq!(status, 503, "{why}");
    }
}

#[test]
fn a_management_server_is_told_of() {
    let management = Management::start();
    let environment = [
        (
            "CONFIG_GRPC_XDS_SERVER_URL",
            management.address().to_string(),
        ),
        ("CONFIG_TYPE", "GRPC_XDS_SOTW".to_owned()),
    ];
    let server = Ratekeeper::start_with(Vec::<&str>::new(), environment);
    let api = Api::of(&server);
    let session = management.session();
    session.request();
    let source = api.get("/status")["source"].clone();
    assert_eq!(source["kind"], "xds");
    assert_eq!(source["origin"], management.address().to_string());
    assert_eq!(source["connected"], true);
    let config = |unit: RateLimitUnit| RateLimitConfig {
        name: "shop".to_owned(),
        domain: "shop".to_owned(),
        descriptors: vec![RateLimitDescriptor {
            key: "client".to_owned(),
            rate_limit: Some(RateLimitPolicy {
                unit: unit.into(),
                requests_per_unit: 10,
                ..RateLimitPolicy::default()
            }),
            ..RateLimitDescriptor::default()
        }],
    };
    session.accepted("v\n1", &[config(RateLimitUnit::Year)]);
    session.send("v2", &[config(RateLimitUnit::Unknown)]);
    session.refused("v2", "v\n1");
    let configuration = api.get("/status")["configuration"].clone();
    assert_eq!(configuration["version"], "v\\n1");
    let mistake = configuration["rejected"]["mistakes"][0].as_str().unwrap();
    assert!(mistake.contains("resource shop"), "{mistake}");
    assert_eq!(
        api.get("/configuration")["files"][0]["name"],
        "resource shop"
    );
    drop((session, management));
    eventually("it is told that the management server is gone", || {
        api.get("/status")["source"]["connected"] == false
    });
    assert_eq!(peek(&api, "client=a"), ["10 of 10 by buckets"]);
}
