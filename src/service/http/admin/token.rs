//! The token that whoever changes something must know. Nothing here ever shows it.

use std::path::PathBuf;
use std::{fmt, io};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::secret_file;

/// The token, or where it is to be found.
#[derive(Clone)]
pub struct AdminToken(Source);

#[derive(Clone)]
enum Source {
    /// Only its hash is kept: nothing that is dumped shows it.
    Given(Hash),
    /// Read whenever somebody shows a token, so that what it says may change.
    File(PathBuf),
}

type Hash = [u8; 32];

/// Why there is no token.
#[derive(Debug, Error)]
pub enum NoToken {
    /// Nobody could send it.
    #[error(
        "the token cannot be sent in a header; use visible ASCII characters without spaces, as openssl rand -hex 32 makes them"
    )]
    Unsendable,
    /// The file cannot be read.
    #[error("the token file {file} cannot be read: {error}")]
    Unreadable {
        /// Which one.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// There is nothing in it.
    #[error("the token file {file} is empty; write the token into it")]
    Empty {
        /// Which one.
        file: String,
    },
}

impl AdminToken {
    /// This one.
    ///
    /// # Errors
    /// When nobody could send it.
    pub fn new(token: &str) -> Result<Self, NoToken> {
        Ok(Self(Source::Given(hash_of(token)?)))
    }

    /// The one that a file has whenever it is needed.
    ///
    /// # Errors
    /// When it has none now.
    pub fn file(path: PathBuf) -> Result<Self, NoToken> {
        let token = Self(Source::File(path));
        token.hash()?;
        Ok(token)
    }

    /// Whether this is it. It takes as long whatever is sent: hashes are compared, and all of them.
    pub(super) fn is(&self, sent: &[u8]) -> Result<bool, NoToken> {
        let hash: Hash = Sha256::digest(sent).into();
        Ok(hash.ct_eq(&self.hash()?).into())
    }

    fn hash(&self) -> Result<Hash, NoToken> {
        let path = match &self.0 {
            Source::Given(hash) => return Ok(*hash),
            Source::File(path) => path,
        };
        let file = path.display().to_string();
        match secret_file::read(path) {
            Err(error) => Err(NoToken::Unreadable { file, error }),
            Ok(token) if token.is_empty() => Err(NoToken::Empty { file }),
            Ok(token) => hash_of(&token),
        }
    }
}

fn hash_of(token: &str) -> Result<Hash, NoToken> {
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Sha256::digest(token).into()),
        false => Err(NoToken::Unsendable),
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Given(_) => f.write_str("AdminToken(secret)"),
            Source::File(path) => f.debug_tuple("AdminToken").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_token_is_the_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hush-hush\n").unwrap();
        let path = file.path().to_owned();
        for token in [AdminToken::new("hush-hush"), AdminToken::file(path)] {
            let token = token.unwrap();
            assert!(token.is(b"hush-hush").unwrap());
            for other in [&b"hush"[..], b"", b"hush-hush\n", b"Hush-hush"] {
                assert!(!token.is(other).unwrap());
            }
            assert!(!format!("{token:?}").contains("hush"));
        }
    }

    #[test]
    fn a_file_may_change_and_must_have_a_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "one").unwrap();
        let token = AdminToken::file(file.path().to_owned()).unwrap();
        fs::write(file.path(), "two").unwrap();
        assert!(token.is(b"two").unwrap() && !token.is(b"one").unwrap());
        for text in ["", "\n", "two words", "two\nlines"] {
            fs::write(file.path(), text).unwrap();
            let error = token.is(text.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("two"), "{error}");
        }
    }
}
