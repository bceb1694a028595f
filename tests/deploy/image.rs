//! The Dockerfile, as far as can be told without building it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{deploy_tool, root, run};

#[test]
fn the_dockerfile_has_no_lint() {
    run(Command::new(deploy_tool("hadolint")).arg(root().join("Dockerfile")));
}

#[test]
fn the_image_is_static_nobodys_and_has_both_names() {
    let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let (_, last) = text.rsplit_once("\nFROM ").unwrap();
    let lines: Vec<_> = last.lines().collect();
    assert_eq!(lines[0], "scratch");
    for line in [
        "USER 65534:65534",
        "ENTRYPOINT [\"/bin/ratekeeper\"]",
        "EXPOSE 8081 8080 9090 6070",
    ] {
        assert!(lines.contains(&line), "{line} is not in {last}");
    }
    assert!(
        text.contains("ln -s ratekeeper /out/bin/ratelimit"),
        "{text}"
    );
}

/// What cargo needs must come through .dockerignore, or the build of the image fails.
#[test]
fn what_is_not_ignored_is_a_whole_package() {
    let ignore = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let context = tempfile::tempdir().unwrap();
    let kept = ignore.lines().filter_map(|line| line.strip_prefix('!'));
    for name in kept {
        copy(&root().join(name), &context.path().join(name));
    }
    // Reads the manifest and looks for the files of all its targets.
    run(Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--offline",
            "--no-deps",
            "--format-version=1",
        ])
        .current_dir(context.path()));
    let build = fs::read_to_string(root().join("build.rs")).unwrap();
    assert!(build.contains("proto"), "what else does it read?");
    assert!(context.path().join("proto").is_dir());
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}
