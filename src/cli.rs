//! The command line: what was typed (and the environment), turned into what it means, once.

mod bench;
mod check;
mod descriptor;
mod explain;
mod hit;
mod migrate;
mod options;
mod reference;
mod serve;

use std::ffi::OsString;
use std::io::{self, Write as _};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::rules;

/// What a command came to, for `main` to make an exit code of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked. Exit code 0.
    Done,
    /// The answer is no: mistakes were found. Exit code 1.
    Mistakes,
    /// The request was denied. Exit code 2.
    Denied,
    /// What was typed makes no sense. Exit code 2, but 1 for `hit`, where 2 means denied.
    Usage {
        /// Whether it was `hit` that was typed.
        of_hit: bool,
    },
}

/// A gRPC rate-limit server for Envoy.
///
/// Reads the configuration of envoyproxy/ratelimit, decides with exact token buckets, and keeps
/// them in memory or in a Redis that all instances share. Every option can be given as a flag or
/// as the environment variable named in brackets.
#[derive(Debug, Parser)]
#[command(name = "ratekeeper", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Without a command, ratekeeper serves.\n\n\
    Try:  ratekeeper --config envoy/ratelimit.yaml\n      \
          ratekeeper explain --config envoy/ratelimit.yaml DOMAIN key=value\n      \
          ratekeeper hit DOMAIN key=value")]
struct Cli {
    #[command(flatten)]
    serve: serve::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve Envoy's RateLimitService (what happens without a command, too)
    Serve(Box<serve::Args>),
    /// Read configuration files and report all mistakes
    Check(check::Args),
    /// Show which rule and buckets a descriptor meets, and why not others
    Explain(explain::Args),
    /// Tell what becomes of a deployment of envoyproxy/ratelimit that moves here
    Migrate(migrate::Args),
    /// Send one request to a server and print the verdict
    Hit(hit::Args),
    /// Put a load on a server and measure it
    Bench(Box<bench::Args>),
    /// Print a JSON Schema of configuration files, for editors
    Schema,
}

/// Runs the command that the arguments name.
///
/// # Errors
/// When the command fails; the error is for the person who typed it.
pub fn run(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Outcome> {
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = match unset_empty(Cli::command()).try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => {
            let error = naming_its_source(error, &args);
            let of_hit = args.get(1).is_some_and(|command| command == "hit");
            error.print()?;
            return Ok(if error.use_stderr() {
                Outcome::Usage { of_hit }
            } else {
                Outcome::Done
            });
        }
    };
    let cli = Cli::from_arg_matches(&matches)?;
    match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(args)) => serve::run(*args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Explain(args)) => explain::run(&args),
        Some(Command::Migrate(args)) => migrate::run(&args),
        Some(Command::Hit(args)) => hit::run(&args),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Schema) => {
            writeln!(io::stdout(), "{:#}", rules::schema())?;
            Ok(Outcome::Done)
        }
    }
}

/// The error with the name of the environment variable that its value is from, where nobody typed the
/// flag: who set a variable may not know that there are flags.
fn naming_its_source(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let flag = named.split([' ', '=', '[']).next().unwrap_or_default();
    let was_typed = args.iter().filter_map(|arg| arg.to_str()).any(|arg| {
        arg.strip_prefix(flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    let command = Cli::command();
    let variable = command
        .get_arguments()
        .chain(
            command
                .get_subcommands()
                .flat_map(clap::Command::get_arguments),
        )
        .find(|arg| arg.get_long().is_some() && arg.get_long() == flag.strip_prefix("--"))
        .and_then(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()));
    if let (false, Some(variable)) = (was_typed, variable) {
        error.insert(
            ContextKind::InvalidArg,
            ContextValue::String(format!("{variable} (or {flag})")),
        );
    }
    error
}

/// A variable that is set to nothing counts as not set, as templates of deployments expect.
fn unset_empty(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let is_empty = arg.get_env().is_some_and(|name| {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "this is where the environment is read"
                )]
                std::env::var_os(name).is_some_and(|value| value.is_empty())
            });
            if is_empty {
                arg.env(Resettable::Reset)
            } else {
                arg
            }
        })
        .mut_subcommands(unset_empty)
}
