//! The rule files that a container mounts from ConfigMaps, also from projected volumes and with a subPath.

use serde_json::Value as Json;

use super::environment::Environment;
use super::files;
use super::finding::{Finding, Kind};
use super::manifest::{Container, Deployment, Objects, list};
use crate::rules::SourceFile;

/// Reads the files of ConfigMaps that are mounted where the service reads rules.
pub(super) fn read(found: &Container<'_>, objects: Objects<'_>, deployment: &mut Deployment) {
    let target = target(&deployment.environment);
    for mount in list(&found.container["volumeMounts"]) {
        let path = mount["mountPath"].as_str().unwrap_or_default();
        let path = path.trim_end_matches('/');
        if !is_within(path, &target) && !is_within(&target, path) {
            continue;
        }
        let mut volumes = list(&found.pod["volumes"]).iter();
        let volume = volumes.find(|volume| volume["name"] == mount["name"]);
        let maps = volume.map(config_maps).unwrap_or_default();
        let sub_path = mount["subPath"].as_str();
        if sub_path.is_some() && !maps.is_empty() {
            deployment.findings.push(Finding::new(
                Kind::Differs,
                format!("the mount at {path}"),
                "it has a subPath, and Kubernetes never updates such files in a running pod: mount the directory, \
                 so that changes of rules need no restart",
            ));
        }
        for map in maps {
            let name = map["name"].as_str().unwrap_or_default();
            let Some(data) = objects.config_map(&map["name"]) else {
                deployment.missing_rules.push(Finding::new(
                    Kind::ChangeFirst,
                    format!("ConfigMap {name}"),
                    "its rules are mounted, but it is not in the manifests or in another namespace: add its file with \
                     another --manifest, or set the path of the rules with --rules",
                ));
                continue;
            };
            let files = files_of(map, data).into_iter();
            let read = files.filter_map(|(file, key, text)| {
                let place = placed(path, sub_path, &file)?;
                is_within(&place, &target).then(|| SourceFile {
                    name: format!("ConfigMap {name}/{key}"),
                    text: text.to_owned(),
                })
            });
            deployment.rules.extend(read);
        }
    }
    let rules = &mut deployment.rules;
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    rules.dedup_by(|a, b| a.name == b.name);
    if rules.is_empty() && deployment.missing_rules.is_empty() {
        deployment
            .missing_rules
            .extend(no_rules_finding(&target, &deployment.environment));
    }
}

/// Path of the rules in the container.
fn target(environment: &Environment) -> String {
    let text = |name: &str, default| environment.text(name).unwrap_or(default);
    let parts = match environment.text("CONFIG_PATH") {
        Some(path) => [path, "", ""],
        None => [
            text("RUNTIME_ROOT", "/srv/runtime_data/current"),
            text("RUNTIME_SUBDIRECTORY", ""),
            text("RUNTIME_APPDIRECTORY", "config"),
        ],
    };
    let parts = parts.map(|part| part.trim_matches('/'));
    let parts = parts.iter().filter(|part| !part.is_empty());
    parts.map(|part| format!("/{part}")).collect()
}

/// Whether a path equals another one or is below it.
fn is_within(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The references to ConfigMaps in a volume.
fn config_maps(volume: &Json) -> Vec<&Json> {
    let sources = list(&volume["projected"]["sources"]).iter();
    let projected = sources.map(|source| &source["configMap"]);
    let all = [&volume["configMap"]].into_iter().chain(projected);
    all.filter(|map| map["name"].is_string()).collect()
}

/// The files of a ConfigMap in a volume.
fn files_of<'j>(
    map: &Json,
    data: &'j serde_json::Map<String, Json>,
) -> Vec<(String, &'j str, &'j str)> {
    let items = list(&map["items"]);
    let path_of = |key: &str| match items {
        [] => Some(key.to_owned()),
        items => {
            let item = items.iter().find(|item| item["key"] == key)?;
            Some(item["path"].as_str()?.trim_matches('/').to_owned())
        }
    };
    let files = data.iter();
    files
        .filter_map(|(key, text)| Some((path_of(key)?, key.as_str(), text.as_str()?)))
        .collect()
}

/// Path of a file of a volume in the container; `None` if the mount has another part of the volume.
fn placed(mount: &str, sub_path: Option<&str>, file: &str) -> Option<String> {
    let Some(sub_path) = sub_path.map(|path| path.trim_matches('/')) else {
        return Some(format!("{mount}/{file}"));
    };
    // The subPath is the file itself, or a directory of the volume.
    let rest = file.strip_prefix(sub_path)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{mount}{rest}"))
}

/// The finding if no rule file is mounted.
fn no_rules_finding(target: &str, environment: &Environment) -> Option<Finding> {
    files::of_management_server(environment).is_none().then(|| {
        let what = format!(
            "they were not checked: no ConfigMap in the manifests is mounted at {target}, where the service reads them. \
             Add its file with another --manifest, or set the path of the rules with --rules"
        );
        Finding::new(Kind::ChangeFirst, "the rules", what)
    })
}
