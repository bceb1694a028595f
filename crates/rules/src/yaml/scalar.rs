//! Types of plain scalars in YAML 1.1, as yaml.v2 (the parser of envoyproxy/ratelimit) reads them. In contrast to YAML 1.2,
//! `yes` is a boolean and `010` is 8.

/// The type and the value of a scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meaning {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

/// Returns the meaning of a scalar that is neither quoted nor tagged.
pub(crate) fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            Meaning::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            Meaning::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Meaning::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Meaning::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or(Meaning::Text),
    }
}

fn number(text: &str) -> Option<Meaning> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let digits = text.replace('_', "");
    if let Some(int) = int(&digits) {
        return Some(Meaning::Int(int));
    }
    if is_float(&digits) {
        return digits.parse().ok().map(Meaning::Float);
    }
    None
}

/// Parses a whole number of 64 bits, signed or unsigned; larger numbers are floats.
fn int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` would accept a second sign.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let int = i128::from_str_radix(digits, radix).ok()?;
    let int = if negative { -int } else { int };
    (i128::from(i64::MIN)..=i128::from(u64::MAX))
        .contains(&int)
        .then_some(int)
}

fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let is_exponent = |e: &str| {
        let digits = e.strip_prefix(['+', '-']).unwrap_or(e);
        !digits.is_empty() && all_digits(digits)
    };
    !(whole.is_empty() && fraction.is_empty())
        && all_digits(whole)
        && all_digits(fraction)
        && exponent.is_none_or(is_exponent)
}

#[cfg(test)]
mod tests {
    use super::{Meaning, meaning};

    #[test]
    fn plain_scalars_mean_what_yaml_v2_says() {
        for (texts, expected) in [
            (&["", "~", "null", "NULL"][..], Meaning::Null),
            (&["y", "Yes", "ON", "true", "TRUE"], Meaning::Bool(true)),
            (&["n", "No", "OFF", "false", "False"], Meaning::Bool(false)),
            (&["0", "-0", "+0", "00", "0x0"], Meaning::Int(0)),
            (
                &[
                    "8", "+8", "0x8", "0X8", "010", "0o10", "0b1000", "8_", "0_1_0",
                ],
                Meaning::Int(8),
            ),
            (&["1_000", "1000", "0x3e8"], Meaning::Int(1_000)),
            (&["-5", "-0x5"], Meaning::Int(-5)),
            (&["18446744073709551615"], Meaning::Int(u64::MAX.into())),
            (
                &["1.5", "1.50", "+1.5", "15e-1", ".15e1", "1_.5"],
                Meaning::Float(1.5),
            ),
            (&["1.", "1e0", "1E+0"], Meaning::Float(1.0)),
            // Not octal, so not an int.
            (&["08"], Meaning::Float(8.0)),
            (&["-.inf"], Meaning::Float(f64::NEG_INFINITY)),
            (
                &[
                    "tRUE",
                    "nULL",
                    "a",
                    "_1",
                    "1a",
                    "0x",
                    "--5",
                    "+-5",
                    ".",
                    "1e",
                    "1.2.3",
                    "10.0.0.1",
                    "2024-01-01",
                    "-",
                    "0x_g",
                    "<<",
                    "=",
                ],
                Meaning::Text,
            ),
        ] {
            for text in texts {
                assert_eq!(meaning(text), expected, "{text:?}");
            }
        }
        assert!(matches!(meaning("18446744073709551616"), Meaning::Float(_)));
        assert!(matches!(meaning(".nan"), Meaning::Float(f) if f.is_nan()));
    }
}
