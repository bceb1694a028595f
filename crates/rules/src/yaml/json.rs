//! Converts all documents of a YAML text to JSON, for files such as Kubernetes manifests.

use serde_json::{Map, Number, Value};

use super::{Entry, Kind, Meaning, Node, parse};

/// Returns the documents of a YAML text as JSON, without empty ones.
///
/// # Errors
/// The first error, as a sentence with its line.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut documents = Vec::new();
    for (first_line, part) in parts(text) {
        let (document, flaws) = parse(&part);
        if let Some(flaw) = flaws.first() {
            let line = first_line + flaw.at.line;
            let what = flaw.what.trim_start_matches("error loading config file: ");
            return Err(format!("line {line}: {what}; {}", flaw.advice));
        }
        documents.extend(
            document
                .filter(|node| !node.is_null())
                .map(|node| json(&node)),
        );
    }
    Ok(documents)
}

/// Returns the texts between document markers, each with the number of lines before it.
///
/// Every line that begins with `---` is a marker, even inside a quoted text.
fn parts(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---");
        let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']))
        else {
            let (_, part) = parts.last_mut().expect("there is one from the start");
            part.push_str(line);
            part.push('\n');
            continue;
        };
        // Content may follow the marker; blanks preserve its column.
        parts.push((number, format!("   {rest}\n")));
    }
    parts
}

/// Converts a node. The parser bounds its depth. Keys that are not strings are converted to their text.
fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Map(entries) => Value::Object(map(entries)),
        Kind::List(elements) => elements.iter().map(|element| json(element)).collect(),
        Kind::Scalar(scalar) => match scalar.meaning() {
            Meaning::Null => Value::Null,
            Meaning::Bool(flag) => Value::Bool(flag),
            Meaning::Int(int) => Number::from_i128(int).map_or(Value::Null, Value::Number),
            Meaning::Float(float) => Number::from_f64(float).map_or(Value::Null, Value::Number),
            Meaning::Text => Value::String(scalar.text.clone()),
        },
    }
}

fn map(entries: &[Entry]) -> Map<String, Value> {
    let named = entries.iter().filter_map(|entry| {
        let key = entry.key.scalar()?;
        Some((key.text.clone(), json(&entry.value)))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::documents;

    #[test]
    fn every_document_is_read() {
        let text = "# first\na: 1\n---\n---\nb: |\n  c: 2\n  # not a marker:\n   ---\n--- {d: [x, 1.5, yes, ~]}\n...\n";
        let expected = vec![
            json!({"a": 1}),
            json!({"b": "c: 2\n# not a marker:\n ---\n"}),
            json!({"d": ["x", 1.5, true, null]}),
        ];
        assert_eq!(documents(text), Ok(expected));
        assert_eq!(documents(""), Ok(vec![]));
        assert_eq!(
            documents("{\"a\": {\"1\": \"b\"}}"),
            Ok(vec![json!({"a": {"1": "b"}})])
        );
    }

    #[test]
    fn mistakes_have_the_line_of_the_text() {
        for (text, line) in [
            ("a: 1\n---\nb: 1\nb: 2\n", "line 4: duplicate key"),
            ("a: [\n", "line "),
            ("---\na: 1\n--- \nb: 1\n\nb: 2\n", "line 6: duplicate key"),
        ] {
            let error = documents(text).unwrap_err();
            assert!(error.starts_with(line), "{text:?}: {error}");
        }
    }
}
