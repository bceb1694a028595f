//! Parses lines of text with the Envoy format string that wrote them.
//!
//! A field has the name of its operator in lower case, and a request header the name of the header: `%REQ(X-Client)%` is
//! `x_client`, `%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%` is `path`, `%RESPONSE_FLAGS%` is `response_flags`.

use std::str::FromStr;

use super::{Fields, non_empty};

/// Envoy's default format.
const ENVOY: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"";

/// Istio's default format.
const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
    \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

/// Format of the lines of a text log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Format {
    /// Text before the first field.
    begin: String,
    /// Names of the fields, each with the text that follows it.
    fields: Vec<(String, String)>,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = match text {
            "envoy" => ENVOY,
            "istio" => ISTIO,
            text => text,
        };
        let text = text
            .strip_suffix("\\n")
            .unwrap_or(text)
            .trim_end_matches('\n');
        let mut format = Self {
            begin: String::new(),
            fields: Vec::new(),
        };
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('%') {
            format.push(before);
            let (operator, after) = operator(behind).ok_or_else(advice)?;
            if operator.is_empty() {
                // Two percent signs are an escaped one.
                format.push("%");
            } else {
                format.fields.push((name(operator), String::new()));
            }
            rest = after;
        }
        format.push(rest);
        if format.fields.is_empty() {
            return Err(advice());
        }
        let inner = format.fields.split_last().map(|(_, inner)| inner);
        if inner.is_some_and(|inner| inner.iter().any(|(_, behind)| behind.is_empty())) {
            return Err("two operators have no text between them, so the end of the first is unknown; put a separator between them".to_owned());
        }
        Ok(format)
    }
}

fn advice() -> String {
    "write envoy, istio, or a format string of Envoy, such as '[%START_TIME%] %REQ(X-CLIENT)%'"
        .to_owned()
}

/// Splits the text after a percent sign into the operator and the rest. An argument in parentheses can contain percent
/// signs.
fn operator(text: &str) -> Option<(&str, &str)> {
    let end = text.find('%')?;
    let end = match text.find('(').filter(|open| *open < end) {
        Some(open) => {
            let close = open + text[open..].find(')')?;
            close + text[close..].find('%')?
        }
        None => end,
    };
    Some((&text[..end], &text[end + 1..]))
}

/// Returns the name of an operator's field.
fn name(operator: &str) -> String {
    let (command, argument) = operator.split_once('(').unwrap_or((operator, ""));
    let argument = argument.split(')').next().unwrap_or_default();
    let plain = |text: &str| text.to_lowercase().replace(['-', ':', '.', ' '], "_");
    match command {
        "REQ" | "REQUEST_HEADER" => {
            // The alternative header, such as PATH, has the better known name.
            let header = argument.rsplit('?').next().unwrap_or_default();
            plain(header.trim_start_matches(':'))
        }
        "START_TIME" => "start_time".to_owned(),
        _ if argument.is_empty() => plain(command),
        _ => plain(&format!("{command}_{argument}")),
    }
}

impl Format {
    /// Appends text after the last field.
    fn push(&mut self, text: &str) {
        let last = self.fields.last_mut();
        last.map_or(&mut self.begin, |last| &mut last.1)
            .push_str(text);
    }

    /// Parses a line.
    pub(super) fn read<'a>(&'a self, line: &'a str) -> Result<Split<'a>, String> {
        let mut rest = line.strip_prefix(self.begin.as_str()).ok_or_else(|| {
            format!(
                "the line does not begin with {:?}; check --log-format",
                self.begin
            )
        })?;
        let mut fields = Vec::with_capacity(self.fields.len());
        for (index, (name, behind)) in self.fields.iter().enumerate() {
            let is_last = index + 1 == self.fields.len();
            let split = match is_last {
                true => rest.strip_suffix(behind.as_str()).map(|value| (value, "")),
                false => rest.split_once(behind.as_str()),
            };
            let (value, after) = split.ok_or_else(|| {
                format!("the line has no {behind:?} after the field {name}; check --log-format")
            })?;
            fields.push((name.as_str(), value));
            rest = after;
        }
        Ok(Split(fields))
    }
}

/// The fields of a line.
#[derive(Debug)]
pub(super) struct Split<'a>(Vec<(&'a str, &'a str)>);

impl Fields for Split<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(field, _)| *field == name)?;
        non_empty(value)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(field, _)| *field == name)
    }
}
