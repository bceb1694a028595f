//! A client of the admin API that validates every response against the server's OpenAPI document.

use jsonschema::Validator;
use serde_json::{Value, json};
use ureq::http;

use super::Ratekeeper;
use super::envoy::agent;

/// The token of servers that are started with [`Api::environment`].
const TOKEN: &str = "open-sesame-0123456789";

/// A client of the admin API that has the token.
#[derive(Debug)]
pub struct Api {
    root: String,
    agent: ureq::Agent,
    /// The OpenAPI document, changed so that it rejects fields that it does not describe.
    document: Value,
}

impl Api {
    /// A client of the server's admin API.
    ///
    /// # Panics
    /// When the server does not serve an OpenAPI document.
    pub fn of(server: &Ratekeeper) -> Self {
        let page = server.debug().get("/api/v1/openapi.json");
        assert_eq!(
            (page.status, page.kind.as_str()),
            (200, "application/json; charset=utf-8")
        );
        let mut document: Value = serde_json::from_str(&page.body).unwrap();
        close(&mut document["components"]["schemas"]);
        Self {
            root: format!("http://{}/api/v1", server.debug().address()),
            agent: agent(),
            document,
        }
    }

    /// The environment variable that makes a server accept changes with the token.
    pub fn environment() -> (&'static str, &'static str) {
        ("ADMIN_TOKEN", TOKEN)
    }

    /// Sends a GET request and returns the body.
    ///
    /// # Panics
    /// When the status is not 200.
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask(path);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Sends a GET request and returns the status and the body.
    pub fn ask(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, &[], "")
    }

    /// Sends a POST request with the token and returns the body.
    ///
    /// # Panics
    /// When the status is not 200.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.try_post(path, body);
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    /// Sends a POST request with the token and returns the status and the body.
    pub fn try_post(&self, path: &str, body: &Value) -> (u16, Value) {
        let token = format!("Bearer {TOKEN}");
        let headers = [
            ("authorization", token.as_str()),
            ("content-type", "application/json"),
        ];
        self.send("POST", path, &headers, &body.to_string())
    }

    /// Sends a request and returns the status and the body.
    ///
    /// # Panics
    /// When the response does not match the OpenAPI document.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.root));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = match body {
            "" => self.agent.run(request.body(()).unwrap()),
            body => self.agent.run(request.body(body).unwrap()),
        };
        let mut response = sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        for (name, value) in [
            ("content-type", "application/json; charset=utf-8"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(response.headers()[name], value, "{method} {path}");
        }
        let names = response.headers().keys();
        let cors: Vec<_> = names
            .filter(|name| name.as_str().starts_with("access-control"))
            .collect();
        assert_eq!(cors, Vec::<&http::HeaderName>::new());
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(1 << 28)
            .read_to_string()
            .unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        self.check(method, path, status, &answer);
        (status, answer)
    }

    fn check(&self, method: &str, path: &str, status: u16, answer: &Value) {
        let shown = format!("{method} {path} {status}: {answer:#}");
        let path = path.split('?').next().unwrap();
        let operations = &self.document["paths"][path];
        let (operation, is_described) = match &operations[method.to_lowercase()] {
            // Unknown paths and methods have error bodies of the same schema.
            Value::Null => (&json!({}), false),
            operation => (operation, true),
        };
        let response = &operation["responses"][status.to_string()];
        let schema = match is_described {
            true => response["content"]["application/json"]["schema"].clone(),
            false => json!({"$ref": "#/components/schemas/Error"}),
        };
        assert!(schema.is_object(), "not described: {shown}");
        assert!(is_described || [404, 405].contains(&status), "{shown}");
        let errors: Vec<String> = self
            .validator(schema)
            .iter_errors(answer)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:?}: {shown}");
    }

    fn validator(&self, mut schema: Value) -> Validator {
        schema["components"] = self.document["components"].clone();
        jsonschema::draft202012::new(&schema).unwrap()
    }

    /// The only bucket of a response.
    ///
    /// # Panics
    /// When the response has no bucket or several.
    pub fn bucket(answer: &Value) -> &Value {
        let buckets = answer["buckets"].as_array().unwrap();
        assert_eq!(buckets.len(), 1, "{answer:#}");
        &buckets[0]
    }
}

/// Makes a schema reject object fields that it does not describe.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            if fields.contains_key("required") && fields.contains_key("properties") {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Value::Array(all) => all.iter_mut().for_each(close),
        _ => {}
    }
}
