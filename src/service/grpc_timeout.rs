//! How long a caller waits for its answer, as it says in the `grpc-timeout` header: up to 8 digits and a
//! unit.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// So much of a caller's time may pass before there is an answer; the rest is for the way back.
fn share(timeout: Duration) -> Duration {
    timeout * 4 / 5
}

/// How long a decision may take; `None` when the caller does not limit it.
///
/// The store gets at least `least`. Otherwise a caller could have any request decided by the failure policy, by a
/// timeout that no store can hold.
pub(super) fn of(metadata: &MetadataMap, least: Duration) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    timeout(text).map(|timeout| share(timeout).max(least))
}

fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(2);

    #[test]
    fn four_fifths_of_what_the_caller_says_but_no_less_than_the_least() {
        let patience = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            of(&metadata, LEAST)
        };
        for (text, expected) in [
            ("20m", Some(Duration::from_millis(16))),
            ("1S", Some(Duration::from_millis(800))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 2_880))),
            ("10M", Some(Duration::from_secs(480))),
            ("2500u", Some(Duration::from_millis(2))),
            ("2499u", Some(LEAST)),
            ("1n", Some(LEAST)),
            ("0m", Some(LEAST)),
            ("", None),
            ("m", None),
            ("20", None),
            ("-1m", None),
            ("123456789m", None),
            ("20x", None),
            ("20 m", None),
        ] {
            assert_eq!(patience(text), expected, "{text:?}");
        }
        assert_eq!(of(&MetadataMap::new(), LEAST), None);
        // Bytes that are no text, and a unit that is no ASCII.
        assert_eq!(timeout("1é"), None);
    }
}
