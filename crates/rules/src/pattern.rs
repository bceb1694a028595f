//! Patterns: each `*` matches any text, including none.

use memchr::memmem;

/// Whether `pattern` contains a `*`.
pub(super) fn is_wildcard(pattern: &str) -> bool {
    pattern.contains('*')
}

/// Whether all of `text` matches `pattern`.
///
/// A literal between two `*` is matched at its first occurrence, without backtracking. The time is therefore linear in
/// `text` for any number of `*`. This matters because clients choose `text`.
pub(super) fn matches(pattern: &str, text: &[u8]) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else {
        return pattern.as_bytes() == text;
    };
    let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut text) = text
        .strip_prefix(prefix.as_bytes())
        .and_then(|text| text.strip_suffix(suffix.as_bytes()))
    else {
        return false;
    };
    for literal in middle.split('*') {
        let Some(found) = memmem::find(text, literal.as_bytes()) else {
            return false;
        };
        text = &text[found + literal.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, yes, no) in [
            (
                "foo*",
                &["foo", "foo1", "foo*"][..],
                &["fo", "bar", "xfoo"][..],
            ),
            (
                "bar*b",
                &["barb", "barab", "bar123b"],
                &["bara", "xbarb", "ba", "barbx"],
            ),
            (
                "foo*bar*baz",
                &["foobarbaz", "foo123bar456baz"],
                &["foo123baz", "bar456baz", "foobaz"],
            ),
            ("*", &["", "x"], &[]),
            ("**", &["", "x"], &[]),
            ("*a*", &["a", "xax"], &["", "x"]),
            ("aa*aa", &["aaaa", "aaxaa"], &["aaa"]),
            ("é*", &["é", "éa"], &["e"]),
            ("", &[""], &["x"]),
        ] {
            for text in yes {
                assert!(matches(pattern, text.as_bytes()), "{pattern} {text}");
            }
            for text in no {
                assert!(!matches(pattern, text.as_bytes()), "{pattern} {text}");
            }
        }
    }

    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some((c, rest)) => text.first() == Some(c) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_trying_everything(pattern in "[ab*é]{0,8}", text in "[abé]{0,10}") {
            let (p, t): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, text.as_bytes()), naive(&p, &t));
        }
    }

    #[test]
    fn many_stars_cost_little() {
        let pattern = "*a".repeat(1_000) + "b";
        assert!(!matches(&pattern, &[b'a'; 1_000_000]));
    }
}
