//! `ratekeeper options`: prints the options of the server as Markdown tables, from the same definitions as `--help`.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::{Arg, Command};

use super::Outcome;
use super::output::stdout;
use super::ratelimit_variables::without_effect;

/// Prints the tables.
pub(super) fn run(serve: &Command) -> anyhow::Result<Outcome> {
    write!(stdout(), "{}", markdown(serve))?;
    Ok(Outcome::Done)
}

/// Tables of the options by heading, and of the variables without effect.
fn markdown(command: &Command) -> String {
    let mut text = String::new();
    let shown = |arg: &&Arg| !arg.is_hide_set() && arg.get_env().is_some();
    let mut subject = None;
    for arg in command.get_arguments().filter(shown) {
        let heading = arg.get_help_heading();
        if subject != Some(heading) {
            subject = Some(heading);
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n**{}**\n\n| variable | default | meaning |\n|---|---|---|\n",
                heading.unwrap_or("Other")
            );
        }
        let _ = writeln!(text, "{}", row(arg));
    }
    text +=
        "\n**Variables of envoyproxy/ratelimit without effect**\n\n| variable | why |\n|---|---|\n";
    for (name, why) in without_effect() {
        let _ = writeln!(text, "| `{name}` | {why} |");
    }
    text
}

fn row(arg: &Arg) -> String {
    let name = arg.get_env().unwrap_or_default().to_string_lossy();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let (help, written_default) = match help.split_once(" [default: ") {
        Some((help, default)) => (
            help.to_owned(),
            Some(default.trim_end_matches(']').to_owned()),
        ),
        None => (help, None),
    };
    let values: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    let default = match written_default {
        Some(default) => default,
        None if values.is_empty() => String::new(),
        None => format!("`{}`", values.join(" ")),
    };
    let known: Vec<_> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let known = if known.is_empty() {
        String::new()
    } else {
        format!(" ({})", known.join(", "))
    };
    format!(
        "| `{name}` | {} | {}{} |",
        cell(&default),
        cell(&help),
        known
    )
}

/// Escapes a text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
