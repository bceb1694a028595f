//! Quotes input in messages, and suggests corrections of misspelled words.

/// Maximum length of a quotation in a message, in characters.
const MAX_SHOWN: usize = 80;

/// Returns `text` for a message: on one line, without control characters, and shortened.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_SHOWN)
        .flat_map(|c| {
            let control = c.is_control();
            let escaped = control.then(|| c.escape_default()).into_iter().flatten();
            escaped.chain((!control).then_some(c))
        })
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Returns the candidate that `word` is most likely a misspelling of.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = plain(word);
    let length = word.chars().count();
    // A third of the letters may differ, or two in a short word.
    let allowed = (length / 3).max(if length < 5 { 1 } else { 2 });
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let plain = plain(candidate);
            if word.len() >= 4 && !plain.is_empty() && plain.starts_with(&word) {
                return Some((1, candidate));
            }
            if plain.chars().count().abs_diff(length) > allowed {
                return None;
            }
            let distance = strsim::osa_distance(&word, &plain);
            (distance <= allowed && distance < length).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Removes case and word separators, which are the most frequent differences.
fn plain(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{nearest, shown};

    #[test]
    fn the_nearest_word_is_near_or_none() {
        let keys = [
            "unit",
            "requests_per_unit",
            "rate_limit",
            "shadow_mode",
            "name",
        ];
        for (word, expected) in [
            ("requests_per_unt", Some("requests_per_unit")),
            ("requestsPerUnit", Some("requests_per_unit")),
            ("ratelimit", Some("rate_limit")),
            ("shadow", Some("shadow_mode")),
            ("untis", Some("unit")),
            ("unt", Some("unit")),
            ("hour", None),
            ("nmae", Some("name")),
            ("x", None),
            ("", None),
            ("banana", None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
    }

    #[test]
    fn a_message_stays_on_one_line() {
        assert_eq!(shown("a\n\u{1b}b\u{e9}"), "a\\n\\u{1b}b\u{e9}");
        assert_eq!(shown(&"x".repeat(100)).len(), 83);
    }
}
