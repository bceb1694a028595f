//! Everything that is wrong with what was typed and set, found in one go.
//!
//! clap stops at the first option that it cannot read. Here that option is noted and left out, and the rest
//! is read again, until nothing is left that cannot be read.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;
use std::num::ParseIntError;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

/// What is wrong, a sentence each.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<String>);

impl Mistakes {
    /// Notes a sentence, once.
    pub(super) fn add(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        if !self.0.contains(&sentence) {
            self.0.push(sentence);
        }
    }

    /// The value, if there is one; otherwise why there is none is noted.
    pub(super) fn take<T>(&mut self, value: anyhow::Result<T>) -> Option<T> {
        value.map_err(|error| self.add(format!("{error:#}"))).ok()
    }

    /// The sentences.
    #[cfg(feature = "tools")]
    pub(super) fn into_sentences(self) -> Vec<String> {
        self.0
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [one] => write!(f, "error: {one}"),
            all => {
                write!(f, "error: {} options cannot be used", all.len())?;
                all.iter()
                    .try_for_each(|sentence| write!(f, "\n  {sentence}"))
            }
        }
    }
}

/// What was typed and set, as far as it can be read.
pub(super) struct Read {
    /// The values, without those that cannot be read.
    pub(super) matches: ArgMatches,
    /// Why they cannot be.
    pub(super) mistakes: Mistakes,
}

/// Reads what was typed and set.
///
/// # Errors
/// When it makes no command, or only asks for help; the mistakes are those found besides.
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
                // It cannot be left out, so nothing else can be read.
                return Err((error, mistakes));
            }
            mistakes.add(sentence(&arg, &error, is_typed));
            if !is_typed {
                command = without_variable(command, arg.get_id());
            }
        } else if error.use_stderr() && unreadable.is_none() && args.len() > 2 {
            // What was typed cannot be told apart; what was set still can.
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

/// The option whose value is wrong, if that is what the error says.
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

/// Takes an option and its value out of what was typed, and tells whether it was.
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

/// Whether the value of an option may have come from a variable.
fn is_variable(arg: &Arg) -> bool {
    arg.get_env().is_some()
}

/// The command, in which the variable of an option counts as not set.
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

/// One sentence: which option, by the name under which it was given, and what to write.
fn sentence(arg: &Arg, error: &clap::Error, is_typed: bool) -> String {
    let flag = format!("--{}", arg.get_long().unwrap_or_default());
    let variable = arg.get_env().map(|name| name.to_string_lossy());
    let name = match variable {
        Some(variable) if !is_typed => variable.into_owned(),
        _ => flag,
    };
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    // Where there is an @, a password may be before it.
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
