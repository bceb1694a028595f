//! Which limit a descriptor meets: every rule of the walk through the tree, told by the limit that
//! the answer shows and by what `explain` calls the rule.

mod shared;
mod wildcards;

use ratekeeper::service::pb::rate_limit_descriptor::Entry;
use ratekeeper::service::pb::{RateLimitDescriptor, RateLimitRequest};

use crate::support::{Ratekeeper, ask, check, on_every_store, typed};

// --- Exact values, keys alone, levels ---

const TREE: &str = "
domain: shop
descriptors:
  - key: tier
    value: gold
    descriptors:
      - key: user
        rate_limit: {unit: day, requests_per_unit: 5}
      - key: user
        value: ann
        rate_limit: {unit: day, requests_per_unit: 10}
  - key: path
    rate_limit: {unit: year, requests_per_unit: 20}
  - key: path
    value: /cart
    rate_limit: {unit: year, requests_per_unit: 30}
  - key: path
    value: /health
  - key: address
    rate_limit: {unit: month, requests_per_unit: 8}
  - key: client
    rate_limit: {name: per-client, unit: week, requests_per_unit: 9}
  - key: region
    value: eu
    rate_limit: {unit: day, requests_per_unit: 15}
    descriptors:
      - key: zone
        value: a
        rate_limit: {unit: day, requests_per_unit: 25}
  - key: internal
    rate_limit: {unlimited: true}
  - key: tenant
    detailed_metric: true
    rate_limit: {unit: year, requests_per_unit: 70}
  - {key: number, value: 7, rate_limit: {unit: DAY, requests_per_unit: 3}}
  - {key: flag, value: yes, rate_limit: {unit: Day, requests_per_unit: 4}}
";

#[test]
fn the_limit_of_an_exact_path_or_of_a_key_alone_applies() {
    on_every_store(TREE, &[], |server, store| {
        let row = |descriptor, expected| {
            check(
                server,
                &format!("{descriptor} on {store}"),
                ask("shop", &[descriptor]),
                expected,
            );
        };
        row("tier=gold,user=bob", "OK: OK 4 of 5/day");
        row("tier=gold,user=ann", "OK: OK 9 of 10/day");
        row("path=/", "OK: OK 19 of 20/year");
        row("path=/cart", "OK: OK 29 of 30/year");
        row("address=192.0.2.1", "OK: OK 7 of 8/month");
        row("client=ann", "OK: OK 8 of 9/week (per-client)");
        row("region=eu", "OK: OK 14 of 15/day");
        row("region=eu,zone=a", "OK: OK 24 of 25/day");
        row("internal=x", "OK: OK unlimited");
        row("tenant=one", "OK: OK 69 of 70/year");
        row("tenant=two", "OK: OK 69 of 70/year");
        // Numbers and booleans without quotes are kept as they are written.
        row("number=7", "OK: OK 2 of 3/day");
        row("flag=yes", "OK: OK 3 of 4/day");
    });
}

#[test]
fn a_descriptor_without_a_rule_is_not_limited() {
    on_every_store(TREE, &[], |server, store| {
        let row = |why, request| check(server, &format!("{why} on {store}"), request, "OK: OK");
        let shop = |descriptor| ask("shop", &[descriptor]);
        row("an unknown domain", ask("Shop", &["path=/cart"]));
        row("no entries", shop(""));
        row("an unknown key", shop("method=GET"));
        row("a key in another case", shop("Path=/cart"));
        row("an exact value that is not there", shop("tier=silver"));
        row("a level too few", shop("tier=gold"));
        row("a level too many", shop("path=/cart,method=GET"));
        row(
            "a level too many below a key alone",
            shop("address=a,user=b"),
        );
        row("a child that is not there", shop("region=eu,zone=b"));
        row("entries in another order", shop("user=ann,tier=gold"));
        row("a child at the top", shop("user=ann"));
        row(
            "a node without rate_limit frees a value",
            shop("path=/health"),
        );
        row("another spelling of a boolean", shop("flag=true"));
    });
}

#[test]
fn an_unknown_domain_lets_every_descriptor_and_override_pass() {
    let server = Ratekeeper::start(TREE, []);
    let request = ask("nowhere", &["path=/cart x99", "path=/ limit=0/day", ""]);
    check(&server, "unknown domain", request, "OK: OK | OK | OK");
}

#[test]
fn an_empty_value_meets_the_key_alone() {
    let rules = "
domain: d
descriptors:
  - {key: a, rate_limit: {unit: year, requests_per_unit: 5}}
  - {key: b, value: '', rate_limit: {unit: year, requests_per_unit: 6}}
  - {key: c, value: x, rate_limit: {unit: year, requests_per_unit: 7}}
";
    on_every_store(rules, &[], |server, store| {
        let row = |descriptor, expected| check(server, store, ask("d", &[descriptor]), expected);
        row("a=", "OK: OK 4 of 5/year");
        // An empty value in the file is none.
        row("b=", "OK: OK 5 of 6/year");
        row("b=any", "OK: OK 5 of 6/year");
        row("c=", "OK: OK");
        // Without values they are counted apart from each other value.
        row("a=", "OK: OK 3 of 5/year");
        row("a=1", "OK: OK 4 of 5/year");
    });
}

#[test]
fn keys_and_values_are_compared_in_pairs() {
    // The reference joins key and value with an underscore and takes these for one; here they are
    // different rules and different buckets, so that no client can spend the tokens of another.
    let rules = "
domain: d
descriptors:
  - {key: a, value: b_c, rate_limit: {unit: year, requests_per_unit: 5}}
  - {key: a_b, value: c, rate_limit: {unit: year, requests_per_unit: 6}}
  - {key: k, rate_limit: {unit: year, requests_per_unit: 7}}
  - {key: k_x, rate_limit: {unit: year, requests_per_unit: 8}}
";
    on_every_store(rules, &[], |server, store| {
        let row = |descriptor, expected| check(server, store, ask("d", &[descriptor]), expected);
        row("a=b_c", "OK: OK 4 of 5/year");
        row("a_b=c", "OK: OK 5 of 6/year");
        row("k=x_y", "OK: OK 6 of 7/year");
        row("k_x=y", "OK: OK 7 of 8/year");
    });
}

#[test]
fn what_means_something_in_a_bucket_key_means_nothing_in_a_value() {
    let rules = "
domain: d
descriptors:
  - key: a
    rate_limit: {unit: year, requests_per_unit: 2}
    descriptors: [{key: b, rate_limit: {unit: year, requests_per_unit: 2}}]
";
    let values = [
        "x", "X", "x|b=y", "x#1", "x%7C", "x|", "|", "*", "{x}", "x y", "x\n", "x\0", "é",
        "e\u{301}", "\"x\"", "x=", "x\\",
    ];
    let entry = |key: &str, value: &str| Entry {
        key: key.into(),
        value: value.into(),
    };
    let request = |entries| RateLimitRequest {
        domain: "d".into(),
        descriptors: vec![RateLimitDescriptor {
            entries,
            ..RateLimitDescriptor::default()
        }],
        hits_addend: 0,
    };
    let long = "x".repeat(1_000);
    let longer = format!("{long}y");
    on_every_store(rules, &[], |server, store| {
        let first = "OK: OK 1 of 2/year";
        for value in values.into_iter().chain([long.as_str(), longer.as_str()]) {
            let row = format!("{value:?} on {store}");
            check(server, &row, request(vec![entry("a", value)]), first);
        }
        let pair = vec![entry("a", "x"), entry("b", "y")];
        check(server, store, request(pair), first);
    });
}

// --- Wildcards ---

const WILDCARDS: &str = "
domain: wild
descriptors:
  - {key: end, value: foo*, rate_limit: {unit: year, requests_per_unit: 11}}
  - {key: plain, value: foo, rate_limit: {unit: year, requests_per_unit: 12}}
  - {key: alone, rate_limit: {unit: year, requests_per_unit: 13}}
  - {key: middle, value: bar*b, rate_limit: {unit: year, requests_per_unit: 14}}
  - {key: many, value: foo*bar*baz, rate_limit: {unit: year, requests_per_unit: 15}}
  - {key: start, value: '*.png', rate_limit: {unit: year, requests_per_unit: 16}}
  - {key: any, value: '*', rate_limit: {unit: year, requests_per_unit: 17}}
  - {key: dots, value: 'a.c*', rate_limit: {unit: year, requests_per_unit: 18}}
  - {key: x-*, rate_limit: {unit: year, requests_per_unit: 19}}
  - key: order
    rate_limit: {unit: year, requests_per_unit: 21}
  - {key: order, value: a*, rate_limit: {unit: year, requests_per_unit: 22}}
  - {key: order, value: aaa*, rate_limit: {unit: year, requests_per_unit: 23}}
  - {key: order, value: aaaa, rate_limit: {unit: year, requests_per_unit: 24}}
  - key: outer
    value: one
    descriptors:
      - {key: inner, value: goo*, rate_limit: {unit: year, requests_per_unit: 25}}
  - key: stuck
    value: exact
    descriptors: [{key: only, value: this, rate_limit: {unit: year, requests_per_unit: 26}}]
  - key: stuck
    value: e*
    rate_limit: {unit: year, requests_per_unit: 27}
    descriptors: [{key: only, rate_limit: {unit: year, requests_per_unit: 28}}]
  - key: stuck
    rate_limit: {unit: year, requests_per_unit: 29}
";

// --- share_threshold ---

const SHARED: &str = "
domain: shared
descriptors:
  - {key: files, value: files/*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 100}}
  - {key: apart, value: files/*, rate_limit: {unit: year, requests_per_unit: 101}}
  - key: route
    value: api/*
    share_threshold: true
    descriptors:
      - {key: method, rate_limit: {unit: year, requests_per_unit: 102}}
  - key: service
    value: svc/*
    share_threshold: true
    descriptors:
      - {key: endpoint, value: get, detailed_metric: true, rate_limit: {unit: year, requests_per_unit: 103}}
  - key: nested
    value: parent
    descriptors:
      - {key: files, value: nested/*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 104}}
  - key: path
    value: path/*
    share_threshold: true
    descriptors:
      - key: file
        value: file/*
        descriptors: [{key: type, rate_limit: {unit: year, requests_per_unit: 105}}]
  - key: user
    value: user/*
    share_threshold: true
    descriptors:
      - {key: resource, value: res/*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 106}}
  - {key: file, value: test1, rate_limit: {unit: year, requests_per_unit: 107}}
  - {key: file, value: test*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 108}}
  - {key: midpath, value: /api*v1, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 109}}
  - {key: rpc, value: svc*ep*rpc, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 110}}
  - key: tenant
    value: t*prod
    share_threshold: true
    descriptors:
      - {key: resource, value: res*v2, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 111}}
  - {key: h-*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 112}}
";

// --- Several descriptors ---

#[test]
fn every_descriptor_is_matched_on_its_own_and_answered_in_its_place() {
    on_every_store(TREE, &[], |server, store| {
        let request = ask(
            "shop",
            &[
                "nothing=1",
                "path=/cart",
                "",
                "internal=x",
                "path=/",
                "region=eu,zone=b",
            ],
        );
        let expected = "OK: OK | OK 29 of 30/year | OK | OK unlimited | OK 19 of 20/year | OK";
        check(server, store, request, expected);
    });
}

#[test]
fn only_descriptors_with_a_limit_are_charged() {
    on_every_store(TREE, &[], |server, store| {
        let row = |expected| {
            let request = ask("shop", &["nothing=1 x99", "client=ann"]);
            check(server, store, request, expected);
        };
        row("OK: OK | OK 8 of 9/week (per-client)");
        row("OK: OK | OK 7 of 9/week (per-client)");
    });
}

// --- What rules are called ---

#[test]
fn a_rule_is_called_after_the_nodes_on_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let explain = |rules: &str, domain: &str, descriptor: &str| {
        let file = directory.path().join("rules.yaml");
        std::fs::write(&file, rules).unwrap();
        let arguments = [
            "explain",
            "--config",
            file.to_str().unwrap(),
            domain,
            descriptor,
        ];
        let printed = typed(arguments, []);
        assert_eq!(printed.code, 0, "{descriptor}: {printed:?}");
        printed.stdout
    };
    for (rules, domain, descriptor, path) in [
        (TREE, "shop", "tier=gold,user=bob", "shop.tier_gold.user"),
        (
            TREE,
            "shop",
            "tier=gold,user=ann",
            "shop.tier_gold.user_ann",
        ),
        (TREE, "shop", "path=/", "shop.path"),
        (TREE, "shop", "path=/cart", "shop.path_/cart"),
        (TREE, "shop", "region=eu,zone=a", "shop.region_eu.zone_a"),
        (TREE, "shop", "internal=x", "shop.internal"),
        (WILDCARDS, "wild", "end=foo1", "wild.end_foo*"),
        (WILDCARDS, "wild", "x-user=ann", "wild.x-*"),
        (
            WILDCARDS,
            "wild",
            "outer=one,inner=goo2",
            "wild.outer_one.inner_goo*",
        ),
        (
            SHARED,
            "shared",
            "files=files/a.pdf",
            "shared.files_files/*",
        ),
        (
            SHARED,
            "shared",
            "route=api/v1,method=GET",
            "shared.route_api/*.method",
        ),
        (
            SHARED,
            "shared",
            "path=path/a,file=file/1,type=pdf",
            "shared.path_path/*.file_file/*.type",
        ),
        (
            SHARED,
            "shared",
            "tenant=t1prod,resource=resAv2",
            "shared.tenant_t*prod.resource_res*v2",
        ),
    ] {
        let text = explain(rules, domain, descriptor);
        assert!(text.contains(&format!("rule {path} (")), "{path}:\n{text}");
    }
    for (rules, domain, descriptor) in [
        (TREE, "shop", "tier=gold"),
        (TREE, "shop", "path=/health"),
        (TREE, "nowhere", "path=/"),
        (WILDCARDS, "wild", "stuck=exact,only=that"),
    ] {
        let text = explain(rules, domain, descriptor);
        assert!(text.contains("no limit: "), "{descriptor}:\n{text}");
    }
}
