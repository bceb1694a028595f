//! A headless Chromium, driven by WebDriver (<https://www.w3.org/TR/webdriver2/>).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::envoy::agent;
use super::{Process, eventually, root};

/// The JSON key under which WebDriver returns a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window and a temporary profile.
#[derive(Debug)]
pub struct Browser {
    agent: ureq::Agent,
    /// The URL of the WebDriver session.
    session: String,
    /// The name of the test, for files.
    name: &'static str,
    _driver: Process,
    _profile: TempDir,
}

/// A key that is not a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Moves the focus to the next element.
    Tab,
    /// Moves the focus to the previous element.
    BackTab,
    /// Activates a button or a link.
    Enter,
    /// Toggles a checkbox or a disclosure.
    Space,
}

impl Key {
    /// The WebDriver codes of the key and of the modifier held with it.
    fn codes(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Tab => ("\u{e004}", None),
            Self::BackTab => ("\u{e004}", Some("\u{e008}")),
            Self::Enter => ("\u{e007}", None),
            Self::Space => (" ", None),
        }
    }
}

impl Browser {
    /// Starts a browser for the test with this name.
    ///
    /// # Panics
    /// When the browser cannot be started.
    pub fn start(name: &'static str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Process::start(
            "chromedriver",
            Command::new("chromedriver")
                .arg("--port=0")
                // Files that Chromium writes outside of its profile go there, too.
                .env("HOME", profile.path())
                .env("TMPDIR", profile.path()),
        );
        let port = driver
            .wait_for("it listened", |line| {
                let (_, port) = line.split_once("started successfully on port ")?;
                port.trim_end_matches('.').parse::<u16>().ok()
            })
            .unwrap_or_else(|ended| panic!("{}", ended.report));
        let agent = agent();
        let url = format!("http://127.0.0.1:{port}/session");
        let opened = open_session(&agent, "POST", &url, Some(capabilities(profile.path())));
        let id = opened["sessionId"].as_str().unwrap();
        Self {
            session: format!("{url}/{id}"),
            agent,
            name,
            _driver: driver,
            _profile: profile,
        }
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.post("url", json!({ "url": url }));
    }

    /// Runs a script in the page and returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.run_with(script, &[])
    }

    /// Runs a script with arguments in the page and returns its result.
    pub fn run_with(&self, script: &str, arguments: &[Value]) -> Value {
        self.post("execute/sync", json!({"script": script, "args": arguments}))
    }

    /// Runs an asynchronous script in the page and returns the value that it passes to the callback, its last argument.
    pub fn run_until_called(&self, script: &str) -> Value {
        self.post("execute/async", json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Panics
    /// When the expression stays false.
    pub fn wait(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        eventually(expression, || self.run(&script) == true);
    }

    /// Waits until the text of an element equals `text`.
    pub fn wait_for_text(&self, css: &str, text: &str) {
        let is = format!(
            "document.querySelector({}).textContent.trim() === {}",
            json!(css),
            json!(text)
        );
        self.wait(&is);
    }

    /// The text of an element and its descendants.
    pub fn text(&self, css: &str) -> String {
        let script = "return document.querySelector(arguments[0]).textContent.trim()";
        let text = self.run_with(script, &[json!(css)]);
        text.as_str().unwrap().to_owned()
    }

    /// Clicks an element as with a mouse. Fails if the element cannot be scrolled into view or another one covers it.
    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/click"), json!({}));
    }

    /// Replaces the text of a field.
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/clear"), json!({}));
        self.post(&format!("element/{element}/value"), json!({"text": text}));
    }

    /// Types a text into the focused element.
    pub fn type_text(&self, text: &str) {
        let letters = text.chars().map(String::from);
        self.keys(letters.map(|letter| (letter, None)));
    }

    /// Presses a key in the focused element.
    pub fn press(&self, key: Key) {
        let (key, held) = key.codes();
        self.keys([(key.to_owned(), held)].into_iter());
    }

    /// Sets the size of the window, such as a phone's or a desktop's.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// Sets media features, such as `prefers-color-scheme`: `dark`.
    pub fn prefer(&self, features: &[(&str, &str)]) {
        let features: Vec<Value> = features
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
    }

    /// Minimizes the window, so that the page is hidden.
    pub fn minimize(&self) {
        self.post("window/minimize", json!({}));
    }

    /// Shows the window again.
    pub fn restore(&self) {
        self.post("window/rect", json!({"width": 1200, "height": 900}));
    }

    /// Messages in the console since the last call, without those of level debug.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", json!({"type": "browser"}));
        log.as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["level"] != "DEBUG")
            .map(|entry| format!("{}: {}", entry["level"], entry["message"]))
            .collect()
    }

    /// Saves a picture of the whole page under target/tmp/pictures.
    pub fn picture(&self, name: &str) {
        self.keep_picture(name).unwrap();
    }

    fn keep_picture(&self, name: &str) -> Result<PathBuf, Failure> {
        let whole = json!({"format": "png", "captureBeyondViewport": true});
        let drawn = self.ask(
            "POST",
            "goog/cdp/execute",
            Some(json!({"cmd": "Page.captureScreenshot", "params": whole})),
        )?;
        let png = STANDARD.decode(drawn["data"].as_str().unwrap_or_default())?;
        let directory = root().join("target/tmp/pictures");
        let path = directory.join(format!("{}-{name}.png", self.name));
        fs::create_dir_all(directory).and_then(|()| fs::write(&path, png))?;
        Ok(path)
    }

    fn keys(&self, keys: impl Iterator<Item = (String, Option<&'static str>)>) {
        let act = |kind: &str, key: &str| json!({"type": kind, "value": key});
        let mut actions = Vec::new();
        for (key, held) in keys {
            actions.extend(held.map(|held| act("keyDown", held)));
            actions.extend([act("keyDown", &key), act("keyUp", &key)]);
            actions.extend(held.map(|held| act("keyUp", held)));
        }
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.post("actions", json!({ "actions": [keyboard] }));
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("element", json!({"using": "css selector", "value": css}));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// Sends a command of the Chrome DevTools Protocol.
    fn devtools(&self, command: &str, parameters: Value) {
        self.post(
            "goog/cdp/execute",
            json!({"cmd": command, "params": parameters}),
        );
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.ask("POST", path, Some(body.clone()))
            .unwrap_or_else(|failure| panic!("{path} {body}: {failure}"))
    }

    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let url = match path {
            "" => self.session.clone(),
            path => format!("{}/{path}", self.session),
        };
        ask(&self.agent, method, &url, body)
    }
}

impl Drop for Browser {
    #[expect(clippy::print_stderr, reason = "a failed test is read by people")]
    fn drop(&mut self) {
        if thread::panicking() {
            match self.keep_picture("failed") {
                Ok(path) => eprintln!("--- what the browser showed: {}", path.display()),
                Err(failure) => eprintln!("--- the browser cannot be seen: {failure}"),
            }
        }
        // Killing the driver alone would leave the browser running.
        let _ = self.ask("DELETE", "", None);
    }
}

/// Why a WebDriver command failed.
type Failure = Box<dyn std::error::Error>;

fn capabilities(profile: &Path) -> Value {
    let arguments = [
        "--headless=new",
        // The sandbox does not work for root in a container.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        // Chromium connects to the page only.
        "--disable-background-networking",
        "--disable-component-update",
        "--no-proxy-server",
        &format!("--user-data-dir={}", profile.display()),
    ];
    json!({"capabilities": {"alwaysMatch": {
        "browserName": "chrome",
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": {"args": arguments},
    }}})
}

fn open_session(agent: &ureq::Agent, method: &str, url: &str, body: Option<Value>) -> Value {
    ask(agent, method, url, body)
        .unwrap_or_else(|failure| panic!("Chromium cannot be started ({failure}): run tests/setup"))
}

fn ask(
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    body: Option<Value>,
) -> Result<Value, Failure> {
    let request = http::Request::builder().method(method).uri(url);
    let request = request.header("content-type", "application/json");
    let body = body.map_or_else(String::new, |body| body.to_string());
    let mut answer = agent.run(request.body(body)?)?;
    let text = answer
        .body_mut()
        .with_config()
        .limit(1 << 26)
        .read_to_string()?;
    let mut response: Value = serde_json::from_str(&text)?;
    let value = response["value"].take();
    if answer.status().is_success() {
        Ok(value)
    } else {
        Err(Box::new(WebDriverError(value)))
    }
}

/// The error object of a WebDriver response.
#[derive(Debug)]
struct WebDriverError(Value);

impl fmt::Display for WebDriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0["error"], self.0["message"])
    }
}

impl std::error::Error for WebDriverError {}
