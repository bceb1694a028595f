//! What may depend on what: packages by their dependency lists, modules of the server by their paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::root;
use crate::tidy::texts;

/// The packages of the workspace, each with those that it depends on directly.
const PACKAGES: [(&str, &[&str]); 5] = [
    (
        "ratekeeper",
        &[
            "ratekeeper-api",
            "ratekeeper-core",
            "ratekeeper-rules",
            "ratekeeper-tools",
        ],
    ),
    ("ratekeeper-api", &[]),
    ("ratekeeper-core", &[]),
    ("ratekeeper-rules", &["ratekeeper-core"]),
    (
        "ratekeeper-tools",
        &["ratekeeper-api", "ratekeeper-core", "ratekeeper-rules"],
    ),
];

/// Packages that do no I/O, and the libraries that none of them may reach, not even through others.
const PURE: [&str; 2] = ["ratekeeper-core", "ratekeeper-rules"];
const IMPURE: [&str; 9] = [
    "hyper",
    "mio",
    "notify",
    "prometheus",
    "redis",
    "tokio",
    "tonic",
    "tracing",
    "tracing-core",
];

/// What the standard library offers that a pure package must not use.
const IMPURE_PATHS: [&str; 8] = [
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "UNIX_EPOCH",
];

/// Libraries that are used below one path only, so that their types appear nowhere else.
const CONFINED: [(&str, &[&str]); 3] = [
    ("bb8_redis::", &["src/store/redis"]),
    ("notify::", &["src/watch"]),
    ("saphyr_parser::", &["crates/rules"]),
];

/// Packages and their dependencies at run time, by name.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The dependency graph as cargo resolves it: without those of builds and tests.
fn graph() -> Graph {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs the tests, so it is there");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let mut graph = Graph::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let dependencies = graph.entry(names[&text(&node["id"])].clone()).or_default();
        for dependency in list(&node["deps"]) {
            let kinds = list(&dependency["dep_kinds"]);
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                dependencies.insert(names[&text(&dependency["pkg"])].clone());
            }
        }
    }
    graph
}

/// Everything that a package depends on, directly or through others.
fn reachable(graph: &Graph, package: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![package.to_owned()];
    while let Some(package) = next.pop() {
        for dependency in &graph[&package] {
            if found.insert(dependency.clone()) {
                next.push(dependency.clone());
            }
        }
    }
    found
}

#[test]
fn each_package_depends_on_those_below_it_only() {
    let graph = graph();
    let ours = graph.keys().filter(|name| name.starts_with("ratekeeper"));
    let packages: Vec<&str> = ours.map(String::as_str).collect();
    assert_eq!(packages, PACKAGES.map(|(name, _)| name));
    for (package, expected) in PACKAGES {
        let dependencies = graph[package].iter().map(String::as_str);
        let ours: Vec<&str> = dependencies
            .filter(|name| name.starts_with("ratekeeper"))
            .collect();
        assert_eq!(ours, expected, "{package}");
    }
}

#[test]
fn pure_packages_reach_no_library_that_does_io() {
    let graph = graph();
    for package in PURE {
        let found = reachable(&graph, package);
        let impure: Vec<_> = IMPURE
            .iter()
            .filter(|name| found.contains(**name))
            .collect();
        assert!(impure.is_empty(), "{package} reaches {impure:?}");
    }
    // The server reaches all of them: a name that is misspelled above would show here.
    let found = reachable(&graph, "ratekeeper");
    let missing: Vec<_> = IMPURE
        .iter()
        .filter(|name| !found.contains(**name))
        .collect();
    assert!(missing.is_empty(), "nothing depends on {missing:?}");
}

#[test]
fn pure_packages_use_nothing_of_the_operating_system() {
    let mut files = 0;
    for (path, text) in texts() {
        let is_pure = PURE.iter().any(|package| {
            let directory = package.trim_start_matches("ratekeeper-");
            path.starts_with(Path::new("crates").join(directory).join("src"))
        });
        if !is_pure {
            continue;
        }
        files += 1;
        for (number, line) in (1..).zip(text.lines()) {
            let found = IMPURE_PATHS.iter().find(|path| line.contains(**path));
            assert_eq!(found, None, "{}:{number}: {line}", path.display());
        }
    }
    assert!(files > 40, "only {files} files are pure");
}

#[test]
fn types_of_libraries_stay_where_they_are_confined_to() {
    for (library, places) in CONFINED {
        let mut uses = 0;
        for (path, text) in texts() {
            let is_code = path.starts_with("src") || path.starts_with("crates");
            if !is_code || !text.contains(library) {
                continue;
            }
            uses += 1;
            let path = path.display().to_string();
            let is_here = places.iter().any(|place| path.starts_with(place));
            assert!(
                is_here,
                "{path} uses {library}, which belongs to {places:?}"
            );
        }
        assert!(uses > 0, "{library} is used nowhere");
    }
}

/// Modules of the server and the modules that they use, tests left out.
fn modules() -> Graph {
    let mut graph = Graph::new();
    for (path, text) in texts() {
        let Ok(below) = path.strip_prefix("src") else {
            continue;
        };
        let is_test = below.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            name == "tests" || name == "tests.rs"
        });
        let top = below.components().next().unwrap();
        let top = Path::new(&top).file_stem().unwrap();
        let top = top.to_str().unwrap().to_owned();
        if is_test || path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let uses = lines.flat_map(|line| line.split("crate::").skip(1));
        let uses = uses.map(|rest| {
            let is_end = |character: char| !character.is_alphanumeric() && character != '_';
            rest.split(is_end).next().unwrap_or_default().to_owned()
        });
        let uses: BTreeSet<String> = uses
            .filter(|name| *name != top && !name.is_empty())
            .collect();
        graph.entry(top).or_default().extend(uses);
    }
    graph
}

/// A module that uses itself through others, if there is one.
fn circle(graph: &Graph) -> Option<&String> {
    let known: Graph = graph
        .iter()
        .map(|(module, uses)| {
            let uses = uses.iter().filter(|name| graph.contains_key(*name));
            (module.clone(), uses.cloned().collect())
        })
        .collect();
    graph
        .keys()
        .find(|module| reachable(&known, module).contains(*module))
}

#[test]
fn modules_of_the_server_form_no_circle() {
    let graph = modules();
    assert_eq!(circle(&graph), None, "{graph:#?}");
    assert!(graph["app"].contains("service"), "{graph:#?}");
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let wrong: Graph = [
        ("a".to_owned(), set(&["b", "rules"])),
        ("b".to_owned(), set(&["a"])),
    ]
    .into();
    assert_eq!(circle(&wrong), Some(&"a".to_owned()));
}

/// The arrows that would bring wire types into the core of the server, or a policy into a mechanism.
#[test]
fn modules_of_the_server_use_only_those_below_them() {
    let graph = modules();
    let forbidden = [
        (
            "store",
            &["service", "limiter", "rules", "source", "app", "cli"][..],
        ),
        (
            "limiter",
            &["service", "source", "app", "cli", "tls", "watch"],
        ),
        ("source", &["service", "limiter", "store", "app", "cli"]),
        ("service", &["app", "cli", "watch"]),
        (
            "tls",
            &[
                "service", "limiter", "rules", "source", "store", "app", "cli",
            ],
        ),
        (
            "watch",
            &[
                "service", "limiter", "rules", "source", "store", "tls", "app", "cli",
            ],
        ),
        ("clock", &["bucket", "store", "limiter"]),
        ("app", &["cli"]),
    ];
    for (module, others) in forbidden {
        let wrong: Vec<_> = others
            .iter()
            .filter(|name| graph[module].contains(**name))
            .collect();
        assert!(wrong.is_empty(), "{module} uses {wrong:?}");
    }
}
