//! Kubernetes manifests: the container that runs the service, its environment, and the rules that it
//! mounts.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value as Json;

use super::environment::{Environment, Value};
use super::finding::{Finding, Kind};
use crate::rules::SourceFile;
use crate::rules::yaml;

/// What is known of a deployment.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) environment: Environment,
    /// The rule files that came with it.
    pub(super) rules: Vec<SourceFile>,
    /// What is worth saying beyond its environment.
    pub(super) findings: Vec<Finding>,
}

impl Deployment {
    /// One of which only the environment is known.
    pub(super) fn new(environment: Environment) -> Self {
        Self {
            environment,
            rules: Vec::new(),
            findings: Vec::new(),
        }
    }
}

/// A container, and the pod that it is in.
struct Container<'j> {
    /// Kind and name of the object.
    owner: String,
    pod: &'j Json,
    container: &'j Json,
}

/// Reads manifests, and finds the service in them.
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
    variables(found.container, &objects, &mut environment);
    let mut deployment = Deployment::new(environment);
    mounted_rules(&found, &objects, &mut deployment);
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

/// The objects of a document: a `kubectl get` prints a list as one.
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
            "--manifest: there is no container in it; name the file with the Deployment that runs ratelimit"
        );
    }
    let is_meant = |container: &Json| match name {
        Some(name) => container["name"] == name,
        None => runs_ratelimit(container),
    };
    let known: Vec<_> = all
        .iter()
        .map(|c| format!("{} in {}", label(c.container), c.owner))
        .collect();
    let mut meant = all.into_iter().filter(|found| is_meant(found.container));
    match (meant.next(), meant.next()) {
        (Some(found), None) => Ok(found),
        (None, _) => anyhow::bail!(
            "--manifest: no container {}; name one with --container: {}",
            name.map_or("runs ratelimit".to_owned(), |name| format!(
                "is called '{name}'"
            )),
            known.join(", ")
        ),
        (Some(_), Some(_)) => anyhow::bail!(
            "--manifest: more than one container is meant; leave all but one out of the file: {}",
            known.join(", ")
        ),
    }
}

/// The containers of whatever holds pods.
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
            pod,
            container,
        })
        .collect()
}

/// By its command, or else by its image.
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

fn list(json: &Json) -> &[Json] {
    json.as_array().map(Vec::as_slice).unwrap_or_default()
}

// --- Variables ---

fn variables(container: &Json, objects: &[Json], environment: &mut Environment) {
    for source in list(&container["envFrom"]) {
        let prefix = source["prefix"].as_str().unwrap_or_default();
        let map = config_map(objects, &source["configMapRef"]["name"]);
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
            let map = config_map(objects, &reference["name"]);
            let value = map.and_then(|map| map.get(reference["key"].as_str()?));
            value.map_or(Value::Hidden, value_of)
        } else {
            value_of(&variable["value"])
        };
        environment.set(name, value);
    }
}

fn value_of(json: &Json) -> Value {
    match json {
        Json::String(text) => Value::Text(text.clone()),
        Json::Null => Value::Text(String::new()),
        other => Value::Text(other.to_string()),
    }
}

/// The contents of a ConfigMap that is among the objects.
fn config_map<'j>(objects: &'j [Json], name: &Json) -> Option<&'j serde_json::Map<String, Json>> {
    let map = objects.iter().find(|object| {
        object["kind"] == "ConfigMap" && name.is_string() && &object["metadata"]["name"] == name
    });
    map?["data"].as_object()
}

// --- Rules ---

/// The files of ConfigMaps that are mounted where the service reads rules.
fn mounted_rules(found: &Container<'_>, objects: &[Json], deployment: &mut Deployment) {
    let environment = &deployment.environment;
    let root = ["CONFIG_PATH", "RUNTIME_ROOT"]
        .iter()
        .find_map(|name| environment.text(name))
        .unwrap_or("/srv/runtime_data/current");
    let root = root.trim_end_matches('/').to_owned();
    for mount in list(&found.container["volumeMounts"]) {
        let path = mount["mountPath"].as_str().unwrap_or_default();
        let is_below = path
            .strip_prefix(&root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !is_below {
            continue;
        }
        let volumes = list(&found.pod["volumes"]);
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == mount["name"]);
        let Some(name) = volume
            .map(|volume| &volume["configMap"]["name"])
            .filter(|name| name.is_string())
        else {
            continue;
        };
        if mount["subPath"].is_string() {
            deployment.findings.push(Finding::new(
                Kind::Differs,
                format!("the mount at {path}"),
                "it has a subPath, and Kubernetes never updates such a file in a running pod: mount the directory, \
                 and changes of rules need no restart",
            ));
        }
        let only = mount["subPath"].as_str();
        match config_map(objects, name) {
            Some(files) => deployment.rules.extend(
                files
                    .iter()
                    .filter(|(file, _)| only.is_none_or(|only| only == file.as_str()))
                    .filter_map(|(file, text)| {
                        Some(SourceFile {
                            name: format!("ConfigMap {}/{file}", name.as_str()?),
                            text: text.as_str()?.to_owned(),
                        })
                    }),
            ),
            None => deployment.findings.push(Finding::new(
                Kind::ChangeFirst,
                format!("ConfigMap {}", name.as_str().unwrap_or_default()),
                "its rules are mounted, but it is not in the manifests: add its file with another --manifest, or \
                 name the rules with --rules",
            )),
        }
    }
    deployment.rules.sort_by(|a, b| a.name.cmp(&b.name));
}
