//! Rules and explanations.

use std::fs;

use serde_json::{Value, json};

use super::{RULES, encoded};
use crate::support::{Api, Ratekeeper, Scrape, ask, times, typed};

#[test]
fn rules_are_listed_with_counts_that_agree_with_the_metrics() {
    let own = Scrape::environment()
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()));
    let server = Ratekeeper::start(RULES, own);
    let api = Api::of(&server);
    for (hits, descriptor) in [
        (4, "client=a"),
        (9, "client=b"),
        (20, "client=c"),
        (3, "path=/cart,user=1"),
        (2, "path=/cart,user=2"),
        (2, "tenant=x"),
        (2, "tenant=x"),
        (2, "tenant=y"),
        (1, "files=a/1/b"),
        (1, "files=a/2/b"),
    ] {
        server.ask(times(hits, ask("shop", &[descriptor]))).unwrap();
    }
    server.ask(ask("shop", &["client=a x-3"])).unwrap();
    let scrape = Scrape::of(&server);
    for (search, path, labels) in [
        ("client", "shop.client", &["key1=\"client\""][..]),
        (
            "cart",
            "shop.path_/cart.user",
            &[
                "key1=\"path_/cart\",key2=\"user_1\"",
                "key1=\"path_/cart\",key2=\"user_2\"",
            ],
        ),
        (
            "tenant",
            "shop.tenant",
            &["key1=\"tenant_x\"", "key1=\"tenant_y\""],
        ),
        ("FILES", "shop.files_a/*/b*", &["key1=\"files_a/*/b*\""]),
    ] {
        let answer = api.get(&format!("/rules?search={search}"));
        assert_eq!(answer["total"], 1, "{answer:#}");
        let rule = &answer["rules"][0];
        assert_eq!(rule["path"], path);
        let told = |end: &str| -> f64 {
            let series = labels.iter().map(|labels| {
                format!("ratelimit_service_rate_limit_{end}{{domain=\"shop\",{labels}}}")
            });
            series.map(|series| scrape.value(&series)).sum()
        };
        let hits = |name: &str| rule["hits"][name].as_f64().unwrap();
        let total = hits("within") + hits("denied");
        assert!(total > 0.0);
        assert_eq!(total, told("total_hits"), "{path}");
        for (name, end) in [
            ("within", "within_limit"),
            ("near", "near_limit"),
            ("over", "over_limit"),
            ("shadow", "shadow_mode"),
            ("remembered", "over_limit_with_local_cache"),
            ("given_back", "total_negative_hits"),
        ] {
            assert_eq!(hits(name), told(end), "{path} {name}");
        }
    }
}

#[test]
fn counts_outlive_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.yaml");
    fs::write(&file, RULES).unwrap();
    let mut server = Ratekeeper::start_with(["--config".as_ref(), file.as_os_str()], []);
    let api = Api::of(&server);
    let within = |api: &Api, search: &str| {
        api.get(&format!("/rules?search={search}"))["rules"][0]["hits"]["within"].clone()
    };
    for descriptor in ["client=a", "tenant=x", "path=/cart,user=1"] {
        server.ask(ask("shop", &[descriptor])).unwrap();
    }
    for round in 1..=2 {
        fs::write(
            &file,
            format!("{RULES}  - {{key: more{round}, rate_limit: {{unlimited: true}}}}\n"),
        )
        .unwrap();
        server.wait_for_log("configuration loaded");
        for search in ["shop.client", "tenant", "cart"] {
            assert_eq!(within(&api, search), 1, "{search}");
        }
    }
    server.ask(ask("shop", &["tenant=y"])).unwrap();
    server.ask(ask("shop", &["client=a"])).unwrap();
    assert_eq!(within(&api, "tenant"), 2);
    assert_eq!(within(&api, "shop.client"), 2);
}

#[test]
fn rules_come_in_pages() {
    let rules: String = (0..1_200)
        .map(|i| {
            format!(
                "  - {{key: k, value: v{i:04}, rate_limit: {{unit: day, requests_per_unit: 1}}}}\n"
            )
        })
        .collect();
    let server = Ratekeeper::start(&format!("domain: d\ndescriptors:\n{rules}"), []);
    let api = Api::of(&server);
    let paths = |query: &str| -> (u64, Vec<String>) {
        let answer = api.get(&format!("/rules{query}"));
        let rules = answer["rules"].as_array().unwrap();
        let paths = rules
            .iter()
            .map(|rule| rule["path"].as_str().unwrap().to_owned());
        (answer["total"].as_u64().unwrap(), paths.collect())
    };
    let (total, first) = paths("");
    assert_eq!((total, first.len()), (1_200, 500));
    let (_, last) = paths("?offset=1199&limit=1000");
    assert_eq!(last, ["d.k_v1199"]);
    assert_eq!(paths("?limit=0"), (1_200, Vec::new()));
    assert_eq!(paths("?offset=5000").1, Vec::<String>::new());
    assert_eq!(
        paths("?search=V11&limit=2"),
        (100, vec!["d.k_v1100".to_owned(), "d.k_v1101".to_owned()])
    );
}

#[test]
fn explanations_are_those_of_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.yaml");
    fs::write(&file, RULES).unwrap();
    let server = Ratekeeper::start_with(["--config".as_ref(), file.as_os_str()], []);
    let api = Api::of(&server);
    for (domain, descriptor, rule, buckets) in [
        ("shop", "both=a", json!("shop.both"), 2),
        ("shop", "files=a/x/b", json!("shop.files_a/*/b*"), 1),
        (
            "shop",
            "path=/cart,user=1",
            json!("shop.path_/cart.user"),
            1,
        ),
        ("shop", "free=1", json!("shop.free"), 0),
        ("shop", "path=/cart", Value::Null, 0),
        ("shop", "nothing=1", Value::Null, 0),
        ("elsewhere", "client=1", Value::Null, 0),
    ] {
        let answer = api.get(&format!(
            "/explain?domain={domain}&descriptor={}",
            encoded(descriptor)
        ));
        let printed = typed(
            [
                "explain",
                "--config",
                file.to_str().unwrap(),
                domain,
                descriptor,
            ],
            [],
        );
        // Only a running server knows how its rules are used.
        let text = answer["text"].as_str().unwrap();
        assert_eq!(
            text.replace("hits: auto (prepaid: no calls yet)\n", ""),
            printed.stdout
        );
        assert_eq!(text.contains("hits: auto"), buckets > 0, "{text}");
        assert_eq!(answer["rule"], rule);
        assert_eq!(answer["limits"].as_array().unwrap().len(), buckets);
    }
    let answer = api.get(&format!(
        "/explain?domain=shop&descriptor={}",
        encoded("path=/cart,uesr=1")
    ));
    assert_eq!(
        answer["descriptor"],
        json!([["path", "/cart"], ["uesr", "1"]])
    );
    let matched: Vec<_> = answer["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["matched"].clone())
        .collect();
    assert_eq!(matched, [true, false]);
}
