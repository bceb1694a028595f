//! Every way to change rule files is noticed, and told once.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ratekeeper::watch::{Changes, Location, ReadError, watch};
use tempfile::TempDir;

/// Long enough for any machine; only a failing test waits for it. Yet shorter than the time after
/// which files are looked at without any event, which would hide that one was missed.
const TIMEOUT: Duration = Duration::from_secs(20);

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Writes a file, and its directories when they are missing.
fn write(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Puts a file in place in one step, as careful editors do.
fn replace(path: &Path, text: &str) {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, path).unwrap();
}

/// Lets a symbolic link lead elsewhere, in one step.
fn relink(link: &Path, target: impl AsRef<Path>) {
    let temporary = link.with_extension("tmp");
    symlink(target, &temporary).unwrap();
    fs::rename(temporary, link).unwrap();
}

fn runtime(root: &Path, ignore_dot_files: bool) -> Location {
    Location::Runtime {
        root: root.to_owned(),
        sub_directory: PathBuf::from("ratelimit"),
        app_directory: PathBuf::from("config"),
        ignore_dot_files,
        watch_root: true,
    }
}

/// The texts of the next change, in the order of names.
async fn next(changes: &mut Changes) -> Result<Vec<String>, ReadError> {
    let files = tokio::time::timeout(TIMEOUT, changes.next())
        .await
        .expect("a change is told");
    files.map(|files| files.into_iter().map(|file| file.text).collect())
}

/// Waits until the files say this. What is not exchanged in one step may be told half-way, too.
async fn until(changes: &mut Changes, expected: &[&str]) {
    loop {
        if next(changes).await.is_ok_and(|texts| texts == expected) {
            return;
        }
    }
}

/// Watches files that can be read.
fn watched(location: Location, expected: &[&str]) -> Changes {
    let (files, changes) = watch(location);
    let texts: Vec<String> = files
        .expect("files")
        .into_iter()
        .map(|file| file.text)
        .collect();
    assert_eq!(texts, expected);
    changes
}

/// A directory that Kubernetes keeps as it keeps the mounts of ConfigMaps.
struct ConfigMap {
    mount: PathBuf,
    version: u32,
}

impl ConfigMap {
    fn new(mount: PathBuf, files: &[(&str, &str)]) -> Self {
        fs::create_dir_all(&mount).unwrap();
        let mut map = Self { mount, version: 0 };
        map.publish(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), map.mount.join(name)).unwrap();
        }
        map
    }

    fn publish(&mut self, files: &[(&str, &str)]) {
        let old = self.mount.join(format!("..2026_{}", self.version));
        self.version += 1;
        let new = format!("..2026_{}", self.version);
        for (name, text) in files {
            write(self.mount.join(&new).join(name), text);
        }
        symlink(new, self.mount.join("..data_tmp")).unwrap();
        fs::rename(self.mount.join("..data_tmp"), self.mount.join("..data")).unwrap();
        let _ = fs::remove_dir_all(old);
    }
}

#[tokio::test]
async fn a_file_written_in_place_or_replaced_is_noticed() {
    let dir = temp();
    let file = dir.path().join("a.yaml");
    write(&file, "1");
    for location in [file.clone(), dir.path().to_owned()] {
        write(&file, "1");
        let mut changes = watched(Location::Path(location), &["1"]);
        write(&file, "2");
        until(&mut changes, &["2"]).await;
        replace(&file, "3");
        until(&mut changes, &["3"]).await;
        // The file is another one now, and must be watched as the first one was.
        write(&file, "4");
        until(&mut changes, &["4"]).await;
    }
}

#[tokio::test]
async fn files_and_directories_that_come_and_go_are_noticed() {
    let dir = temp();
    let mut changes = watched(Location::Path(dir.path().to_owned()), &[]);
    write(dir.path().join("b.yaml"), "b");
    until(&mut changes, &["b"]).await;
    write(dir.path().join("a/x/y/a.yaml"), "a");
    until(&mut changes, &["a", "b"]).await;
    write(dir.path().join("a/x/y/a.yaml"), "A");
    until(&mut changes, &["A", "b"]).await;
    fs::rename(dir.path().join("a"), dir.path().join("c")).unwrap();
    until(&mut changes, &["b", "A"]).await;
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    until(&mut changes, &["A"]).await;
    fs::remove_dir_all(dir.path().join("c")).unwrap();
    until(&mut changes, &[]).await;
}

#[tokio::test]
async fn a_config_map_is_swapped() {
    let dir = temp();
    let base = dir.path().join("ratelimit/config");
    let mut map = ConfigMap::new(base.clone(), &[("a.yaml", "1"), ("b.yaml", "1")]);
    let mut all = [
        watched(runtime(dir.path(), false), &["1", "1"]),
        watched(runtime(dir.path(), true), &["1", "1"]),
        watched(Location::Path(base.clone()), &["1", "1"]),
    ];
    let mut one = watched(Location::Path(base.join("a.yaml")), &["1"]);
    for text in ["2", "3", "4"] {
        map.publish(&[("a.yaml", text), ("b.yaml", text)]);
        for changes in &mut all {
            // A swap is one step, and so it must be one change: never the halves of two versions.
            assert_eq!(next(changes).await.unwrap(), [text, text]);
        }
        assert_eq!(next(&mut one).await.unwrap(), [text]);
    }
}

#[tokio::test]
async fn a_swapped_runtime_root_is_noticed() {
    let dir = temp();
    for release in ["1", "2", "3"] {
        write(
            dir.path()
                .join("releases")
                .join(release)
                .join("ratelimit/config/a.yaml"),
            release,
        );
    }
    let current = dir.path().join("current");
    symlink("releases/1", &current).unwrap();
    let mut changes = watched(runtime(&current, false), &["1"]);
    relink(&current, "releases/2");
    assert_eq!(next(&mut changes).await.unwrap(), ["2"]);
    replace(&dir.path().join("releases/2/ratelimit/config/a.yaml"), "2b");
    until(&mut changes, &["2b"]).await;
    relink(&current, dir.path().join("releases/3"));
    assert_eq!(next(&mut changes).await.unwrap(), ["3"]);
}

#[tokio::test]
async fn links_on_the_way_are_followed() {
    let dir = temp();
    write(dir.path().join("one/deep/real.yaml"), "1");
    write(dir.path().join("two/deep/real.yaml"), "2");
    symlink("one", dir.path().join("via")).unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    let link = dir.path().join("etc/rules.yaml");
    symlink("../via/deep/real.yaml", &link).unwrap();
    let mut changes = watched(Location::Path(link.clone()), &["1"]);

    relink(&dir.path().join("via"), "two");
    assert_eq!(next(&mut changes).await.unwrap(), ["2"]);
    write(dir.path().join("two/deep/real.yaml"), "2b");
    until(&mut changes, &["2b"]).await;
    relink(&link, "../one/deep/real.yaml");
    assert_eq!(next(&mut changes).await.unwrap(), ["1"]);
    // A directory on the way that is no link can be exchanged, too.
    fs::rename(dir.path().join("one"), dir.path().join("old")).unwrap();
    fs::rename(dir.path().join("two"), dir.path().join("one")).unwrap();
    until(&mut changes, &["2b"]).await;
}

#[tokio::test]
async fn a_path_that_appears_later_is_noticed() {
    let dir = temp();
    let file = dir.path().join("not/yet/there/a.yaml");
    let (files, mut changes) = watch(Location::Path(file.clone()));
    assert!(matches!(files, Err(ReadError::NotFound { .. })));
    write(&file, "1");
    until(&mut changes, &["1"]).await;
}

#[tokio::test]
async fn a_directory_removed_and_made_again_is_noticed() {
    let dir = temp();
    let rules = dir.path().join("etc/rules");
    write(rules.join("a.yaml"), "0");
    let mut changes = watched(Location::Path(rules.clone()), &["0"]);
    for text in ["1", "2", "3"] {
        fs::remove_dir_all(dir.path().join("etc")).unwrap();
        write(rules.join("a.yaml"), text);
        until(&mut changes, &[text]).await;
        write(rules.join("a.yaml"), "again");
        until(&mut changes, &["again"]).await;
    }
    fs::remove_dir_all(dir.path().join("etc")).unwrap();
    while next(&mut changes).await.is_ok() {}
    // The same text after a mistake is a change.
    write(rules.join("a.yaml"), "again");
    until(&mut changes, &["again"]).await;
}

#[tokio::test]
async fn a_file_written_through_another_name_is_noticed() {
    let dir = temp();
    write(dir.path().join("elsewhere/a"), "1");
    fs::create_dir(dir.path().join("rules")).unwrap();
    fs::hard_link(
        dir.path().join("elsewhere/a"),
        dir.path().join("rules/a.yaml"),
    )
    .unwrap();
    let mut changes = watched(Location::Path(dir.path().join("rules")), &["1"]);
    write(dir.path().join("elsewhere/a"), "2");
    until(&mut changes, &["2"]).await;
}

#[tokio::test]
async fn what_changes_no_text_is_not_told() {
    let dir = temp();
    let file = dir.path().join("a.yaml");
    write(&file, "1");
    let mut changes = watched(Location::Path(dir.path().to_owned()), &["1"]);
    for (before, after) in [("1", "2"), ("2", "3"), ("3", "4")] {
        replace(&file, before);
        fs::File::options().append(true).open(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        write(dir.path().join("notes.txt"), after);
        replace(&file, after);
        assert_eq!(next(&mut changes).await.unwrap(), [after]);
    }
}

#[tokio::test]
async fn waiting_can_be_cancelled_without_loss() {
    let dir = temp();
    let file = dir.path().join("a.yaml");
    write(&file, "0");
    let mut changes = watched(Location::Path(file.clone()), &["0"]);
    for text in ["1", "2", "3"] {
        replace(&file, text);
        tokio::select! {
            biased;
            told = changes.next() => assert_eq!(told.unwrap()[0].text, text),
            () = std::future::ready(()) => {
                assert_eq!(next(&mut changes).await.unwrap(), [text]);
            }
        }
    }
}
