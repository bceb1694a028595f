//! Any response of a management server is loaded, or rejected with reasons.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn update(resources: Vec<Any>) -> Update {
    Update::new(DiscoveryResponse {
        type_url: TYPE_URL.to_owned(),
        resources,
        ..DiscoveryResponse::default()
    })
}

fn resource(value: Vec<u8>) -> Any {
    Any {
        type_url: TYPE_URL.to_owned(),
        value,
    }
}

fn policy() -> impl Strategy<Value = RateLimitPolicy> {
    let counts = (any::<u32>(), any::<Option<u32>>(), any::<Option<u32>>());
    let words = ("[a-z]{0,2}", "(|fixed_window|token_bucket|x)", "(|auto|x)");
    (-1..9, counts, words, any::<bool>()).prop_map(|(unit, counts, words, unlimited)| {
        RateLimitPolicy {
            unit,
            requests_per_unit: counts.0,
            burst: counts.1,
            unit_multiplier: counts.2,
            name: words.0,
            algorithm: words.1,
            hits: words.2,
            unlimited,
            ..RateLimitPolicy::default()
        }
    })
}

fn descriptor() -> impl Strategy<Value = RateLimitDescriptor> {
    let entry = || ("[ab*]{0,2}", "[ab*]{0,2}");
    let leaf = (entry(), vec(policy(), 0..3), any::<bool>()).prop_map(
        |((key, value), more_rate_limits, share_threshold)| RateLimitDescriptor {
            key,
            value,
            more_rate_limits,
            share_threshold,
            ..RateLimitDescriptor::default()
        },
    );
    leaf.prop_recursive(4, 20, 4, move |below| {
        (entry(), vec(below, 0..4)).prop_map(|((key, value), descriptors)| RateLimitDescriptor {
            key,
            value,
            descriptors,
            ..RateLimitDescriptor::default()
        })
    })
}

fn config() -> impl Strategy<Value = RateLimitConfig> {
    ("[ab]?", "[ab]?", vec(descriptor(), 0..4)).prop_map(|(name, domain, descriptors)| {
        RateLimitConfig {
            name,
            domain,
            descriptors,
        }
    })
}

fn check(update: &Update) -> Result<(), TestCaseError> {
    for merge_domains in [false, true] {
        let options = LoadOptions {
            merge_domains,
            ..LoadOptions::default()
        };
        if let Err(reason) = update.load(options) {
            prop_assert!(
                reason
                    .mistakes
                    .iter()
                    .all(|line| line.starts_with("resource ")),
                "{reason}"
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_configuration_is_loaded_or_rejected_with_reasons(configs in vec(config(), 0..4)) {
        let resources = configs.iter().map(|config| resource(config.encode_to_vec()));
        check(&update(resources.collect()))?;
    }

    #[test]
    fn no_bytes_make_loading_panic(
        config in config(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        noise in vec(any::<u8>(), 0..50),
    ) {
        let mut bent = config.encode_to_vec();
        if !bent.is_empty() {
            let at = at.index(bent.len());
            bent[at] = byte;
        }
        check(&update(vec![resource(bent), resource(noise)]))?;
    }

    #[test]
    fn the_order_of_resources_does_not_matter(configs in vec(config(), 2..4)) {
        let resources: Vec<_> =
            configs.iter().map(|config| resource(config.encode_to_vec())).collect();
        let turned: Vec<_> = resources.iter().rev().cloned().collect();
        let (one, other) = (update(resources), update(turned));
        prop_assert_eq!(fingerprint(&one.response), fingerprint(&other.response));
        let names: HashSet<_> = configs.iter().map(|c| &c.name).collect();
        if names.len() == configs.len() && !names.contains(&String::new()) {
            let rules = |update: &Update| {
                let loaded = update.load(LoadOptions::default());
                loaded.map(|set| set.rules().to_vec())
            };
            prop_assert_eq!(rules(&one), rules(&other));
        }
    }
}
