//! Finds all errors in options and variables in one run.
//!
//! clap stops at the first invalid option. This module records that error, removes the option and parses again, until no
//! invalid option is left.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;
use std::num::ParseIntError;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

/// Errors, each one sentence.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<String>);

impl Mistakes {
    /// Adds an error, unless it is already there.
    pub(super) fn add(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        if !self.0.contains(&sentence) {
            self.0.push(sentence);
        }
    }

    /// Returns the value, or adds the error and returns `None`.
    pub(super) fn take<T>(&mut self, value: anyhow::Result<T>) -> Option<T> {
        value.map_err(|error| self.add(format!("{error:#}"))).ok()
    }

    /// Returns the errors.
    #[cfg(feature = "tools")]
    pub(super) fn into_sentences(self) -> Vec<String> {
        self.0
    }

    /// Whether there are no errors.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [one] => write!(f, "error: {one}"),
            all => {
                write!(f, "error: {} options are invalid", all.len())?;
                all.iter()
                    .try_for_each(|sentence| write!(f, "\n  {sentence}"))
            }
        }
    }
}

/// The valid options, and the errors in the others.
pub(super) struct Read {
    /// Values of the valid options.
    pub(super) matches: ArgMatches,
    /// Errors in the other options.
    pub(super) mistakes: Mistakes,
}

/// Parses arguments and variables.
///
/// # Errors
/// If the arguments are not a valid command, or request help. The second part has the other errors.
pub(super) fn read(
    mut command: Command,
    args: &[OsString],
) -> Result<Read, (clap::Error, Mistakes)> {
    let mut args = args.to_vec();
    let mut mistakes = Mistakes::default();
    let mut unreadable = None;
    loop {
        let error = match command.clone().try_get_matches_from(&args) {
            Ok(matches) => match unreadable {
                None => return Ok(Read { matches, mistakes }),
                Some(error) => return Err((error, mistakes)),
            },
            Err(error) => error,
        };
        if let Some(arg) = wrong_value(&command, &error) {
            let is_typed = without(&mut args, &arg);
            if !is_typed && !is_variable(&arg) {
                // The option cannot be removed, so nothing else can be parsed.
                return Err((error, mistakes));
            }
            mistakes.add(sentence(&arg, &error, is_typed));
            if !is_typed {
                command = without_variable(command, arg.get_id());
            }
        } else if error.use_stderr() && unreadable.is_none() && args.len() > 2 {
            // The arguments cannot be parsed, but the variables still can.
            args.truncate(if command.find_subcommand(&args[1]).is_some() {
                2
            } else {
                1
            });
            unreadable = Some(error);
        } else {
            return Err((unreadable.unwrap_or(error), mistakes));
        }
    }
}

/// The option with an invalid value, if that is the error.
fn wrong_value(command: &Command, error: &clap::Error) -> Option<Arg> {
    let kinds = [
        ErrorKind::InvalidValue,
        ErrorKind::ValueValidation,
        ErrorKind::InvalidUtf8,
    ];
    if !kinds.contains(&error.kind()) {
        return None;
    }
    let named = text(error, ContextKind::InvalidArg)?;
    let flag = named.split([' ', '=', '[']).next()?;
    command
        .get_arguments()
        .chain(command.get_subcommands().flat_map(Command::get_arguments))
        .find(|arg| arg.get_long().is_some() && arg.get_long() == flag.strip_prefix("--"))
        .cloned()
}

/// Removes an option and its value from the arguments; returns whether it was there.
fn without(args: &mut Vec<OsString>, arg: &Arg) -> bool {
    let long = format!("--{}", arg.get_long().unwrap_or_default());
    let short = arg.get_short().map(|letter| format!("-{letter}"));
    let is_short = |typed: &str| {
        let short = short.as_deref();
        short.is_some_and(|short| typed.starts_with(short))
    };
    let is_option = |typed: &OsString| {
        typed.to_str().is_some_and(|typed| {
            typed == long || typed.starts_with(&format!("{long}=")) || is_short(typed)
        })
    };
    let Some(place) = args.iter().position(is_option) else {
        return false;
    };
    let is_bare = |name: &str| args[place].to_str() == Some(name);
    let is_apart = is_bare(&long) || short.as_deref().is_some_and(is_bare);
    let count = match is_apart && !arg.is_require_equals_set() {
        true => 2,
        false => 1,
    };
    args.drain(place..args.len().min(place + count));
    true
}

/// Whether the value of an option can come from a variable.
fn is_variable(arg: &Arg) -> bool {
    arg.get_env().is_some()
}

/// Makes the command ignore the variable of an option.
fn without_variable(command: Command, id: &clap::Id) -> Command {
    let forget = |arg: Arg| {
        if arg.get_id() == id {
            arg.env(Resettable::Reset)
        } else {
            arg
        }
    };
    command
        .mut_args(forget)
        .mut_subcommands(|command| command.mut_args(forget))
}

/// Formats an error: the option, by its flag or variable, and what to write.
fn sentence(arg: &Arg, error: &clap::Error, is_typed: bool) -> String {
    let flag = format!("--{}", arg.get_long().unwrap_or_default());
    let variable = arg.get_env().map(|name| name.to_string_lossy());
    let name = match variable {
        Some(variable) if !is_typed => variable.into_owned(),
        _ => flag,
    };
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    // A value with @ can contain a password.
    let is_secret = arg.is_hide_env_values_set() || value.contains('@');
    let given = if value.is_empty() || is_secret {
        name
    } else {
        format!("{name}={value}")
    };
    let why = match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(why), _) if why.is::<ParseIntError>() => "write a whole number".to_owned(),
        (Some(why), _) => why.to_string(),
        (None, Some(ContextValue::Strings(known))) if !known.is_empty() => {
            format!("write {}", known.join(" or "))
        }
        _ if error.kind() == ErrorKind::InvalidUtf8 => "write it as UTF-8".to_owned(),
        _ => "write a value".to_owned(),
    };
    format!("{given}: {why}")
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}
