//! Finds the container that runs the service, and its environment, in Kubernetes manifests. Paths in manifests are paths
//! in the container, so nothing but the manifests is read from this machine.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value as Json;

use super::command;
use super::environment::{Environment, Value};
use super::finding::{Finding, Kind};
use super::images;
use super::mounts;
use crate::rules::SourceFile;
use crate::rules::yaml;

/// The known parts of a deployment.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) environment: Environment,
    /// Rule files in the manifests.
    pub(super) rules: Vec<SourceFile>,
    /// Findings that are not about the environment.
    pub(super) findings: Vec<Finding>,
    /// Findings about mounted rules that are not in the manifests.
    pub(super) missing_rules: Vec<Finding>,
}

impl Deployment {
    /// A deployment of which only the environment is known.
    pub(super) fn new(environment: Environment) -> Self {
        Self {
            environment,
            rules: Vec::new(),
            findings: Vec::new(),
            missing_rules: Vec::new(),
        }
    }
}

/// A container and its pod.
pub(super) struct Container<'j> {
    /// Kind and name of the object.
    owner: String,
    /// The namespace of the object; null where it has none.
    namespace: &'j Json,
    pub(super) pod: &'j Json,
    pub(super) container: &'j Json,
}

/// The objects of all manifests, as seen from the namespace of a container.
#[derive(Clone, Copy)]
pub(super) struct Objects<'j> {
    all: &'j [Json],
    namespace: &'j Json,
}

/// Reads manifests and finds the service in them.
pub(super) fn read(paths: &[PathBuf], name: Option<&str>) -> anyhow::Result<Deployment> {
    let mut objects = Vec::new();
    for path in paths {
        let shown = path.display();
        let text = text(path).with_context(|| format!("--manifest {shown}"))?;
        let documents =
            yaml::documents(&text).map_err(|what| anyhow::anyhow!("--manifest {shown}: {what}"))?;
        objects.extend(documents.into_iter().flat_map(items));
    }
    let found = choose(&objects, name)?;
    let mut environment = Environment::new(format!(
        "{}, container {}",
        found.owner,
        label(found.container)
    ));
    let seen = Objects {
        all: &objects,
        namespace: found.namespace,
    };
    let mut findings = command::findings(found.container);
    findings.extend(variables(found.container, seen, &mut environment));
    let mut deployment = Deployment::new(environment);
    deployment.findings = findings;
    mounts::read(&found, seen, &mut deployment);
    let redis = objects.iter().flat_map(containers);
    let redis = redis.filter_map(|found| images::finding(found.container, &found.owner));
    deployment.findings.extend(redis);
    Ok(deployment)
}

fn text(path: &Path) -> std::io::Result<String> {
    if path.as_os_str() != "-" {
        return fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// The objects of a document; `kubectl get` prints a list as one document.
fn items(mut document: Json) -> Vec<Json> {
    match document.get_mut("items").map(Json::take) {
        Some(Json::Array(items)) => items,
        _ => vec![document],
    }
}

// --- Containers ---

fn choose<'j>(objects: &'j [Json], name: Option<&str>) -> anyhow::Result<Container<'j>> {
    let all: Vec<_> = objects.iter().flat_map(containers).collect();
    if all.is_empty() {
        anyhow::bail!(
            "--manifest: the files have no container; add the file with the Deployment that runs ratelimit"
        );
    }
    let is_meant = |container: &Json| match name {
        Some(name) => container["name"] == name,
        None => runs_ratelimit(container),
    };
    let names = |containers: &[Container<'_>]| -> String {
        let names = containers
            .iter()
            .map(|c| format!("{} in {}", label(c.container), c.owner));
        names.collect::<Vec<_>>().join(", ")
    };
    let known = names(&all);
    let mut meant: Vec<_> = all
        .into_iter()
        .filter(|found| is_meant(found.container))
        .collect();
    match (meant.pop(), meant.as_slice()) {
        (Some(found), []) => Ok(found),
        (None, _) => anyhow::bail!(
            "--manifest: no container {}; name one with --container: {}",
            name.map_or("runs ratelimit".to_owned(), |name| format!(
                "is called '{name}'"
            )),
            known
        ),
        (Some(last), others) => {
            let several = format!("{}, {}", names(others), names(std::slice::from_ref(&last)));
            let is_named_apart = others
                .iter()
                .all(|other| other.container["name"] != last.container["name"]);
            let advice = match is_named_apart {
                true => "name one with --container",
                false => "their names are the same, so remove all but one from the files",
            };
            anyhow::bail!("--manifest: more than one container runs ratelimit; {advice}: {several}")
        }
    }
}

/// The containers of an object that has a pod template, or is a pod.
fn containers(object: &Json) -> Vec<Container<'_>> {
    let paths = [
        "/spec/template/spec",
        "/spec/jobTemplate/spec/template/spec",
        "/spec",
    ];
    let Some(pod) = paths
        .iter()
        .filter_map(|path| object.pointer(path))
        .find(|pod| pod["containers"].is_array())
    else {
        return Vec::new();
    };
    let owner = format!(
        "{} {}",
        object["kind"].as_str().unwrap_or("object"),
        label_of(&object["metadata"])
    );
    let containers = list(&pod["containers"]).iter();
    containers
        .map(|container| Container {
            owner: owner.clone(),
            namespace: &object["metadata"]["namespace"],
            pod,
            container,
        })
        .collect()
}

/// Whether a container runs ratelimit, by its command or its image.
fn runs_ratelimit(container: &Json) -> bool {
    let words = list(&container["command"])
        .iter()
        .chain(list(&container["args"]));
    let mut programs = words.filter_map(Json::as_str);
    let image = container["image"].as_str().unwrap_or_default();
    let image = image.rsplit('/').next().unwrap_or_default();
    let is_image = |name: &str| {
        image == name
            || image.starts_with(&format!("{name}:"))
            || image.starts_with(&format!("{name}@"))
    };
    programs.any(|word| word == "ratelimit" || word.ends_with("/ratelimit"))
        || is_image("ratelimit")
        || is_image("ratekeeper")
}

fn label(container: &Json) -> &str {
    label_of(container)
}

fn label_of(named: &Json) -> &str {
    named["name"].as_str().unwrap_or("without a name")
}

pub(super) fn list(json: &Json) -> &[Json] {
    json.as_array().map(Vec::as_slice).unwrap_or_default()
}

// --- Variables ---

/// Sets the variables of a container, and returns findings about those that are not in the manifests.
fn variables(
    container: &Json,
    objects: Objects<'_>,
    environment: &mut Environment,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in list(&container["envFrom"]) {
        let prefix = source["prefix"].as_str().unwrap_or_default();
        let reference = &source["configMapRef"];
        let map = objects.config_map(&reference["name"]);
        if map.is_none() && reference["optional"] != true {
            findings.extend(missing_source(source));
        }
        for (name, value) in map.into_iter().flatten() {
            environment.set(&format!("{prefix}{name}"), value_of(value));
        }
    }
    for variable in list(&container["env"]) {
        let Some(name) = variable["name"].as_str() else {
            continue;
        };
        let source = &variable["valueFrom"];
        let value = if source.is_object() {
            let reference = &source["configMapKeyRef"];
            let map = objects.config_map(&reference["name"]);
            let value = map.and_then(|map| map.get(reference["key"].as_str()?));
            value.map_or(Value::Hidden, value_of)
        } else {
            value_of(&variable["value"])
        };
        environment.set(name, value);
    }
    findings
}

/// The finding about an entry of `envFrom` that is not in the manifests.
fn missing_source(source: &Json) -> Option<Finding> {
    let kinds = [
        (
            "ConfigMap",
            "configMapRef",
            "add its file with another --manifest",
        ),
        (
            "Secret",
            "secretRef",
            "compare its names with ratekeeper serve --help",
        ),
    ];
    kinds.into_iter().find_map(|(kind, field, advice)| {
        let name = source[field]["name"].as_str()?;
        let what = format!("its variables are set, but are not in the manifests: {advice}");
        Some(Finding::new(
            Kind::Differs,
            format!("variables of {kind} {name}"),
            what,
        ))
    })
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::String(text) => Value::Text(text.clone()),
        Json::Null => Value::Text(String::new()),
        other => Value::Text(other.to_string()),
    }
}

impl<'j> Objects<'j> {
    /// The data of a ConfigMap in the namespace of the container. An object without a namespace matches any.
    pub(super) fn config_map(self, name: &Json) -> Option<&'j serde_json::Map<String, Json>> {
        let is_here = |namespace: &Json| {
            namespace.is_null() || self.namespace.is_null() || namespace == self.namespace
        };
        let map = self.all.iter().find(|object| {
            let metadata = &object["metadata"];
            object["kind"] == "ConfigMap"
                && name.is_string()
                && &metadata["name"] == name
                && is_here(&metadata["namespace"])
        });
        map?["data"].as_object()
    }
}
