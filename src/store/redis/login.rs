//! Credentials for a server. Passwords are never shown.

use std::path::PathBuf;
use std::{fmt, io};

use crate::secret_file;

/// A user and a password, or the file that contains them.
#[derive(Clone, PartialEq, Eq)]
pub struct Login(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    Given(Credentials),
    /// Read for each connection, so that passwords can be rotated.
    File {
        path: PathBuf,
        /// The user if the file has only a password. `None`: the default user.
        user: Option<String>,
    },
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    /// `None`: the default user.
    pub(super) user: Option<String>,
    pub(super) password: String,
}

impl Login {
    /// Creates credentials. `user` is `None` for the default user.
    #[must_use]
    pub fn new(user: Option<&str>, password: &str) -> Self {
        Self(Source::Given(Credentials {
            user: user.map(str::to_owned),
            password: password.to_owned(),
        }))
    }

    /// Parses `password` or `user:password`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(Source::Given(Credentials::parse(text)))
    }

    /// Creates credentials that are read from a file for each connection.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self(Source::File { path, user: None })
    }

    /// Sets the user for a password without one.
    #[must_use]
    pub fn with_default_user(self, user: Option<&str>) -> Self {
        let user = user.map(str::to_owned);
        Self(match self.0 {
            Source::Given(credentials) => Source::Given(credentials.with_default_user(user)),
            Source::File { path, .. } => Source::File { path, user },
        })
    }

    /// Checks that the credentials can be read.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or has more than one line.
    pub fn check(&self) -> io::Result<()> {
        self.credentials().map(|_| ())
    }

    /// Returns the current credentials.
    pub(super) fn credentials(&self) -> io::Result<Credentials> {
        let (path, user) = match &self.0 {
            Source::Given(credentials) => return Ok(credentials.clone()),
            Source::File { path, user } => (path, user),
        };
        let file = path.display();
        let text = secret_file::read(path).map_err(|error| {
            io::Error::other(format!("the password file {file} cannot be read: {error}"))
        })?;
        match text.as_str() {
            "" => Err(io::Error::other(format!(
                "the password file {file} is empty; write password or user:password into it"
            ))),
            text if text.contains('\n') => Err(io::Error::other(format!(
                "the password file {file} has more than one line; write password or user:password on the only one"
            ))),
            text => Ok(Credentials::parse(text).with_default_user(user.clone())),
        }
    }
}

impl Credentials {
    fn with_default_user(self, user: Option<String>) -> Self {
        Self {
            user: self.user.or(user),
            ..self
        }
    }

    fn parse(text: &str) -> Self {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (Some(user), password),
            None => (None, text),
        };
        Self {
            user: user.filter(|user| !user.is_empty()).map(str::to_owned),
            password: password.to_owned(),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Given(_) => f.write_str("Login(secret)"),
            Source::File { path, .. } => f.debug_tuple("Login").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_password_file_has_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, mistake) in [
            ("hush", None),
            ("hush\n", None),
            ("user:hush\r\n", None),
            ("hush\nolder", Some("more than one line")),
            ("\nhush\n", Some("more than one line")),
            ("\n", Some("is empty")),
        ] {
            fs::write(file.path(), text).unwrap();
            let found = Login::file(file.path().to_owned()).check();
            let found = found.map_err(|error| error.to_string());
            match mistake {
                None => assert_eq!(found, Ok(()), "{text:?}"),
                Some(mistake) => {
                    let found = found.unwrap_err();
                    assert!(
                        found.contains(mistake) && !found.contains("hush"),
                        "{found}"
                    );
                }
            }
        }
    }
}
