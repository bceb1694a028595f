#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::*;

fn temp() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Writes a file, and its directories when they are missing.
fn write(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
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

/// Names (from `base` on) and texts.
fn read(location: &Location, base: &Path) -> Vec<(String, String)> {
    let files = location.read().expect("files that can be read");
    files
        .into_iter()
        .map(|file| {
            let name = Path::new(&file.name)
                .strip_prefix(base)
                .expect("a name below the base");
            (name.display().to_string(), file.text)
        })
        .collect()
}

fn names(location: &Location, base: &Path) -> Vec<String> {
    read(location, base)
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn a_file_is_read_whatever_its_name() {
    let dir = temp();
    let file = dir.path().join(".limits.conf");
    write(&file, "a");
    let files = Location::Path(file.clone()).read().unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((Path::new(&files[0].name), &*files[0].text), (&*file, "a"));
}

#[test]
fn a_directory_is_read_recursively_by_extension_and_sorted() {
    let dir = temp();
    let taken = [
        "a.yaml",
        "b.yml",
        "c.json",
        "d.YAML",
        "e/f/g.yaml",
        "h.yaml/i.yaml",
    ];
    let passed_over = [
        "j.txt",
        "README",
        ".k.yaml",
        ".l/m.yaml",
        "..data/n.yaml",
        "o.yaml~",
    ];
    for name in taken.iter().chain(&passed_over).rev() {
        write(dir.path().join(name), name);
    }
    let location = Location::Path(dir.path().to_owned());
    let expected: Vec<_> = taken
        .iter()
        .map(|name| ((*name).to_owned(), (*name).to_owned()))
        .collect();
    assert_eq!(read(&location, dir.path()), expected);
}

#[test]
fn a_runtime_directory_is_read_whatever_the_names() {
    let dir = temp();
    let base = dir.path().join("ratelimit/config");
    for name in ["a", "b.txt", "c/d", ".e", ".f/g", "..data/h", "..2026_1"] {
        write(base.join(name), "");
    }
    write(dir.path().join("ratelimit/other"), "");
    assert_eq!(
        names(&runtime(dir.path(), false), &base),
        [".e", ".f/g", "a", "b.txt", "c/d"]
    );
    assert_eq!(
        names(&runtime(dir.path(), true), &base),
        ["a", "b.txt", "c/d"]
    );
}

#[test]
fn runtime_parts_may_be_empty_or_begin_with_a_slash() {
    for (sub_directory, app_directory, top) in [
        ("", "config", "/r/config"),
        ("/a", "/b/", "/r/a/b"),
        ("a/b", "", "/r/a/b"),
    ] {
        let location = Location::Runtime {
            root: PathBuf::from("/r"),
            sub_directory: PathBuf::from(sub_directory),
            app_directory: PathBuf::from(app_directory),
            ignore_dot_files: false,
            watch_root: false,
        };
        assert_eq!(location.top(), Path::new(top));
    }
}

#[test]
fn a_config_map_is_read_once() {
    let dir = temp();
    let base = dir.path().join("ratelimit/config");
    write(base.join("..2026_1/a.yaml"), "");
    symlink("..2026_1", base.join("..data")).unwrap();
    symlink("..data/a.yaml", base.join("a.yaml")).unwrap();
    for location in [
        runtime(dir.path(), false),
        runtime(dir.path(), true),
        Location::Path(base.clone()),
    ] {
        assert_eq!(names(&location, &base), ["a.yaml"], "{location:?}");
    }
}

#[test]
fn pipes_and_sockets_are_never_opened() {
    let dir = temp();
    let pipe = dir.path().join("pipe.yaml");
    let made = Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .expect("mkfifo can be run");
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket.yaml")).unwrap();
    symlink("/dev/zero", dir.path().join("device.yaml")).unwrap();
    write(dir.path().join("rules.yaml"), "");

    assert_eq!(
        names(&Location::Path(dir.path().to_owned()), dir.path()),
        ["rules.yaml"]
    );
    let refused = Location::Path(pipe.clone()).read();
    assert_eq!(refused.unwrap_err(), ReadError::NotAFile { path: pipe });
}

#[test]
fn what_is_not_there_is_named() {
    let dir = temp();
    let real = dir.path().canonicalize().unwrap();
    let path = real.join("a/b.yaml");
    let error = Location::Path(path.clone()).read().unwrap_err();
    let text = format!(
        "{} cannot be read because {} does not exist; create it, or name another place with --config or RUNTIME_ROOT",
        path.display(),
        real.join("a").display()
    );
    assert_eq!(error.to_string(), text);

    write(real.join("file"), "");
    let path = real.join("file/b.yaml");
    let error = Location::Path(path.clone()).read().unwrap_err();
    assert_eq!(
        error,
        ReadError::NotFound {
            missing: path.clone(),
            path
        }
    );
}

#[test]
fn a_link_that_leads_to_nothing_is_named() {
    let dir = temp();
    let real = dir.path().canonicalize().unwrap();
    let path = real.join("a.yaml");
    symlink("gone/b.yaml", &path).unwrap();
    let expected = ReadError::DanglingLink {
        path: path.clone(),
        missing: real.join("gone"),
    };
    assert_eq!(Location::Path(path).read().unwrap_err(), expected);
    assert_eq!(Location::Path(real).read().unwrap_err(), expected);
}

#[test]
fn links_in_a_circle_are_named() {
    let dir = temp();
    let link = dir.path().join("a.yaml");
    symlink("a.yaml", &link).unwrap();
    let error = Location::Path(link.clone()).read().unwrap_err();
    assert_eq!(error, ReadError::LinkLoop { path: link.clone() });

    fs::remove_file(link).unwrap();
    let link = dir.path().join("b/up");
    fs::create_dir(dir.path().join("b")).unwrap();
    symlink("..", &link).unwrap();
    let error = Location::Path(dir.path().to_owned()).read().unwrap_err();
    assert_eq!(error, ReadError::LinkLoop { path: link });
}

#[test]
fn directories_that_links_multiply_are_bounded() {
    let dir = temp();
    // 30 directories, each of which contains the next one three times.
    for level in 0..30 {
        let level_dir = dir.path().join(format!("d{level}"));
        fs::create_dir(&level_dir).unwrap();
        for name in ["x", "y", "z"] {
            symlink(format!("../d{}", level + 1), level_dir.join(name)).unwrap();
        }
    }
    fs::create_dir(dir.path().join("d30")).unwrap();
    let error = Location::Path(dir.path().join("d0")).read().unwrap_err();
    assert!(matches!(error, ReadError::TooMany { .. }), "{error}");
}

#[test]
fn depth_and_size_are_bounded() {
    let dir = temp();
    let deepest: PathBuf = std::iter::repeat_n("d", MAX_DEPTH).collect();
    let location = Location::Path(dir.path().to_owned());
    write(dir.path().join(&deepest).join("a.yaml"), "");
    assert_eq!(names(&location, dir.path()).len(), 1);
    write(dir.path().join(&deepest).join("d/b.yaml"), "");
    let path = dir.path().join(deepest).join("d");
    assert_eq!(location.read().unwrap_err(), ReadError::TooDeep { path });

    let dir = temp();
    let location = Location::Path(dir.path().to_owned());
    let large = dir.path().join("b.yaml");
    fs::File::create(&large)
        .unwrap()
        .set_len(MAX_BYTES)
        .unwrap();
    assert_eq!(names(&location, dir.path()), ["b.yaml"]);
    write(dir.path().join("a.yaml"), "x");
    assert_eq!(
        location.read().unwrap_err(),
        ReadError::TooLarge { path: large }
    );
}

#[test]
fn what_is_not_text_is_refused() {
    let dir = temp();
    let path = dir.path().join("a.yaml");
    fs::write(&path, b"abc\xff").unwrap();
    let error = Location::Path(dir.path().to_owned()).read().unwrap_err();
    assert_eq!(error, ReadError::NotUtf8 { path, offset: 3 });
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_read_is_named() {
    // A regular file that fails even the superuser: nothing is mapped at address 0.
    let path = PathBuf::from("/proc/self/mem");
    let error = Location::Path(path.clone()).read().unwrap_err();
    assert!(
        matches!(&error, ReadError::Unreadable { path: named, .. } if *named == path),
        "{error}"
    );
}

#[test]
fn named_files_are_read_whatever_they_are_called_and_all_of_them() {
    let dir = temp();
    let (one, other) = (dir.path().join("..data/tls.crt"), dir.path().join(".key"));
    write(&one, "1");
    write(&other, "2");
    let location = Location::Files(vec![one.clone(), other.clone()]);
    let texts: Vec<_> = location
        .read()
        .unwrap()
        .into_iter()
        .map(|f| f.text)
        .collect();
    assert_eq!(texts, ["1", "2"]);
    fs::remove_file(&other).unwrap();
    let missing = ReadError::NotFound {
        path: other.clone(),
        missing: other.clone(),
    };
    assert_eq!(location.read(), Err(missing));
    fs::create_dir(&other).unwrap();
    assert_eq!(location.read(), Err(ReadError::NotAFile { path: other }));
}
