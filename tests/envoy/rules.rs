//! Fields of rules, through Envoy.

use serde_json::json;

use super::{generic_key, on_every_store, plan};
use crate::support::{Plan, Route, extension};

#[test]
fn all_limits_of_a_rule_must_admit() {
    let limits = json!([{"actions": [generic_key("twice", "x")]}]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        assert_eq!(mesh.envoy.statuses(3, "/", &[]), [200, 200, 429]);
        let reply = mesh.envoy.get("/", &[]);
        assert_eq!(
            reply.header("x-ratelimit-limit"),
            "2, 2;w=3600;name=\"hourly\""
        );
    });
}

#[test]
fn the_window_of_a_multiplied_unit_arrives() {
    let limits = json!([{"actions": [generic_key("rhythm", "x")]}]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        let reply = mesh.envoy.get("/", &[]);
        assert_eq!(
            reply.header("x-ratelimit-limit"),
            "4, 4;w=21600;name=\"rhythm\""
        );
        assert_eq!(reply.header("x-ratelimit-reset"), "5400");
    });
}

#[test]
fn a_shadow_rule_never_denies() {
    let limits = json!([{"actions": [generic_key("trial", "x")]}]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        assert_eq!(mesh.envoy.statuses(3, "/", &[]), [200; 3]);
        assert_eq!(
            mesh.envoy.get("/", &[]).header("x-ratelimit-remaining"),
            "0"
        );
    });
}

#[test]
fn a_limit_replaces_another_of_the_same_request() {
    let banned = json!({"actions": [generic_key("banned", "x")]});
    let pardoned = json!({"actions": [generic_key("pardon", "x")]});
    let plan = Plan {
        routes: vec![
            Route::new("/banned", json!([banned])),
            Route::new("/pardoned", json!([banned, pardoned])),
        ],
        ..Plan::default()
    };
    on_every_store(&[], &plan, |mesh| {
        assert_eq!(mesh.envoy.get("/banned", &[]).status, 429);
        assert_eq!(mesh.envoy.statuses(3, "/pardoned", &[]), [200, 200, 429]);
        assert_eq!(mesh.envoy.get("/banned", &[]).status, 429);
    });
}

#[test]
fn quotas_deny_when_all_of_them_are_spent() {
    let limits = json!([
        {"actions": [generic_key("quota", "small")]},
        {"actions": [generic_key("quota", "large")]},
    ]);
    on_every_store(&[], &plan("/", limits), |mesh| {
        assert_eq!(mesh.envoy.statuses(3, "/", &[]), [200, 200, 429]);
    });
}

/// Envoy can bring the limit along: from metadata of the request, or fixed in the route.
#[test]
fn limits_that_envoy_sends_override_the_configured_one() {
    let actions = json!([generic_key("plan", "free")]);
    let from_metadata = json!([{
        "actions": actions,
        "limit": {"dynamic_metadata": {"metadata_key": {"key": "account", "path": [{"key": "limit"}]}}},
    }]);
    let from_route = json!([{
        "actions": actions,
        "limit": {"rate_limit": {"requests_per_unit": 1, "unit": "DAY"}},
    }]);
    let account = extension(
        "envoy.filters.http.set_metadata",
        "envoy.extensions.filters.http.set_metadata.v3.Config",
        json!({"metadata": [{
            "metadata_namespace": "account",
            "value": {"limit": {"requests_per_unit": 4, "unit": "HOUR"}},
        }]}),
    );
    let plan = Plan {
        routes: vec![
            Route::new("/metadata", from_metadata),
            Route::new("/route", from_route),
        ],
        filters_before: vec![account],
        ..Plan::default()
    };
    on_every_store(&[], &plan, |mesh| {
        let reply = mesh.envoy.get("/metadata", &[]);
        assert_eq!(reply.header("x-ratelimit-limit"), "4, 4;w=3600");
        assert_eq!(
            mesh.envoy.statuses(4, "/metadata", &[]),
            [200, 200, 200, 429]
        );
        assert_eq!(mesh.envoy.statuses(2, "/route", &[]), [200, 429]);
    });
}
