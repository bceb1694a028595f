//! The command line: parses arguments and the environment once, and runs the command.

mod check;
mod diff;
mod explain;
#[cfg(feature = "tools")]
mod migrate;
mod mistakes;
mod option_table;
mod options;
#[cfg_attr(
    not(feature = "tools"),
    expect(dead_code, reason = "only `migrate` needs all of it")
)]
mod ratelimit_variables;
#[cfg(feature = "tools")]
mod replay;
mod serve;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use ratekeeper_tools::output;
#[cfg(feature = "tools")]
use ratekeeper_tools::{bench, hit, top};

use crate::rules;

use mistakes::Mistakes;
use output::{stderr, stdout, unless_closed};

pub use ratekeeper_tools::Outcome;

/// The end of the help text. The last example needs the feature `tools`.
const EXAMPLES: &str = if cfg!(feature = "tools") {
    "Without a command, ratekeeper runs the server (serve).\n\n\
    Try:  ratekeeper --config envoy/ratelimit.yaml\n      \
          ratekeeper explain --config envoy/ratelimit.yaml DOMAIN key=value\n      \
          ratekeeper hit DOMAIN key=value"
} else {
    "Without a command, ratekeeper runs the server (serve).\n\n\
    Try:  ratekeeper --config envoy/ratelimit.yaml\n      \
          ratekeeper explain --config envoy/ratelimit.yaml DOMAIN key=value"
};

/// A gRPC rate limit server for Envoy.
///
/// It reads the configuration of envoyproxy/ratelimit and decides with exact token buckets, which are stored
/// in memory or in a Redis that all instances share. Every option can be set with a flag or with the
/// environment variable in brackets.
#[derive(Debug, Parser)]
#[command(name = "ratekeeper", version, args_conflicts_with_subcommands = true)]
#[command(
    after_help = EXAMPLES
)]
struct Cli {
    #[command(flatten)]
    serve: serve::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: Envoy's RateLimitService over gRPC (the default command)
    Serve(Box<serve::Args>),
    /// Check configuration files and report all errors
    Check(check::Args),
    /// Show which rule and buckets apply to a descriptor, and why others do not
    Explain(explain::Args),
    #[cfg(feature = "tools")]
    /// Report what changes when a deployment of envoyproxy/ratelimit migrates to ratekeeper
    Migrate(migrate::Args),
    /// Describe what a change of the configuration means
    Diff(diff::Args),
    #[cfg(feature = "tools")]
    /// Send one request to a server and print the response
    Hit(hit::Args),
    #[cfg(feature = "tools")]
    /// Send load to a server and measure latency, throughput and CPU time
    Bench(Box<bench::Args>),
    #[cfg(feature = "tools")]
    /// Replay recorded requests against a configuration and report which are denied
    Replay(Box<replay::Args>),
    #[cfg(feature = "tools")]
    /// Monitor a running server: rates, hot buckets, denials
    Top(top::Args),
    /// Print the JSON Schema of configuration files, for editors
    Schema,
    /// Print the options of the server as a table in Markdown
    #[command(hide = true)]
    Options,
}

/// Runs the command that the arguments name.
///
/// # Errors
/// If the command fails. The error is written for the user.
pub fn run(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Outcome> {
    let args = insert_serve(args.into_iter().collect());
    let of_hit = args.get(1).is_some_and(|command| command == "hit");
    let command = without_server_variables(ignore_empty_variables(Cli::command()), &args);
    let serve = command.find_subcommand("serve").cloned();
    let (args, ignored) = match is_ratelimit(&args) {
        true => without_unknown(&command, args),
        false => (args, Vec::new()),
    };
    let read = match mistakes::read(command, &args) {
        Ok(read) => read,
        Err((error, _)) if !error.use_stderr() => {
            unless_closed(error.print(), ())?;
            return Ok(Outcome::Done);
        }
        Err((error, others)) => {
            unless_closed(error.print(), ())?;
            return print_mistakes(&others, of_hit);
        }
    };
    let cli = Cli::from_arg_matches(&read.matches)?;
    let mistakes = read.mistakes;
    match cli.command {
        None => serve::run(cli.serve, mistakes, &ignored),
        Some(Command::Serve(args)) => serve::run(*args, mistakes, &ignored),
        _ if !mistakes.is_empty() => print_mistakes(&mistakes, of_hit),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Explain(args)) => explain::run(&args),
        #[cfg(feature = "tools")]
        Some(Command::Migrate(args)) => migrate::run(&args, &server_options()),
        Some(Command::Diff(args)) => diff::run(&args),
        #[cfg(feature = "tools")]
        Some(Command::Hit(args)) => hit::run(&args),
        #[cfg(feature = "tools")]
        Some(Command::Bench(args)) => bench::run(&args),
        #[cfg(feature = "tools")]
        Some(Command::Replay(args)) => replay::run(&args),
        #[cfg(feature = "tools")]
        Some(Command::Top(args)) => top::run(&args),
        Some(Command::Schema) => {
            writeln!(stdout(), "{:#}", rules::schema())?;
            Ok(Outcome::Done)
        }
        Some(Command::Options) => option_table::run(&serve.expect("it is a command")),
    }
}

/// The options of the server, which `migrate` checks variables with.
#[cfg(feature = "tools")]
fn server_options() -> migrate::ServerOptions {
    migrate::ServerOptions {
        command: serve::command(),
        contradictions: serve::contradictions,
    }
}

/// Prints the error of a command.
pub fn print_error(error: &anyhow::Error) {
    // If this cannot be written, there is no other place to report it.
    let _ = writeln!(stderr(), "error: {error:#}");
}

/// Prints errors in options to standard error, because the log is not set up yet.
fn print_mistakes(mistakes: &Mistakes, of_hit: bool) -> anyhow::Result<Outcome> {
    if !mistakes.is_empty() {
        writeln!(stderr(), "{mistakes}")?;
    }
    Ok(Outcome::Usage { of_hit })
}

/// Whether the program was started with the name of envoyproxy/ratelimit's program.
fn is_ratelimit(args: &[OsString]) -> bool {
    let name = args.first().map(Path::new).and_then(Path::file_name);
    name.is_some_and(|name| name == "ratelimit")
}

/// Removes arguments that are not options of the server, and returns their names. envoyproxy/ratelimit ignores all
/// arguments, and existing manifests contain some.
fn without_unknown(
    command: &clap::Command,
    mut args: Vec<OsString>,
) -> (Vec<OsString>, Vec<String>) {
    let mut ignored = Vec::new();
    while let Err(error) = command.clone().try_get_matches_from(&args) {
        let is_unknown = matches!(
            error.kind(),
            ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand
        );
        let named = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand]
            .into_iter()
            .find_map(|kind| match error.get(kind) {
                Some(ContextValue::String(name)) => Some(name.clone()),
                _ => None,
            });
        let Some(name) = named.filter(|_| is_unknown) else {
            break;
        };
        let is_named = |arg: &OsString| arg.to_string_lossy().starts_with(&name);
        let Some(place) = args.iter().skip(2).position(is_named) else {
            break;
        };
        args.remove(place + 2);
        ignored.push(name);
    }
    (args, ignored)
}

/// Inserts the command `serve` if the program was started as `ratelimit`, which is only a server.
fn insert_serve(mut args: Vec<OsString>) -> Vec<OsString> {
    let is_query = |arg: &OsString| {
        ["-h", "--help", "-V", "--version"]
            .iter()
            .any(|flag| arg == flag)
    };
    if is_ratelimit(&args) && !args.get(1).is_some_and(is_query) {
        args.insert(1, "serve".into());
    }
    args
}

/// Ignores the variables of the server for other commands, which can run in the environment of a server.
fn without_server_variables(command: clap::Command, args: &[OsString]) -> clap::Command {
    let is_other = args
        .get(1)
        .is_some_and(|name| name != "serve" && command.find_subcommand(name).is_some());
    match is_other {
        true => command.mut_args(|arg| arg.env(Resettable::Reset)),
        false => command,
    }
}

/// Treats an empty variable as unset, as templates of deployments expect.
fn ignore_empty_variables(command: clap::Command) -> clap::Command {
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
        .mut_subcommands(ignore_empty_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_the_tools_if_they_are_built_in() {
        let help = Cli::command().render_long_help().to_string();
        let is_listed = |name: &str| {
            help.contains(&format!("\n  {name} ")) || help.contains(&format!("ratekeeper {name} "))
        };
        for name in ["migrate", "hit", "bench", "replay", "top"] {
            assert_eq!(is_listed(name), cfg!(feature = "tools"), "{name}: {help}");
        }
        assert!(
            ["serve", "check", "explain", "diff"]
                .into_iter()
                .all(is_listed),
            "{help}"
        );
    }
}
