//! A request of a recording, and the line of JSON that it is read from.

mod line;

use serde_json::Value;

use super::timestamp;
use crate::limiter::{Code, Descriptor, Override, Pattern, RECORD_VERSION, Request};
use crate::rules::Unit;
use crate::time::Micros;

use line::{CodeName, DescriptorLine, EntryLine, LimitLine, Line, Time};

/// A request, when it was, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) time: Micros,
    pub(super) request: Request,
    /// One per descriptor; none when nothing is known.
    pub(super) marks: Vec<Mark>,
    pub(super) answer: Option<Answer>,
}

/// What is known of a descriptor beside what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// All requests of its bucket are recorded.
    pub(super) is_sampled: bool,
    /// How its rule was used; `None` when that is not known.
    pub(super) pattern: Option<Pattern>,
    /// What was answered.
    pub(super) code: Code,
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: Code,
    /// Something stood in for the store.
    pub(super) is_fallback: bool,
    /// The marks tell what each descriptor got.
    pub(super) tells_each: bool,
}

impl Recorded {
    /// Reads a line.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| sentence(text, &error))?;
        match line.v {
            Some(v) if v > RECORD_VERSION => return Err(newer(v.into())),
            _ => {}
        }
        let time = match &line.time {
            // Ours are microseconds, however few.
            Time::Number(number) if line.v.is_some() => number
                .as_u64()
                .filter(|&time| time < timestamp::END)
                .ok_or_else(|| format!("{number} is no time in microseconds"))?,
            Time::Number(number) => timestamp::parse_number(number)?,
            Time::Text(text) => timestamp::parse_text(text)?,
        };
        let tells_each = line.v.is_some()
            || line.descriptors.iter().any(|descriptor| {
                matches!(descriptor, DescriptorLine::Full(full) if full.code.is_some())
            });
        let answer = line.code.map(|code| Answer {
            code: code.into(),
            is_fallback: line
                .cause
                .as_deref()
                .is_some_and(|cause| cause.starts_with("fallback")),
            tells_each,
        });
        let (marks, descriptors): (Vec<_>, Vec<_>) = line
            .descriptors
            .into_iter()
            .map(|descriptor| descriptor.read(line.v.is_some()))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .unzip();
        Ok(Self {
            time,
            request: Request {
                domain: line.domain.0,
                descriptors,
                hits_addend: line.hits_addend,
            },
            marks,
            answer,
        })
    }
}

impl DescriptorLine {
    /// `is_ours`: a server recorded it, which says of each descriptor how its rule was used.
    fn read(self, is_ours: bool) -> Result<(Mark, Descriptor), String> {
        let full = match self {
            Self::Typed(entries) => {
                let mark = Mark {
                    is_sampled: true,
                    pattern: None,
                    code: Code::Ok,
                };
                let descriptor = Descriptor {
                    entries,
                    ..Descriptor::default()
                };
                return Ok((mark, descriptor));
            }
            Self::Full(full) => full,
        };
        let mark = Mark {
            is_sampled: full.sampled.unwrap_or(true),
            pattern: match (full.asked, full.sampled) {
                (true, Some(true)) => Some(Pattern::Refunded),
                (true, _) => Some(Pattern::Reported),
                (false, _) => is_ours.then_some(Pattern::Prepaid),
            },
            code: full.code.map_or(Code::Ok, Code::from),
        };
        let descriptor = Descriptor {
            entries: full
                .entries
                .into_iter()
                .map(|EntryLine(entry)| entry)
                .collect(),
            limit: full.limit.map(LimitLine::read).transpose()?,
            hits_addend: full.hits_addend,
            is_negative_hits: full.is_negative_hits,
        };
        Ok((mark, descriptor))
    }
}

impl LimitLine {
    fn read(self) -> Result<Override, String> {
        let unit = Unit::from_name(&self.unit).ok_or_else(|| {
            let units = Unit::ALL.map(Unit::name).join(", ");
            format!("unit {:?} is none; write one of {units}", self.unit)
        })?;
        let (unit_multiplier, most) = (self.unit_multiplier.unwrap_or(1), unit.max_multiplier());
        if !(1..=most).contains(&unit_multiplier) {
            return Err(format!(
                "unit_multiplier {unit_multiplier} is too small or too large; for the unit {} write 1 to {most}",
                unit.name()
            ));
        }
        Ok(Override {
            requests_per_unit: self.requests_per_unit,
            unit,
            unit_multiplier,
        })
    }
}

impl From<CodeName> for Code {
    fn from(name: CodeName) -> Self {
        match name {
            CodeName::Ok => Self::Ok,
            CodeName::OverLimit => Self::OverLimit,
        }
    }
}

/// What is wrong with a line, and what to write instead.
fn sentence(text: &str, error: &serde_json::Error) -> String {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        // The line is always the first, and the parser says so.
        let cause = error
            .to_string()
            .replace(" at line 1 column ", " at column ");
        return format!(
            "this is no line of JSON ({cause}); for other access logs, see --log-format"
        );
    };
    if let Some(v) = value.get("v").and_then(Value::as_u64)
        && v > u64::from(RECORD_VERSION)
    {
        return newer(v);
    }
    if value.is_object() && value.get("descriptors").is_none() {
        return "the line has no descriptors; of an access log, say what they are made of with --domain and \
                --descriptor"
            .to_owned();
    }
    let cause = error.to_string();
    let cause = cause.split(" at line 1 column ").next().unwrap_or_default();
    format!("this is no recorded request ({cause}); docs/rehearsal.md has the format")
}

fn newer(v: u64) -> String {
    format!(
        "the line is of version {v} of the format, and this ratekeeper reads {RECORD_VERSION}; use a newer one"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_can_be_written_in_several_ways() {
        let short = Recorded::read(
            r#"{"time":"2025-11-24T21:38:54.5Z","domain":"shop","descriptors":["client=alice,path=/a"]}"#,
        )
        .unwrap();
        for same in [
            r#"{"time":1764020334.5,"domain":"shop","descriptors":[{"entries":[["client","alice"],["path","/a"]]}]}"#,
            r#"{"timestamp":1764020334500,"domain":"shop","hitsAddend":0,"descriptors":
                [{"entries":[{"key":"client","value":"alice"},{"key":"path","value":"/a"}]}]}"#,
        ] {
            assert_eq!(Recorded::read(same).unwrap(), short, "{same}");
        }
        assert_eq!(short.answer, None);
    }

    #[test]
    fn what_is_no_text_is_written_percent_encoded() {
        let line = r#"{"time":1,"domain":{"percent_encoded":"d%FF"},"descriptors":[
            {"entries":[["k",{"percent_encoded":"caf%E9%25"}],{"key":"a","value":"%E9"}]}]}"#;
        let request = Recorded::read(line).unwrap().request;
        assert_eq!(request.domain.as_bytes(), b"d\xff");
        let values = request.descriptors[0].entries.iter();
        let values: Vec<_> = values.map(|entry| entry.value.as_bytes()).collect();
        assert_eq!(values, [&b"caf\xe9%"[..], b"%E9"]);
    }

    #[test]
    fn ours_says_what_was_answered() {
        let line = r#"{"v":1,"time":17,"domain":"shop","hits_addend":2,"descriptors":[
            {"entries":[["a","1"]],"limit":{"requests_per_unit":5,"unit":"hour","unit_multiplier":2},"sampled":false},
            {"entries":[["b",""]],"hits_addend":0,"is_negative_hits":true,"asked":true,"code":"OVER_LIMIT"}],
            "code":"OVER_LIMIT","cause":"fallback_deny"}"#;
        let read = Recorded::read(line).unwrap();
        assert_eq!((read.time, read.request.hits_addend), (17, 2));
        let answer = read.answer.unwrap();
        assert!(answer.tells_each && answer.is_fallback && answer.code == Code::OverLimit);
        assert_eq!(
            (read.marks[0].is_sampled, read.marks[0].code),
            (false, Code::Ok)
        );
        assert_eq!(
            (read.marks[1].pattern, read.marks[1].code),
            (Some(Pattern::Reported), Code::OverLimit)
        );
        let own = read.request.descriptors[0].limit.unwrap();
        assert_eq!(
            (own.requests_per_unit, own.unit, own.unit_multiplier),
            (5, Unit::Hour, 2)
        );
        assert_eq!(read.request.descriptors[1].hits_addend, Some(0));
    }

    #[test]
    fn a_mistake_is_told_in_a_sentence() {
        for (line, expected) in [
            ("nonsense", "no line of JSON"),
            (r#"{"time":1"#, "no line of JSON"),
            ("[]", "no recorded request"),
            (
                r#"{"start_time":"2025-11-24T21:38:54Z","path":"/"}"#,
                "--descriptor",
            ),
            (
                r#"{"domain":"d","descriptors":["a=1"]}"#,
                "missing field `time`",
            ),
            (
                r#"{"time":1,"domain":"d","descriptors":["a"]}"#,
                "write key= for an empty value",
            ),
            (
                r#"{"time":1,"domain":"d","descriptors":["a=1"],"hit":1}"#,
                "unknown field `hit`",
            ),
            (
                r#"{"time":1,"domain":"d","descriptors":[{"entries":[["a","1","2"]]}]}"#,
                "a key and a value",
            ),
            (
                r#"{"time":-1,"domain":"d","descriptors":["a=1"]}"#,
                "-1 is not a timestamp",
            ),
            (
                r#"{"time":"soon","domain":"d","descriptors":["a=1"]}"#,
                "\"soon\" is not a timestamp",
            ),
            (
                r#"{"v":2,"time":1,"more":{},"domain":"d","descriptors":["a=1"]}"#,
                "version 2",
            ),
            (
                r#"{"time":1,"domain":"d","descriptors":["a=1"],"code":"MAYBE"}"#,
                "unknown variant `MAYBE`",
            ),
            (
                r#"{"time":1,"domain":"d","descriptors":[{"entries":[],"limit":{"requests_per_unit":1,"unit":"eon"}}]}"#,
                "write one of second",
            ),
            (
                r#"{"time":1,"domain":"d","descriptors":[{"entries":[],"limit":{"requests_per_unit":1,"unit":"day","unit_multiplier":0}}]}"#,
                "write 1 to",
            ),
        ] {
            let mistake = Recorded::read(line).unwrap_err();
            assert!(mistake.contains(expected), "{line}: {mistake}");
            assert!(!mistake.contains('\n'), "{line}: {mistake}");
        }
    }
}
