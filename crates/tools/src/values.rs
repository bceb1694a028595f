//! Parsers of option values.

use std::time::Duration;

/// Parses a boolean in the spellings that envoyproxy/ratelimit accepts (Go's `strconv.ParseBool`).
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// Maximum duration, short enough to be added to any clock.
const LONGEST: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// Parses a duration, also in Go's format, such as 1.5h.
pub fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .ok()
        .or_else(|| go_time(text))
        .ok_or_else(|| "write a duration such as 20s or 100ms".to_owned())?;
    if time > LONGEST {
        return Err("write a duration of at most 1000 years".to_owned());
    }
    Ok(time)
}

/// Parses a duration in Go's format, such as `1h0.5s`.
fn go_time(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at(unit_at);
        let unit_ends = unit.find(|c: char| c == '.' || c.is_ascii_digit());
        let (unit, next) = unit.split_at(unit_ends.unwrap_or(unit.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        let seconds = number.parse::<f64>().ok()? * seconds;
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

/// Parses a duration that is longer than 0.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("write a duration longer than 0, such as 100ms".to_owned()),
        time => Ok(time),
    }
}

/// Parses the address of a server as host:port, also in a URL.
pub fn address(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.strip_suffix('/').unwrap_or(address);
    if address.contains("://") {
        return Err("write host:port; TLS is not supported".to_owned());
    }
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(address.to_owned()),
        _ => Err("write host:port".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_in_both_formats() {
        for (text, expected) in [
            ("24h", Some(86_400_000)),
            ("24h0m0s", Some(86_400_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            ("1m0.5s", Some(60_500)),
            ("100ms", Some(100)),
            ("1day", Some(86_400_000)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("-1s", None),
            ("1..5s", None),
            ("s", None),
            ("999999999999999999999h", None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(time(text).ok(), expected, "{text}");
        }
    }
}
