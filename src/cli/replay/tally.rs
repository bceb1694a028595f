//! Counts the verdicts of one configuration: per rule, over time, and per descriptor.

use super::frequent::Frequent;
use super::recorded::Recorded;
use super::series::{Axis, Series};
use crate::limiter::{Code, Descriptor, Request, Status, Verdict};
use crate::text::{Text, readable};
use crate::time::Micros;

/// Number of descriptors in the list of those denied first.
pub(super) const FIRST: usize = 10;

/// Maximum length of a descriptor in the report, in bytes; longer ones are cut.
const LONGEST: usize = 300;

/// Number of requests and of their hits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) requests: u64,
    pub(super) hits: u64,
}

impl Count {
    pub(super) fn add(&mut self, hits: i64) {
        self.requests += 1;
        self.hits = self
            .hits
            .saturating_add(u64::try_from(hits).unwrap_or_default());
    }
}

/// The first denial of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) time: Micros,
    pub(super) descriptor: String,
    /// The rule that denied it; `None` for a limit in the request itself.
    pub(super) rule: Option<String>,
}

/// Counts of the descriptors that matched a rule.
#[derive(Debug, Default, Clone)]
pub(super) struct RuleTally {
    pub(super) asked: Count,
    /// Denied by this rule.
    pub(super) denied: Count,
    /// Over the limit, but allowed because the rule is in shadow mode.
    pub(super) shadowed: Count,
    /// Hits that were refunded.
    pub(super) refunded: u64,
    pub(super) first_denied: Option<Denied>,
    pub(super) series: Series,
}

/// Counts of all requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) denied: u64,
    pub(super) series: Series,
    /// By rule id; `None` for rules that matched nothing.
    pub(super) rules: Vec<Option<Box<RuleTally>>>,
    /// Counts of limits in the requests themselves.
    pub(super) own: RuleTally,
    /// Number of descriptors that no limit applied to.
    pub(super) free: u64,
    /// The descriptors that were denied first, each once.
    pub(super) first: Vec<Denied>,
    /// The descriptors that were denied most often.
    pub(super) most: Frequent,
}

impl Tally {
    pub(super) fn new(rules: usize) -> Self {
        Self {
            rules: vec![None; rules],
            ..Self::default()
        }
    }

    /// Counts the verdict on a request.
    pub(super) fn count(&mut self, axis: &Axis, recorded: &Recorded, verdict: &Verdict) {
        let is_denied = verdict.code == Code::OverLimit;
        self.requests += 1;
        self.denied += u64::from(is_denied);
        self.series.count(axis, recorded.time, is_denied);
        let request = &recorded.request;
        for (descriptor, status) in request.descriptors.iter().zip(&verdict.statuses) {
            if status.limit.is_none() {
                self.free += 1;
                continue;
            }
            let rule = match status.rule {
                Some(id) => &mut **self.rules[id].get_or_insert_default(),
                None => &mut self.own,
            };
            rule.count(axis, recorded.time, request.hits(descriptor), status);
            if status.code == Code::OverLimit {
                let text = descriptor_text(request, descriptor);
                let denied = || Denied {
                    time: recorded.time,
                    descriptor: text.clone(),
                    rule: verdict.rule(status).map(|rule| rule.path.clone()),
                };
                if rule.first_denied.is_none() {
                    rule.first_denied = Some(denied());
                }
                add_first(&mut self.first, &text, denied);
                self.most.count(&text);
            }
        }
    }
}

impl RuleTally {
    fn count(&mut self, axis: &Axis, time: Micros, hits: i64, status: &Status) {
        let is_denied = status.code == Code::OverLimit;
        self.asked.add(hits);
        self.refunded = self.refunded.saturating_add(hits.min(0).unsigned_abs());
        if is_denied {
            self.denied.add(hits);
        } else if status.is_over {
            self.shadowed.add(hits);
        }
        self.series.count(axis, time, is_denied);
    }
}

/// Adds a denial to the first ones, unless the list is full or has this descriptor.
pub(super) fn add_first(first: &mut Vec<Denied>, text: &str, denied: impl FnOnce() -> Denied) {
    if first.len() < FIRST && first.iter().all(|noted| noted.descriptor != text) {
        first.push(denied());
    }
}

/// Formats domain and descriptor as the commands accept them, on one line whatever they contain.
pub(super) fn descriptor_text(request: &Request, descriptor: &Descriptor) -> String {
    let mut text = String::with_capacity(64);
    push(&mut text, &request.domain, &[]);
    text.push(' ');
    for (index, entry) in descriptor.entries.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push(&mut text, &entry.key, &[',', '=', '\\']);
        text.push('=');
        push(&mut text, &entry.value, &[',', '=', '\\']);
    }
    if text.len() > LONGEST {
        let hash = siphasher::sip::SipHasher13::new().hash(text.as_bytes());
        let end = (0..=LONGEST).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
        text.push_str(&format!("... (#{hash:016x})"));
    }
    text
}

fn push(text: &mut String, more: &Text, escaped: &[char]) {
    for chunk in more.as_bytes().utf8_chunks() {
        push_text(text, chunk.valid(), escaped);
        text.push_str(&readable(chunk.invalid()));
    }
}

fn push_text(text: &mut String, more: &str, escaped: &[char]) {
    for c in more.chars() {
        if c.is_control() || is_format(c) {
            text.extend(c.escape_default());
        } else {
            if escaped.contains(&c) {
                text.push('\\');
            }
            text.push(c);
        }
    }
}

/// Whether a character changes the display of others, such as their direction.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::Entry;

    fn check(value: impl AsRef<[u8]>, expected: &str) {
        let descriptor = Descriptor {
            entries: vec![Entry {
                key: "k".into(),
                value: value.as_ref().to_vec().into(),
            }],
            ..Descriptor::default()
        };
        let request = Request {
            domain: "d".into(),
            ..Request::default()
        };
        assert_eq!(descriptor_text(&request, &descriptor), expected);
    }

    #[test]
    fn a_descriptor_is_formatted_as_it_is_typed() {
        check("a", "d k=a");
        check("a=b,c\\", "d k=a\\=b\\,c\\\\");
        check(b"caf\xe9,", "d k=caf\\xE9\\,");
        check("a\n\u{1b}[31m\u{202e}b", "d k=a\\n\\u{1b}[31m\\u{202e}b");
    }

    #[test]
    fn a_long_descriptor_is_cut_and_stays_distinct() {
        let text = |last: char| {
            let descriptor = Descriptor {
                entries: vec![Entry {
                    key: "é".repeat(300).into(),
                    value: last.to_string().into(),
                }],
                ..Descriptor::default()
            };
            descriptor_text(&Request::default(), &descriptor)
        };
        assert!(text('a').len() < LONGEST + 30);
        assert_ne!(text('a'), text('b'));
    }
}
