//! What becomes of lines. That a live server's requests are recorded is tested in `tests/rehearsal.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn settings(directory: &tempfile::TempDir, max_bytes: u64) -> RecordingSettings {
    RecordingSettings {
        path: directory.path().join("requests.jsonl"),
        max_bytes,
    }
}

fn write(settings: &RecordingSettings, lines: &[&str]) {
    let mut file = RecordingFile::open(settings).unwrap();
    for line in lines {
        file.write(line.as_bytes()).unwrap();
    }
}

#[test]
fn a_file_is_appended_to_in_whole_lines_and_only_its_owner_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&directory, 1_000);
    write(&settings, &["{one\n"]);
    let mode = fs::metadata(&settings.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // As if the machine had lost power.
    fs::write(&settings.path, "{one\n{tw").unwrap();
    write(&settings, &["{three\n"]);
    assert_eq!(
        fs::read_to_string(&settings.path).unwrap(),
        "{one\n{tw\n{three\n"
    );
    // What holds something else is not touched.
    fs::write(&settings.path, "domain: shop").unwrap();
    let refused = check(&settings).unwrap_err().to_string();
    assert!(refused.contains("something else"), "{refused}");
}

#[test]
fn the_latest_lines_stay_and_the_bound_holds() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&directory, 40);
    let before = directory.path().join("requests.jsonl.1");
    // Ten bytes each, in one batch and in several.
    let lines: Vec<String> = (0..9)
        .map(|i| format!("line {i:03}\n").replace("line ", "line00"))
        .collect();
    let batch = lines[..5].concat();
    write(
        &settings,
        &[&batch, &lines[5], &lines[6], &lines[7], &lines[8]],
    );
    let read = |path| fs::read_to_string(path).unwrap();
    let (old, new) = (read(&before), read(&settings.path));
    assert!(old.len() + new.len() <= 40, "{old}{new}");
    let all = lines.concat();
    assert!(all.ends_with(&format!("{old}{new}")), "{old}{new}");
    assert!(!old.is_empty() && !new.is_empty());
}

#[test]
fn a_line_that_is_too_long_for_the_bound_has_a_file_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&directory, 8);
    write(&settings, &["a\n", "much too long\n", "b\n"]);
    assert_eq!(fs::read_to_string(&settings.path).unwrap(), "b\n");
}

#[test]
fn a_file_that_was_moved_away_is_followed_by_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&directory, 1_000);
    let mut file = RecordingFile::open(&settings).unwrap();
    file.write(b"one\n").unwrap();
    fs::rename(&settings.path, directory.path().join("taken")).unwrap();
    file.write(b"two\n").unwrap();
    assert_eq!(fs::read_to_string(&settings.path).unwrap(), "two\n");
}

#[tokio::test]
async fn a_line_that_is_longer_than_can_be_read_is_dropped_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&directory, 1 << 30);
    let recording = Recording::start(&settings).unwrap();
    let (lines, counts) = (recording.handle().lines(), recording.counts());
    for length in [1, MAX_LINE, 2] {
        lines.push(|bytes| {
            bytes.resize(bytes.len() + length, b'x');
            bytes.push(b'\n');
        });
    }
    recording.end().await;
    assert_eq!((counts.written(), counts.dropped()), (2, 1));
    assert_eq!(fs::read_to_string(&settings.path).unwrap(), "x\nxx\n");
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let recording = Recording::start(&settings(&directory, 1 << 30)).unwrap();
    let lines = recording.handle().lines();
    // The writer waits for this lock, as it does for a disk that hangs.
    let buffers = lock(&recording.shared.buffers);
    let line = vec![b'x'; MAX_WAITING / 2];
    for _ in 0..5 {
        lines.push(|bytes| {
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
        });
    }
    assert_eq!(recording.counts().dropped(), 3);
    drop(buffers);
}
