//! Timestamps in the formats of recordings and access logs.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Number;

use crate::time::Micros;

/// Advice for a timestamp that cannot be parsed.
const ADVICE: &str = "write a time as 2026-11-24T21:00:00.5Z, or as seconds, milliseconds or microseconds since 1970";

/// Numbers from here on are milliseconds, then microseconds, then nanoseconds: as seconds, they would be the year
/// 5138 and later; as the finer unit, they are 1973 and later.
const MILLISECONDS_FROM: f64 = 1e11;
const MICROSECONDS_FROM: f64 = 1e14;
const NANOSECONDS_FROM: f64 = 1e17;

/// Upper bound of timestamps: the year 5138, in microseconds.
pub(super) const END: Micros = 100_000_000_000_000_000;

/// Parses a timestamp that is a text: a number, or RFC 3339, also with an offset as Envoy writes it.
pub(super) fn parse_text(text: &str) -> Result<Micros, String> {
    let text = text.trim();
    let mistake = || format!("{text:?} is not a timestamp; {ADVICE}");
    if let Ok(number) = text.parse::<Number>() {
        return parse_number(&number);
    }
    let (time, offset) = offset(text).ok_or_else(mistake)?;
    let time = humantime::parse_rfc3339_weak(time).map_err(|_| mistake())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| mistake())?;
    let micros = i64::try_from(since.as_micros()).map_err(|_| mistake())?;
    let micros = micros.checked_sub(offset).ok_or_else(mistake)?;
    u64::try_from(micros).map_err(|_| mistake())
}

/// Parses a timestamp that is a number; its size determines its unit.
pub(super) fn parse_number(number: &Number) -> Result<Micros, String> {
    if let Some(whole) = number.as_u64() {
        #[expect(clippy::cast_precision_loss, reason = "only the magnitude matters")]
        let size = whole as f64;
        if size < MILLISECONDS_FROM {
            return Ok(whole * 1_000_000);
        } else if size < MICROSECONDS_FROM {
            return Ok(whole * 1_000);
        } else if size < NANOSECONDS_FROM {
            return Ok(whole);
        }
        return Ok(whole / 1_000);
    }
    let time = number.as_f64().filter(|time| *time >= 0.0);
    let micros = time.map(|time| {
        if time < MILLISECONDS_FROM {
            time * 1e6
        } else if time < MICROSECONDS_FROM {
            time * 1e3
        } else if time < NANOSECONDS_FROM {
            time
        } else {
            time / 1e3
        }
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within 0 and the end"
    )]
    micros
        .map(f64::round)
        .filter(|micros| *micros < END as f64)
        .map(|micros| micros as u64)
        .ok_or_else(|| format!("{number} is not a timestamp; {ADVICE}"))
}

/// Splits a timestamp into the time without its offset from UTC, and the offset in microseconds.
fn offset(text: &str) -> Option<(&str, i64)> {
    // A date has dashes of its own.
    let Some(at) = text.get(11..)?.find(['+', '-']).map(|at| at + 11) else {
        return Some((text, 0));
    };
    let (time, offset) = text.split_at(at);
    let digits = offset.get(1..)?.replace(':', "");
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let minutes = digits[..2].parse::<i64>().ok()? * 60 + digits[2..].parse::<i64>().ok()?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    Some((time, sign * minutes * 60_000_000))
}

/// Formats a time for people, in UTC.
pub(super) fn readable(time: Micros) -> String {
    let exact = rfc3339(time).replace('T', " ");
    let text = exact.trim_end_matches('Z');
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text.len() {
        // The zeros of a whole second belong to it.
        ..19 => exact[..19].to_owned(),
        _ => text.to_owned(),
    }
}

/// Formats a time as RFC 3339 with microseconds, for programs.
pub(super) fn rfc3339(time: Micros) -> String {
    let time = UNIX_EPOCH + Duration::from_micros(time.min(MAX_SHOWN));
    humantime::format_rfc3339_micros(time).to_string()
}

/// The last second of the year 9999, the last one that RFC 3339 can represent.
const MAX_SHOWN: Micros = 253_402_300_799_000_000;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn check(text: &str, expected: Option<Micros>) {
        let read = match serde_json::from_str(text).unwrap() {
            Value::Number(number) => parse_number(&number),
            Value::String(text) => parse_text(&text),
            _ => panic!("{text} is neither"),
        };
        assert_eq!(read.ok(), expected, "{text}");
    }

    #[test]
    fn the_size_of_a_number_determines_its_unit() {
        let time = 1_764_020_334_123_456;
        check("1764020334", Some(1_764_020_334_000_000));
        check("1764020334.123456", Some(time));
        check("1764020334123", Some(1_764_020_334_123_000));
        check("1764020334123.456", Some(time));
        check("1764020334123456", Some(time));
        check("1764020334123456789", Some(time));
        check("\"1764020334.123456\"", Some(time));
        check("0", Some(0));
        check("2.5", Some(2_500_000));
        for nothing in ["-1", "1e300", "\"-1\"", "\"soon\"", "\"\""] {
            check(nothing, None);
        }
    }

    #[test]
    fn texts_are_read_as_logs_write_them() {
        let time = Some(1_764_020_334_500_000);
        check("\"2025-11-24T21:38:54.5Z\"", time);
        check("\"2025-11-24T21:38:54.500Z\"", time);
        check("\"2025-11-24 21:38:54.5\"", time);
        check("\"2025-11-24T22:38:54.5+01:00\"", time);
        check("\"2025-11-24T16:08:54.500-0530\"", time);
        check("\"2025-11-24T22:38:54+1\"", None);
        check("\"2025-13-24T22:38:54Z\"", None);
        check("\"1969-12-31T23:59:59Z\"", None);
        check("\"24/Nov/2025:21:38:54\"", None);
        check("\"é\"", None);
    }

    #[test]
    fn times_are_shown_as_short_as_they_are_exact() {
        assert_eq!(readable(1_764_020_334_500_000), "2025-11-24 21:38:54.5");
        assert_eq!(readable(1_764_020_330_000_000), "2025-11-24 21:38:50");
        assert_eq!(readable(1_764_028_800_000_000), "2025-11-25 00:00:00");
        assert_eq!(
            readable(1_764_020_334_000_001),
            "2025-11-24 21:38:54.000001"
        );
        assert_eq!(readable(u64::MAX), "9999-12-31 23:59:59");
    }
}
