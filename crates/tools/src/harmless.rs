//! Escapes texts of clients and servers for a terminal, so that they cannot move the cursor, change colors or hide other
//! text.

use std::fmt::Write as _;

/// Escapes control and format characters in a text of a client.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if is_harmful(char) {
            plain.extend(char.escape_unicode());
        } else {
            plain.push(char);
        }
    }
    plain
}

/// Escapes control and format characters in lines of text or JSON, in JSON's syntax. Line feeds and tabs stay.
pub fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for char in text.chars() {
        if is_harmful(char) && !matches!(char, '\n' | '\t') {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(harmless, "\\u{unit:04x}");
            }
        } else {
            harmless.push(char);
        }
    }
    harmless
}

/// Whether a character is a control character, or an invisible one with an effect, such as a direction or a joiner.
fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (text, expected) in [
            ("rk:shop|client=alice", "rk:shop|client=alice"),
            ("\u{1b}[2J\r\n\u{7}", "\\u{1b}[2J\\u{d}\\u{a}\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{200b}", "a\\u{202e}b\\u{200b}"),
            ("für 日本", "für 日本"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({"key": "a\u{9b}\u{202e}\u{e0001}\u{1b}b"});
        let escaped = harmless(&value.to_string());
        assert!(escaped.chars().all(|char| !is_harmful(char)), "{escaped}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&escaped).unwrap(),
            value
        );
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(
            harmless("a\n\tb\r\u{1b}[2J\u{9b}\u{202e}\u{e0001}\n"),
            "a\n\tb\\u000d\\u001b[2J\\u009b\\u202e\\udb40\\udc01\n"
        );
    }
}
