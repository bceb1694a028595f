//! The `grpc-timeout` header: the time that a caller waits for the response, as up to eight digits and a unit.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// Returns the part of the caller's timeout that a decision can use. The rest is for sending the response.
fn share(timeout: Duration) -> Duration {
    timeout * 4 / 5
}

/// Returns the maximum time for a decision; `None` if the caller has no deadline.
///
/// It is at least `min`. Otherwise a caller could make the failure policy decide any request, with a timeout that no
/// store can meet.
pub(super) fn decision_time(metadata: &MetadataMap, min: Duration) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    parse(text).map(|timeout| share(timeout).max(min))
}

fn parse(text: &str) -> Option<Duration> {
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

    const MIN: Duration = Duration::from_millis(2);

    #[test]
    fn decisions_get_four_fifths_of_the_timeout_but_at_least_the_minimum() {
        let time = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            decision_time(&metadata, MIN)
        };
        for (text, expected) in [
            ("20m", Some(Duration::from_millis(16))),
            ("1S", Some(Duration::from_millis(800))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 2_880))),
            ("10M", Some(Duration::from_secs(480))),
            ("2500u", Some(Duration::from_millis(2))),
            ("2499u", Some(MIN)),
            ("1n", Some(MIN)),
            ("0m", Some(MIN)),
            ("", None),
            ("m", None),
            ("20", None),
            ("-1m", None),
            ("123456789m", None),
            ("20x", None),
            ("20 m", None),
        ] {
            assert_eq!(time(text), expected, "{text:?}");
        }
        assert_eq!(decision_time(&MetadataMap::new(), MIN), None);
        // The last character is not ASCII.
        assert_eq!(parse("1é"), None);
    }
}
