//! The token that authorizes changes through the admin API. It never appears in logs or errors.

use std::path::PathBuf;
use std::{fmt, io};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::secret_file;

/// The admin token, or the file that has it.
#[derive(Clone)]
pub(crate) struct AdminToken(Source);

#[derive(Clone)]
enum Source {
    /// Hash of the token, so that a memory dump does not contain the token.
    Value(Hash),
    /// Read for each request that changes something, so that the token can be rotated.
    File(PathBuf),
}

type Hash = [u8; 32];

/// An admin token that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum TokenError {
    /// The token cannot be the value of a header.
    #[error(
        "the token cannot be sent in a header; use visible ASCII characters without spaces, as openssl rand -hex 32 makes them"
    )]
    InvalidCharacters,
    /// The file cannot be read.
    #[error("the token file {file} cannot be read: {error}")]
    Unreadable {
        /// Path of the file.
        file: String,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The file is empty.
    #[error("the token file {file} is empty; write the token into it")]
    Empty {
        /// Path of the file.
        file: String,
    },
}

impl AdminToken {
    /// Creates a token from its value.
    ///
    /// # Errors
    /// [`TokenError::InvalidCharacters`] if the token cannot be the value of a header.
    pub(crate) fn new(token: &str) -> Result<Self, TokenError> {
        Ok(Self(Source::Value(hash_of(token)?)))
    }

    /// Creates a token that is read from a file whenever it is needed.
    ///
    /// # Errors
    /// [`TokenError`] if the file does not have a token now.
    pub(crate) fn file(path: PathBuf) -> Result<Self, TokenError> {
        let token = Self(Source::File(path));
        token.hash()?;
        Ok(token)
    }

    /// Returns whether a request sent this token. Hashes are compared in constant time, so that the duration reveals
    /// nothing.
    pub(super) fn matches(&self, sent: &[u8]) -> Result<bool, TokenError> {
        let hash: Hash = Sha256::digest(sent).into();
        Ok(hash.ct_eq(&self.hash()?).into())
    }

    fn hash(&self) -> Result<Hash, TokenError> {
        let path = match &self.0 {
            Source::Value(hash) => return Ok(*hash),
            Source::File(path) => path,
        };
        let file = path.display().to_string();
        match secret_file::read(path) {
            Err(error) => Err(TokenError::Unreadable { file, error }),
            Ok(token) if token.is_empty() => Err(TokenError::Empty { file }),
            Ok(token) => hash_of(&token),
        }
    }
}

fn hash_of(token: &str) -> Result<Hash, TokenError> {
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Sha256::digest(token).into()),
        false => Err(TokenError::InvalidCharacters),
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Value(_) => f.write_str("AdminToken(secret)"),
            Source::File(path) => f.debug_tuple("AdminToken").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_token_matches() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hush-hush\n").unwrap();
        let path = file.path().to_owned();
        for token in [AdminToken::new("hush-hush"), AdminToken::file(path)] {
            let token = token.unwrap();
            assert!(token.matches(b"hush-hush").unwrap());
            for other in [&b"hush"[..], b"", b"hush-hush\n", b"Hush-hush"] {
                assert!(!token.matches(other).unwrap());
            }
            assert!(!format!("{token:?}").contains("hush"));
        }
    }

    #[test]
    fn a_token_file_can_change_and_must_not_be_empty() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "one").unwrap();
        let token = AdminToken::file(file.path().to_owned()).unwrap();
        fs::write(file.path(), "two").unwrap();
        assert!(token.matches(b"two").unwrap() && !token.matches(b"one").unwrap());
        for text in ["", "\n", "two words", "two\nlines"] {
            fs::write(file.path(), text).unwrap();
            let error = token.matches(text.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("two"), "{error}");
        }
    }
}
