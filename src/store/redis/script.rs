//! The script that decides a batch, and the commands that load and call it.

use std::fmt;

use bb8_redis::redis::{self, Arg, Cmd, cmd};

/// Source of a script, and the hash that identifies it once it is loaded.
pub(super) struct Script {
    text: String,
    hash: String,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.hash).finish()
    }
}

impl Script {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            hash: redis::Script::new(text).get_hash().to_owned(),
        }
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns the command that loads the script.
    pub(super) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(&self.text);
        load
    }

    /// Returns `call` with the source of the script instead of its hash, for proxies that cannot load scripts.
    pub(super) fn with_text(&self, call: &Cmd) -> Cmd {
        let mut eval = cmd("EVAL");
        eval.arg(&self.text);
        for argument in call.args_iter().skip(2) {
            if let Arg::Simple(argument) = argument {
                eval.arg(argument);
            }
        }
        eval
    }
}
