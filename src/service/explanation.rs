//! What `EXPLAIN_HEADERS` tells whoever asked: which rule decided, what is left, and when the same hits would be
//! admitted. As headers for Envoy to add to its response, and in the dynamic metadata when there is any.

use std::borrow::Cow;
use std::fmt::Write as _;

use prost_types::Value;

use super::metadata::{number, string, structure, value_of};
use super::pb::HeaderValue;
use super::rls::{header, shown};
use crate::limiter::{Code, Status, Verdict};
use crate::time::Micros;

/// The rule that decided: its limit's name, else its path.
const RULE: &str = "x-ratekeeper-rule";
/// The whole tokens left under it.
const REMAINING: &str = "x-ratekeeper-remaining";
/// The microseconds until the same hits would be admitted; missing when they never will be.
const RETRY_AFTER: &str = "x-ratekeeper-retry-after-us";
/// What decided: the buckets, or what stands in for them.
const DECIDED_BY: &str = "x-ratekeeper-decided-by";
/// RFC 9110's: whole seconds, of denials only.
const RETRY_AFTER_SECONDS: &str = "retry-after";

/// What a limit is called that the request brought itself.
const OVERRIDE: &str = "override";

/// The most bytes of a name in a header. Longer ones are cut.
const MAX_VALUE: usize = 256;

/// Who decided a request, and what that means to the caller.
pub(super) struct Explanation<'v> {
    rule: &'v str,
    remaining: u32,
    retry_in: Option<Micros>,
    decided_by: &'static str,
    is_denied: bool,
}

impl<'v> Explanation<'v> {
    /// Explains a verdict; `None` when no limit applied.
    pub(super) fn of(verdict: &'v Verdict) -> Option<Self> {
        let is_denied = verdict.code == Code::OverLimit;
        let denying = is_denied.then(|| denying(&verdict.statuses)).flatten();
        let status = denying.or_else(|| shown(&verdict.statuses))?;
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

    /// The headers.
    pub(super) fn headers(&self) -> Vec<HeaderValue> {
        let mut headers = vec![
            text(RULE, &legal(self.rule)),
            header(REMAINING, u64::from(self.remaining)),
            text(DECIDED_BY, self.decided_by),
        ];
        if let Some(micros) = self.retry_in {
            headers.push(header(RETRY_AFTER, micros));
            if self.is_denied {
                headers.push(header(RETRY_AFTER_SECONDS, micros.div_ceil(1_000_000)));
            }
        }
        headers
    }

    /// The same for filters of Envoy.
    pub(super) fn metadata(&self) -> Value {
        let mut fields = vec![
            ("rule", string(self.rule)),
            ("remaining", number(f64::from(self.remaining))),
            ("decidedBy", string(self.decided_by)),
        ];
        if let Some(micros) = self.retry_in {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a Struct has no other numbers; 2^53 us are 285 years"
            )]
            fields.push(("retryAfterMicros", number(micros as f64)));
        }
        value_of(structure(fields))
    }
}

/// The status that a denied request waits for: of those that deny by themselves the one that does so for longest,
/// else of the quotas, one of which is enough, the one that comes first.
fn denying(statuses: &[Status]) -> Option<&Status> {
    let wait = |status: &&Status| status.retry_in.unwrap_or(Micros::MAX);
    let over = || {
        let statuses = statuses.iter();
        statuses.filter(|status| status.code == Code::OverLimit)
    };
    let vetoes = over().filter(|status| !status.is_quota);
    vetoes.max_by_key(wait).or_else(|| over().min_by_key(wait))
}

fn text(name: &str, value: &str) -> HeaderValue {
    HeaderValue {
        key: name.to_owned(),
        value: value.to_owned(),
        raw_value: Vec::new(),
    }
}

/// A text as the value of a header: what is no printable ASCII is percent-encoded, as is a percent sign, and a
/// space at either end.
fn legal(text: &str) -> Cow<'_, str> {
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
    fn every_name_is_a_legal_value() {
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
            assert_eq!(legal(name), expected);
        }
        let long = legal(&"\u{1F512}".repeat(1_000)).into_owned();
        assert!(
            long.len() <= MAX_VALUE + 5 && long.ends_with("..."),
            "{long}"
        );
        assert_eq!(legal(&"x".repeat(300)), "x".repeat(256) + "...");
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
    fn who_denies_longest_decides_and_of_quotas_who_comes_first() {
        use Code::{Ok, OverLimit};
        let over = |retry_in| status(OverLimit, false, retry_in);
        let quota = |retry_in| status(OverLimit, true, retry_in);
        let admitted = status(Ok, false, Some(0));
        for (statuses, expected) in [
            (vec![over(Some(5)), over(Some(9)), over(Some(3))], Some(9)),
            (vec![over(Some(5)), over(None), admitted.clone()], None),
            (vec![admitted.clone(), quota(None), quota(Some(7))], Some(7)),
            (vec![quota(Some(1)), over(Some(4))], Some(4)),
        ] {
            let found = denying(&statuses).expect("somebody denies");
            assert_eq!((found.code, found.retry_in), (OverLimit, expected));
        }
        assert_eq!(denying(&[admitted]), None);
    }
}
