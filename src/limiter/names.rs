//! What metrics call a rule: its domain and what each level is called, joined by dots. As in
//! envoyproxy/ratelimit, so that dashboards go on working.

use super::request::Descriptor;
use crate::rules::{Match, Node};
use crate::telemetry::metrics::Dots;
use crate::text::readable;

/// The name of a rule, when it is the same for all requests: it has nothing of what they send.
pub(super) fn fixed(domain: impl AsRef<[u8]>, found: &Match<'_>, dots: Dots) -> Option<String> {
    let is_by_value = |node: &Node| {
        let shows = node.value_to_metric && is_open(node);
        !node.share_threshold && (shows || found.rule.detailed_metric)
    };
    let mut nodes = found.nodes;
    if nodes.any(is_by_value) {
        return None;
    }
    let levels = found.nodes.map(configured);
    Some(joined(domain, levels, dots))
}

/// The name of the rule that a descriptor met.
pub(super) fn of_rule(
    domain: impl AsRef<[u8]>,
    descriptor: &Descriptor,
    found: &Match<'_>,
    dots: Dots,
) -> String {
    let is_detailed = found.rule.detailed_metric;
    let levels = descriptor.entries.iter().zip(found.nodes);
    let levels = levels.map(|(entry, node)| {
        if node.share_threshold {
            configured(node)
        } else if is_detailed {
            level(entry.key.as_bytes(), entry.value.as_bytes())
        } else if node.value_to_metric && is_open(node) {
            level(node.key.as_bytes(), entry.value.as_bytes())
        } else {
            configured(node)
        }
    });
    joined(domain, levels, dots)
}

/// A level as the configuration has it.
fn configured(node: &Node) -> String {
    let value = node.value.as_deref().unwrap_or_default();
    level(node.key.as_bytes(), value.as_bytes())
}

/// The name of a limit that a request brought itself.
pub(super) fn of_override(domain: impl AsRef<[u8]>, descriptor: &Descriptor, dots: Dots) -> String {
    let entries = descriptor.entries.iter();
    let levels = entries.map(|entry| level(entry.key.as_bytes(), entry.value.as_bytes()));
    joined(domain, levels, dots)
}

/// Whether values other than the configured text lead to the node.
fn is_open(node: &Node) -> bool {
    node.value.as_ref().is_none_or(|value| value.contains('*'))
}

fn level(key: &[u8], value: &[u8]) -> String {
    let key = readable(key);
    if value.is_empty() {
        key.into_owned()
    } else {
        format!("{key}_{}", readable(value))
    }
}

fn joined(domain: impl AsRef<[u8]>, levels: impl Iterator<Item = String>, dots: Dots) -> String {
    let mut name = readable(domain.as_ref()).into_owned();
    for level in levels {
        name.push('.');
        match dots {
            Dots::Kept => name.push_str(&level),
            Dots::Replaced => name.push_str(&level.replace('.', "_")),
        }
    }
    plain(&name)
}

/// The name without what has a meaning in statsd: colons, bars, control characters, and the dots of IPv4
/// addresses (other dots separate).
fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(char) = rest.chars().next() {
        let address = address_at(rest);
        if address > 0 {
            plain.extend(
                rest[..address]
                    .chars()
                    .map(|c| if c == '.' { '_' } else { c }),
            );
            rest = &rest[address..];
            continue;
        }
        plain.push(if matches!(char, ':' | '|') || char.is_control() {
            '_'
        } else {
            char
        });
        rest = &rest[char.len_utf8()..];
    }
    plain
}

/// The length of the dotted quad that the text begins with, 0 for none.
fn address_at(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    for part in 0..4 {
        if part > 0 {
            if bytes.get(at) != Some(&b'.') {
                return 0;
            }
            at += 1;
        }
        let digits = bytes[at..]
            .iter()
            .take(3)
            .take_while(|byte| byte.is_ascii_digit());
        match digits.count() {
            0 => return 0,
            count => at += count,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::request::Entry;
    use crate::rules::{LoadOptions, RuleSet, SourceFile};

    fn descriptor(entries: &[(&str, &str)]) -> Descriptor {
        let entries = entries.iter().map(|(key, value)| Entry {
            key: (*key).into(),
            value: (*value).into(),
        });
        Descriptor {
            entries: entries.collect(),
            ..Descriptor::default()
        }
    }

    const LIMIT: &str = "rate_limit: { unit: year, requests_per_unit: 1 }";

    /// The rules of the domain `d` give that name, which is the same for all requests or not.
    fn check(descriptors: &str, entries: &[(&str, &str)], name: &str, by_value: bool) {
        let text = format!(
            "domain: d\ndescriptors: {}",
            descriptors.replace("LIMIT", LIMIT)
        );
        let file = SourceFile {
            name: "test.yaml".to_owned(),
            text,
        };
        let rules = RuleSet::load(&[file], LoadOptions::default()).unwrap();
        let domain = rules.domain("d").unwrap();
        let found = domain
            .find(entries.iter().copied())
            .expect("a rule applies");
        assert_eq!(
            of_rule("d", &descriptor(entries), &found, Dots::Kept),
            name,
            "{descriptors}"
        );
        let expected = (!by_value).then(|| name.to_owned());
        assert_eq!(fixed("d", &found, Dots::Kept), expected, "{descriptors}");
    }

    #[test]
    fn a_rule_is_called_as_it_is_configured() {
        check("[{ key: k, LIMIT }]", &[("k", "x")], "d.k", false);
        check(
            "[{ key: k, value: x, LIMIT }]",
            &[("k", "x")],
            "d.k_x",
            false,
        );
        check(
            "[{ key: k, value: x*, LIMIT }]",
            &[("k", "xy")],
            "d.k_x*",
            false,
        );
        let nested = "[{ key: a, descriptors: [{ key: b, value: c, LIMIT }] }]";
        check(nested, &[("a", "x"), ("b", "c")], "d.a.b_c", false);
    }

    #[test]
    fn a_detailed_metric_has_all_values() {
        let nested = "[{ key: a, descriptors: [{ key: b, detailed_metric: true, LIMIT }] }]";
        check(nested, &[("a", "x"), ("b", "y")], "d.a_x.b_y", true);
        check(nested, &[("a", ""), ("b", "y")], "d.a.b_y", true);
        // Only the rule's own flag counts.
        let above = "[{ key: a, detailed_metric: true, LIMIT, descriptors: [{ key: b, LIMIT }] }]";
        check(above, &[("a", "x"), ("b", "y")], "d.a.b", false);
        check(above, &[("a", "x")], "d.a_x", true);
    }

    #[test]
    fn a_level_shows_its_value_when_it_is_told_to() {
        let levels = "[{ key: route, value_to_metric: true, descriptors: \
            [{ key: method, value_to_metric: true, descriptors: [{ key: subject, LIMIT }] }] }]";
        let entries = [("route", "draw"), ("method", "GET"), ("subject", "7")];
        check(levels, &entries, "d.route_draw.method_GET.subject", true);
        let entries = [("route", ""), ("method", "GET"), ("subject", "7")];
        check(levels, &entries, "d.route.method_GET.subject", true);
        let pattern = "[{ key: action, value: read*, value_to_metric: true, LIMIT }]";
        check(
            pattern,
            &[("action", "readfile")],
            "d.action_readfile",
            true,
        );
        // There is but one value.
        let exact = "[{ key: a, value: b, value_to_metric: true, LIMIT }]";
        check(exact, &[("a", "b")], "d.a_b", false);
        let leaf = "[{ key: a, value_to_metric: true, descriptors: \
            [{ key: b, descriptors: [{ key: c, detailed_metric: true, LIMIT }] }] }]";
        check(
            leaf,
            &[("a", "x"), ("b", "y"), ("c", "z")],
            "d.a_x.b_y.c_z",
            true,
        );
    }

    #[test]
    fn what_is_shared_is_one_name() {
        let shared = |flags: &str| {
            format!("[{{ key: files, value: files/*, share_threshold: true, {flags} LIMIT }}]")
        };
        for flags in ["", "detailed_metric: true,", "value_to_metric: true,"] {
            check(
                &shared(flags),
                &[("files", "files/a.pdf")],
                "d.files_files/*",
                false,
            );
        }
        let leaf = "[{ key: service, value: svc/*, share_threshold: true, descriptors: \
            [{ key: endpoint, detailed_metric: true, LIMIT }] }]";
        let entries = [("service", "svc/user"), ("endpoint", "get")];
        check(leaf, &entries, "d.service_svc/*.endpoint_get", true);
    }

    #[test]
    fn an_override_is_called_by_what_was_asked() {
        let asked = descriptor(&[("key1", "value1"), ("subkey1", "something")]);
        let name = of_override("d", &asked, Dots::Kept);
        assert_eq!(name, "d.key1_value1.subkey1_something");
    }

    #[test]
    fn dots_of_keys_and_values_are_replaced_when_that_is_wanted() {
        let asked = descriptor(&[("host.name", "www.example.com"), ("b", "1.2.3.4:5")]);
        let named = |dots| of_override("a.domain", &asked, dots);
        assert_eq!(
            named(Dots::Kept),
            "a.domain.host.name_www.example.com.b_1_2_3_4_5"
        );
        assert_eq!(
            named(Dots::Replaced),
            "a.domain.host_name_www_example_com.b_1_2_3_4_5"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_by_their_numbers() {
        let mut asked = descriptor(&[("k", "")]);
        asked.entries[0].value = b"caf\xe9".to_vec().into();
        assert_eq!(of_override("d", &asked, Dots::Kept), "d.k_caf\\xE9");
    }

    #[test]
    fn what_statsd_would_misread_is_replaced() {
        for (name, expected) in [
            ("path_/foo:*:bar", "path_/foo_*_bar"),
            ("a|b\nc", "a_b_c"),
            (
                "masked_remote_address_0.0.0.0/0",
                "masked_remote_address_0_0_0_0/0",
            ),
            ("a_10.1.2.30.b", "a_10_1_2_30.b"),
            ("www.example.com", "www.example.com"),
            ("1.2.3", "1.2.3"),
            ("v1.2.3.4.5", "v1_2_3_4.5"),
            ("1234.1.1.1", "1234_1_1_1"),
            ("ä.1.2.3.4", "ä.1_2_3_4"),
            ("1.2.3.", "1.2.3."),
            ("", ""),
        ] {
            assert_eq!(plain(name), expected, "{name}");
        }
    }
}
