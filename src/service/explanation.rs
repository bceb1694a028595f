//! Explains a decision to the client (`EXPLAIN_HEADERS`): which rule decided, what remains, and when the same hits
//! would be allowed. Sent as headers that Envoy adds to its response, and in dynamic metadata if it is enabled.

use std::borrow::Cow;
use std::fmt::Write as _;

use prost_types::Value;

use super::headers::{number_header, reported_status, text_header};
use super::pb::HeaderValue;
use super::struct_value::{integer, object, string};
use crate::limiter::{Code, Status, Verdict};
use crate::time::Micros;

/// Header with the rule that decided: the name of its limit, else its path.
const RULE: &str = "x-ratekeeper-rule";
/// Header with the number of whole tokens left.
const REMAINING: &str = "x-ratekeeper-remaining";
/// Header with the microseconds until the same hits would be allowed; absent if they never will be.
const RETRY_AFTER: &str = "x-ratekeeper-retry-after-us";
/// Header with what decided: the buckets, or a failure policy.
const DECIDED_BY: &str = "x-ratekeeper-decided-by";
/// Header of RFC 9110 with whole seconds; only for denied requests.
const RETRY_AFTER_SECONDS: &str = "retry-after";

/// Name of a limit that the request brought.
const OVERRIDE: &str = "override";

/// Maximum number of bytes of a name in a header. Longer ones are truncated.
const MAX_VALUE: usize = 256;

/// Explains which rule decided a request, and when to retry.
pub(super) struct Explanation<'v> {
    rule: &'v str,
    remaining: u32,
    retry_in: Option<Micros>,
    decided_by: &'static str,
    is_denied: bool,
}

impl<'v> Explanation<'v> {
    /// Explains a verdict; `None` if no limit applied.
    pub(super) fn of(verdict: &'v Verdict) -> Option<Self> {
        let is_denied = verdict.code == Code::OverLimit;
        let denying = is_denied.then(|| denying(&verdict.statuses)).flatten();
        let status = denying.or_else(|| reported_status(&verdict.statuses))?;
        let name = status.limit.as_ref().map(|limit| limit.name.as_str());
        let path = || verdict.rule(status).map_or(OVERRIDE, |rule| &rule.path);
        Some(Self {
            rule: name.filter(|name| !name.is_empty()).unwrap_or_else(path),
            remaining: status.remaining,
            retry_in: status.retry_in,
            decided_by: verdict.decided_by().name(),
            is_denied,
        })
    }

    /// Returns the explanation as headers.
    pub(super) fn headers(&self) -> Vec<HeaderValue> {
        let mut headers = vec![
            text_header(RULE, header_value(self.rule).into_owned()),
            number_header(REMAINING, u64::from(self.remaining)),
            text_header(DECIDED_BY, self.decided_by.to_owned()),
        ];
        if let Some(micros) = self.retry_in {
            headers.push(number_header(RETRY_AFTER, micros));
            if self.is_denied {
                headers.push(number_header(
                    RETRY_AFTER_SECONDS,
                    micros.div_ceil(1_000_000),
                ));
            }
        }
        headers
    }

    /// Returns the explanation as dynamic metadata, for other filters of Envoy.
    pub(super) fn metadata(&self) -> Value {
        let mut fields = vec![
            ("rule", string(self.rule)),
            ("remaining", integer(self.remaining.into())),
            ("decidedBy", string(self.decided_by)),
        ];
        if let Some(micros) = self.retry_in {
            fields.push(("retryAfterMicros", integer(micros)));
        }
        object(fields)
    }
}

/// Returns the status that determines when a denied request can be retried: the limit that denies for longest, since
/// all must allow; else the quota that denies for the shortest time, since one is enough.
fn denying(statuses: &[Status]) -> Option<&Status> {
    let wait = |status: &&Status| status.retry_in.unwrap_or(Micros::MAX);
    let over = || {
        let statuses = statuses.iter();
        statuses.filter(|status| status.code == Code::OverLimit)
    };
    let limits = over().filter(|status| !status.is_quota);
    limits.max_by_key(wait).or_else(|| over().min_by_key(wait))
}

/// Encodes a text as the value of a header: bytes other than printable ASCII, percent signs, and spaces at either end
/// are percent-encoded.
fn header_value(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'%';
    let is_trimmed = text.trim_matches(' ').len() == text.len();
    if text.len() <= MAX_VALUE && is_trimmed && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let begin = text.len() - text.trim_start_matches(' ').len();
    let end = text.trim_end_matches(' ').len();
    let mut encoded = String::new();
    for (i, byte) in text.bytes().enumerate() {
        if encoded.len() >= MAX_VALUE {
            encoded.push_str("...");
            break;
        }
        if is_plain(byte) && (begin..end).contains(&i) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::{Pattern, ShownLimit};
    use crate::rules::Unit;

    #[test]
    fn every_name_is_a_valid_header_value() {
        for (name, expected) in [
            ("shop.path_/cart", "shop.path_/cart"),
            ("per client", "per client"),
            (" a b ", "%20a b%20"),
            ("a\r\nx-evil: 1", "a%0D%0Ax-evil: 1"),
            ("50%", "50%25"),
            ("f\u{fc}r", "f%C3%BCr"),
            ("\u{7f}\0", "%7F%00"),
            ("  ", "%20%20"),
        ] {
            assert_eq!(header_value(name), expected);
        }
        let long = header_value(&"\u{1F512}".repeat(1_000)).into_owned();
        assert!(
            long.len() <= MAX_VALUE + 5 && long.ends_with("..."),
            "{long}"
        );
        assert_eq!(header_value(&"x".repeat(300)), "x".repeat(256) + "...");
    }

    fn status(code: Code, is_quota: bool, retry_in: Option<Micros>) -> Status {
        Status {
            code,
            limit: Some(ShownLimit {
                name: String::new(),
                requests_per_unit: 1,
                unit: Unit::Day,
                unit_multiplier: 1,
            }),
            remaining: 0,
            reset_seconds: None,
            renewal_seconds: 0,
            retry_in,
            is_over: code == Code::OverLimit,
            is_quota,
            pattern: Pattern::Prepaid,
            rule: None,
        }
    }

    #[test]
    fn the_longest_denial_decides_and_of_quotas_the_shortest() {
        use Code::{Ok, OverLimit};
        let over = |retry_in| status(OverLimit, false, retry_in);
        let quota = |retry_in| status(OverLimit, true, retry_in);
        let allowed = status(Ok, false, Some(0));
        for (statuses, expected) in [
            (vec![over(Some(5)), over(Some(9)), over(Some(3))], Some(9)),
            (vec![over(Some(5)), over(None), allowed.clone()], None),
            (vec![allowed.clone(), quota(None), quota(Some(7))], Some(7)),
            (vec![quota(Some(1)), over(Some(4))], Some(4)),
        ] {
            let found = denying(&statuses).expect("a status denies");
            assert_eq!((found.code, found.retry_in), (OverLimit, expected));
        }
        assert_eq!(denying(&[allowed]), None);
    }
}
