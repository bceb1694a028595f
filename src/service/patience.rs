//! How long a caller waits for its answer, as it says in the `grpc-timeout` header: up to 8 digits and a
//! unit.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// So much of a caller's time may pass before there is an answer; the rest is for the way back.
fn share(timeout: Duration) -> Duration {
    timeout * 4 / 5
}

/// How long an answer may take; `None` when the caller does not say.
pub(super) fn of(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    timeout(text).map(share)
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

    #[test]
    fn four_fifths_of_what_the_caller_says() {
        let patience = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            of(&metadata)
        };
        for (text, expected) in [
            ("20m", Some(Duration::from_millis(16))),
            ("1S", Some(Duration::from_millis(800))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 2_880))),
            ("10M", Some(Duration::from_secs(480))),
            ("500u", Some(Duration::from_micros(400))),
            ("5n", Some(Duration::from_nanos(4))),
            ("0m", Some(Duration::ZERO)),
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
        assert_eq!(of(&MetadataMap::new()), None);
        // Bytes that are no text, and a unit that is no ASCII.
        assert_eq!(timeout("1é"), None);
    }
}
