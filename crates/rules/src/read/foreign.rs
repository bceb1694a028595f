//! Detects files that are not rule files, and advises what to do with them.
//!
//! Messages quote only known words of such a file: it may contain secrets, for instance if a directory of rules contains a
//! link to another file.

use super::Reader;
use crate::yaml::{Kind, Node};

/// Keys of Envoy's configuration files, at the top or in an entry of a list at the top.
const ENVOY: [&str; 9] = [
    "actions",
    "admin",
    "http_filters",
    "rate_limit_service",
    "rate_limits",
    "resources",
    "static_resources",
    "typed_config",
    "virtual_hosts",
];

/// Keys of a limit of Limitador.
const LIMITADOR: [&str; 2] = ["namespace", "max_value"];

/// Kinds of manifests that are confused with rule files, and what to do with them.
const MANIFESTS: [(&str, &str); 4] = [
    (
        "ConfigMap",
        "check the rule files below its data, or run ratekeeper migrate --manifest on it",
    ),
    (
        "BackendTrafficPolicy",
        "Envoy Gateway makes the rules of it and sends them by xDS, so there is no file to check",
    ),
    (
        "EnvoyFilter",
        "it configures Envoy; the rules are in the ConfigMap that the rate limit service mounts",
    ),
    (
        "Limitador",
        "write each of its limits as a descriptor with a rate_limit below the domain that Envoy names",
    ),
];

const MANIFEST: &str =
    "name the rule file instead; ratekeeper migrate --manifest reads manifests of a deployment";

impl Reader<'_> {
    /// Reports the kind of a file that is not a rule file.
    pub(super) fn foreign(&mut self, document: &Node) {
        let (what, advice) = recognized(document);
        self.mistake(document.at, what, advice);
    }
}

fn recognized(document: &Node) -> (String, &'static str) {
    let is_list = matches!(document.kind, Kind::List(_));
    let has = |name: &str| value(document, name).is_some();
    if has("apiVersion") && has("kind") {
        let kind = value(document, "kind").and_then(Node::string);
        let known = MANIFESTS.iter().find(|(known, _)| kind == Some(known));
        let (kind, advice) = known.map_or((String::new(), MANIFEST), |(kind, advice)| {
            (format!(" ({kind})"), *advice)
        });
        return (
            format!("this is a Kubernetes manifest{kind}, not a rule file"),
            advice,
        );
    }
    if LIMITADOR.iter().all(|name| has(name)) {
        let advice = "write its namespace as the domain, and each limit as a descriptor with a rate_limit: unit, \
                      requests_per_unit (max_value), unit_multiplier";
        return (
            "this is a limits file of Limitador, not a rule file".to_owned(),
            advice,
        );
    }
    if ENVOY.iter().any(|name| has(name)) {
        let advice = "rate_limits and their actions stay in Envoy's routes and say which descriptors it sends; write a \
                      domain and descriptors with the same keys here";
        return (
            "this is configuration for Envoy, not a rule file".to_owned(),
            advice,
        );
    }
    match &document.kind {
        Kind::Map(_) => (
            "this is not a rule file: it has neither domain nor descriptors".to_owned(),
            "write \"domain: NAME\" and \"descriptors:\" at the top, or remove the file from among the rules",
        ),
        Kind::List(_) | Kind::Scalar(_) => {
            let kind = if is_list { "a list" } else { "a text" };
            (
                format!("the file must be a map, but is {kind}"),
                "write \"domain: NAME\" and \"descriptors:\" at the top, or remove the file from among the rules",
            )
        }
    }
}

/// Returns the value of a key of a map, or of the first map in a list.
fn value<'n>(document: &'n Node, name: &str) -> Option<&'n Node> {
    match &document.kind {
        Kind::Map(entries) => entries
            .iter()
            .find(|entry| entry.key.string() == Some(name))
            .map(|entry| &*entry.value),
        Kind::List(elements) => {
            let first = elements.first()?;
            matches!(first.kind, Kind::Map(_))
                .then(|| value(first, name))
                .flatten()
        }
        Kind::Scalar(_) => None,
    }
}
