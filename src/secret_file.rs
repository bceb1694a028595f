//! Files that hold a secret: small, and read again whenever they are needed, since they may change.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// The most bytes of a secret.
const MAX_BYTES: u64 = 4 << 10;

/// What the file says, without the end of its line.
///
/// # Errors
/// When it cannot be read, or is something else than a small file of text.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    // What is no file may never end, or never begin.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!(
            "it has more than {MAX_BYTES} bytes"
        )));
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_files_hold_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        for (text, expected) in [
            ("s3cret", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            ("", ""),
            ("a\nb\n", "a\nb"),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), expected);
        }
        fs::write(&path, "x".repeat(5_000)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("4096"));
        for other in [Path::new("/dev/zero"), directory.path()] {
            let error = read(other).unwrap_err().to_string();
            assert!(error.contains("no regular file"), "{error}");
        }
    }
}
