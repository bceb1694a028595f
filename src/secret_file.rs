//! Reads files that contain a secret. They are small, and read whenever the secret is needed, because they can change.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// Maximum size of a secret in bytes.
const MAX_BYTES: u64 = 4 << 10;

/// Returns the contents of a file, without trailing line ends.
///
/// # Errors
/// The file cannot be read, or is not a small regular file with text.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    // Reading a device or a pipe might never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!(
            "it is larger than {MAX_BYTES} bytes"
        )));
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_regular_files_are_read() {
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
            assert!(error.contains("not a regular file"), "{error}");
        }
    }
}
