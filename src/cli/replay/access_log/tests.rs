//! What is made of lines. That a real Envoy's are read is tested in `tests/rehearsal.rs`.

use serde_json::json;

use super::*;

fn log(descriptors: &[&str]) -> AccessLog {
    AccessLog {
        domain: "mesh".to_owned(),
        descriptors: descriptors
            .iter()
            .map(|text| template(text).unwrap())
            .collect(),
        hits: None,
        time: None,
        format: None,
    }
}

/// The descriptors of a line, as they are descriptor_text.
fn descriptors(log: &AccessLog, line: &str) -> Vec<String> {
    let read = log.read(line).unwrap();
    let descriptors = read
        .into_iter()
        .flat_map(|recorded| recorded.request.descriptors);
    descriptors
        .map(|descriptor| {
            let entries = descriptor.entries.iter();
            let entries = entries.map(|entry| format!("{}={}", entry.key, entry.value));
            entries.collect::<Vec<_>>().join(",")
        })
        .collect()
}

#[test]
fn fields_become_entries() {
    let line = json!({
        "start_time": "2025-11-24T21:38:54.500Z", "method": "GET", "path": "/a?b=c",
        "downstream_remote_address": "[2001:db8::1]:443", "x_forwarded_for": "192.0.2.1, 10.0.0.1",
        "authority": "Example.com", "user_agent": null, "referer": "-", "status": 200,
        "request": {"headers": {"x-user": "ann"}},
    })
    .to_string();
    for (template, expected) in [
        ("path={path}", &["path=/a?b=c"][..]),
        ("path={path|no_query},verb={method}", &["path=/a,verb=GET"]),
        (
            "address={downstream_remote_address|host}",
            &["address=2001:db8::1"],
        ),
        ("address={x_forwarded_for|first}", &["address=192.0.2.1"]),
        ("address={x_forwarded_for|last}", &["address=10.0.0.1"]),
        ("host={authority|lower}", &["host=example.com"]),
        ("user={request.headers.x-user}", &["user=ann"]),
        ("all=v1 {method} {status}!", &["all=v1 GET 200!"]),
        ("generic_key=", &["generic_key="]),
        // What says nothing makes no descriptor, as in Envoy.
        ("agent={user_agent}", &[]),
        ("from={referer}", &[]),
        ("nothing={unknown}", &[]),
    ] {
        assert_eq!(
            descriptors(&log(&[template]), &line),
            expected,
            "{template}"
        );
    }
    let two = log(&["path={path}", "agent={user_agent}", "verb={method}"]);
    assert_eq!(descriptors(&two, &line), ["path=/a?b=c", "verb=GET"]);
}

#[test]
fn envoys_flags_are_the_answer() {
    let log = log(&["k=v"]);
    let code = |flags: Value| {
        let line = json!({"time": 1, "response_flags": flags}).to_string();
        log.read(&line)
            .unwrap()
            .unwrap()
            .answer
            .map(|answer| answer.code)
    };
    assert_eq!(code(json!("RL")), Some(Code::OverLimit));
    assert_eq!(code(json!("UF,RL")), Some(Code::OverLimit));
    assert_eq!(code(json!("-")), Some(Code::Ok));
    assert_eq!(code(Value::Null), Some(Code::Ok));
    let without = log.read(r#"{"time":1}"#).unwrap().unwrap();
    assert_eq!(without.answer, None);
}

#[test]
fn hits_and_times_are_where_they_are_said_to_be() {
    let log = AccessLog {
        hits: Some("bytes_sent".to_owned()),
        time: Some("when".to_owned()),
        ..log(&["k=v"])
    };
    let read = log
        .read(r#"{"when":"7.5","bytes_sent":30}"#)
        .unwrap()
        .unwrap();
    assert_eq!((read.time, read.request.hits_addend), (7_500_000, 30));
    for (line, expected) in [
        (r#"{"time":1,"bytes_sent":30}"#, "no field \"when\""),
        (r#"{"when":1,"bytes_sent":-30}"#, "not a whole number"),
        ("[1]", "not a JSON object"),
        ("GET /", "--log-format"),
    ] {
        let mistake = log.read(line).unwrap_err();
        assert!(mistake.contains(expected), "{line}: {mistake}");
    }
}

#[test]
fn text_is_taken_apart_by_its_format() {
    let text = "[2025-11-24T21:38:54.500Z] \"GET /a?b HTTP/1.1\" 429 RL 0 5 7 - \"192.0.2.1\" \"curl/8 (x y)\" \
        \"6b2f\" \"example.com\" \"-\"";
    let mut log = log(&["path={path|no_query},agent={user_agent}"]);
    log.format = Some(format("envoy").unwrap());
    assert_eq!(descriptors(&log, text), ["path=/a,agent=curl/8 (x y)"]);
    let read = log.read(text).unwrap().unwrap();
    assert_eq!(read.time, 1_764_020_334_500_000);
    assert_eq!(read.answer.unwrap().code, Code::OverLimit);
    let istio = "[2025-11-24T21:38:54.500Z] \"GET /a HTTP/1.1\" 200 - via_upstream - \"-\" 0 5 7 6 \"-\" \"curl/8\" \
        \"6b2f\" \"example.com\" \"10.0.0.2:80\" outbound|80||x 10.0.0.3:1 10.0.0.4:2 10.0.0.5:3 - default";
    log.format = Some(format("istio").unwrap());
    log.descriptors = vec![template("address={downstream_remote_address|host}").unwrap()];
    assert_eq!(descriptors(&log, istio), ["address=10.0.0.5"]);
    assert!(
        log.read("GET /")
            .unwrap_err()
            .contains("does not begin with")
    );
    assert!(
        log.read("[2025-11-24T21:38:54.500Z] x")
            .unwrap_err()
            .contains("after the field")
    );
}

#[test]
fn a_format_of_ones_own_is_read() {
    let mut log = log(&["c={x_client}"]);
    log.format = Some(
        format("100%% %START_TIME(%s.%3f)% %REQ(X-Client):10% %DYNAMIC_METADATA(a:b)%\\n")
            .unwrap_or_else(|error| panic!("{error}")),
    );
    assert_eq!(descriptors(&log, "100% 12.500 ann more"), ["c=ann"]);
}

#[test]
fn wrong_templates_and_formats_are_refused_with_advice() {
    for (text, expected) in [
        ("client", "key=value"),
        ("a={", "without a }"),
        ("a={}", "names no field"),
        ("a={b|upper}", "write one of host"),
    ] {
        let mistake = template(text).unwrap_err();
        assert!(mistake.contains(expected), "{text}: {mistake}");
    }
    for (text, expected) in [
        ("", "format string"),
        ("json", "format string"),
        ("%A", "format string"),
        ("%A%%B%", "no text between them"),
    ] {
        let mistake = format(text).unwrap_err();
        assert!(mistake.contains(expected), "{text}: {mistake}");
    }
}
