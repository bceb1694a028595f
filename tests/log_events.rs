//! Log events: docs/log-events.md lists every event of the source with its level and fields, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::root;
use crate::tidy::texts;

/// Sources whose events get their message from a variable, and the messages that it can have.
const VARIABLE_MESSAGES: &[(&str, &[&str])] = &[
    (
        "src/store/fallback/prober/outage.rs",
        &[
            "redis unavailable, applying failure policy",
            "redis still unavailable, with another error",
            "redis answers probes but fails requests, applying failure policy",
            "redis available again",
            "cluster node unavailable, applying failure policy",
            "cluster node still unavailable, with another error",
            "cluster node answers probes but fails requests, applying failure policy",
            "cluster node available again",
        ],
    ),
    (
        "src/tls/rotation.rs",
        &["certificates loaded", "certificates replaced"],
    ),
];

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Events by message: their levels and fields.
type Events = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

/// A piece of source code after its opening parenthesis, up to the one that closes it, split at commas of the outermost level.
fn arguments(code: &str) -> Vec<String> {
    let mut arguments = vec![String::new()];
    let (mut depth, mut is_string, mut is_escaped) = (0, false, false);
    for character in code.chars() {
        if is_string {
            is_string = is_escaped || character != '"';
            is_escaped = !is_escaped && character == '\\';
        } else {
            match character {
                '"' => is_string = true,
                '(' | '[' | '{' => depth += 1,
                ')' if depth == 0 => break,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    arguments.push(String::new());
                    continue;
                }
                _ => {}
            }
        }
        arguments.last_mut().unwrap().push(character);
    }
    let trimmed = arguments.iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// A message with `{}` for each placeholder, without what follows in further lines.
fn message(literal: &str) -> String {
    let text = literal.trim_matches('"');
    let first = text.split("\\n").next().unwrap();
    // A backslash at the end of a line continues the string after the indentation of the next one.
    let mut parts = first.split("\\\n");
    let mut joined = parts.next().unwrap().to_owned();
    for part in parts {
        joined += part.trim_start();
    }
    let mut message = String::new();
    let mut depth = 0;
    for character in joined.replace("\\\"", "\"").chars() {
        match character {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                message.push_str("{}");
            }
            _ if depth == 0 => message.push(character),
            _ => {}
        }
    }
    message
}

/// The name of a field, as in `name = value`, `%name` or `name`.
fn field(argument: &str) -> String {
    let name = argument.split(" = ").next().unwrap();
    name.trim_start_matches(['%', '?']).to_owned()
}

/// The events of a source, and how many of them have a variable as their message.
fn events_of(code: &str, events: &mut Events) -> usize {
    let mut variable = 0;
    for level in LEVELS {
        let call = format!("{level}!(");
        for (at, _) in code.match_indices(&call) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let arguments = arguments(&code[at + call.len()..]);
            let Some(text) = arguments.iter().position(|part| part.starts_with('"')) else {
                panic!("an event without a message: {arguments:?}");
            };
            let message = message(&arguments[text]);
            if message == "{}" {
                variable += 1;
                continue;
            }
            let (levels, fields) = events.entry(message).or_default();
            levels.insert(level.to_owned());
            fields.extend(arguments[..text].iter().map(|argument| field(argument)));
        }
    }
    variable
}

/// The events of all sources, tests left out.
fn events() -> Events {
    let mut events = Events::new();
    let mut variable = BTreeSet::new();
    for (path, text) in texts() {
        let name = path.display().to_string();
        let is_test = name.contains("/tests") || !name.ends_with(".rs");
        if is_test || !(name.starts_with("src/") || name.starts_with("crates/")) {
            continue;
        }
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        if events_of(code, &mut events) > 0 {
            variable.insert(name);
        }
    }
    let listed = VARIABLE_MESSAGES.iter().map(|(path, _)| (*path).to_owned());
    assert_eq!(variable, listed.collect(), "list their messages above");
    events
}

/// The rows of the tables of the page: message, level, fields.
fn documented() -> Events {
    let page = fs::read_to_string(root().join("docs/log-events.md")).unwrap();
    let mut events = Events::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [text, level, fields, action] = cells[..] else {
            panic!("not a row with message, level, fields and action: {line}");
        };
        assert!(!action.is_empty(), "{line}");
        let quoted = |cell: &str| -> BTreeSet<String> {
            let names = cell.split(", ").map(|name| name.trim_matches('`'));
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let event = (quoted(level), quoted(fields));
        let previous = events.insert(message(text.trim_matches('`')), event);
        assert_eq!(previous, None, "{text} is there twice");
    }
    events
}

#[test]
fn the_page_has_each_event_with_its_level_and_fields() {
    let (events, mut documented) = (events(), documented());
    for (path, messages) in VARIABLE_MESSAGES {
        let code = fs::read_to_string(root().join(path)).unwrap();
        for message in *messages {
            let literal = format!("\"{message}\"");
            assert!(code.contains(&literal), "{path} lacks {literal}");
            let row = documented.remove(*message);
            assert!(row.is_some(), "docs/log-events.md lacks `{message}`");
        }
    }
    let lines = |events: &Events| -> BTreeSet<String> {
        let lines = events.iter();
        lines.map(|event| format!("{event:?}")).collect()
    };
    let (events, documented) = (lines(&events), lines(&documented));
    let missing: Vec<_> = events.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&events).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "docs/log-events.md lacks {missing:#?}\nand has {unknown:#?}, which no source logs"
    );
    assert!(events.len() > 60, "{}", events.len());
}

#[test]
fn events_are_read_from_source_code() {
    let mut events = Events::new();
    let code = r#"
        tracing::warn!(%error, held = a.b(c, "d,"), "queue of {name} full, \
                 dropping {count:?}\n{rest}", count = 1);
        info!("ready (\"quoted\")");
        warn!(?x, "{text}");
        println!("not an event");
    "#;
    assert_eq!(events_of(code, &mut events), 1);
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let expected = Events::from([
        (
            "queue of {} full, dropping {}".to_owned(),
            (set(&["warn"]), set(&["error", "held"])),
        ),
        ("ready (\"quoted\")".to_owned(), (set(&["info"]), set(&[]))),
    ]);
    assert_eq!(events, expected);
}
