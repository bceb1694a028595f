//! Options of the admin API.

use std::path::PathBuf;

use anyhow::Context as _;

use super::super::mistakes::Mistakes;
use super::super::options::Secret;
use crate::service::AdminToken;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Admin API, on the debug port")]
pub(super) struct AdminOptions {
    /// Bearer token required to reset or set buckets through the admin API; unless set, the admin API is read-only
    #[arg(
        long,
        env = "ADMIN_TOKEN",
        value_name = "SECRET",
        hide_env_values = true
    )]
    admin_token: Option<Secret>,

    /// File with the bearer token of ADMIN_TOKEN; read for each request that needs it
    #[arg(long, env = "ADMIN_TOKEN_FILE", value_name = "PATH")]
    admin_token_file: Option<PathBuf>,

    /// Number of hot-bucket counters per worker thread and time slice; 0 disables tracking
    #[arg(
        long,
        env = "TOP_SIZE",
        value_name = "COUNT",
        default_value = "256",
        value_parser = counters
    )]
    pub(super) top_size: usize,
}

/// Maximum number of counters: each decision searches them for the smallest.
const MAX_COUNTERS: usize = 4096;

fn counters(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number <= MAX_COUNTERS);
    number.ok_or_else(|| format!("write a number from 0 to {MAX_COUNTERS}"))
}

impl AdminOptions {
    /// The token, or `None` without one or if options are invalid.
    pub(super) fn token(&self, mistakes: &mut Mistakes) -> Option<AdminToken> {
        mistakes.take(self.checked()).flatten()
    }

    fn checked(&self) -> anyhow::Result<Option<AdminToken>> {
        match (&self.admin_token, &self.admin_token_file) {
            (Some(_), Some(_)) => anyhow::bail!(
                "ADMIN_TOKEN and ADMIN_TOKEN_FILE both set the token; leave one of them out"
            ),
            (Some(token), None) => Ok(Some(
                AdminToken::new(token.reveal()).context("ADMIN_TOKEN")?,
            )),
            (None, Some(path)) => Ok(Some(
                AdminToken::file(path.clone()).context("ADMIN_TOKEN_FILE")?,
            )),
            (None, None) => Ok(None),
        }
    }
}
