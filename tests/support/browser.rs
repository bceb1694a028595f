//! A real Chromium without a screen, driven by WebDriver as <https://www.w3.org/TR/webdriver2/> has it.

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

/// Under which name WebDriver tells of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window and a profile of its own.
#[derive(Debug)]
pub struct Browser {
    agent: ureq::Agent,
    /// Where the session is asked for things.
    session: String,
    /// Of whose test it is.
    name: &'static str,
    _driver: Process,
    _profile: TempDir,
}

/// A key that is no letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// To the next place.
    Tab,
    /// To the place before.
    BackTab,
    /// What a button or a link waits for.
    Enter,
    /// Opens and closes.
    Space,
}

impl Key {
    /// The key, and what is held down with it.
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
    /// Starts one for the test of this name.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &'static str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Process::start(
            "chromedriver",
            Command::new("chromedriver")
                .arg("--port=0")
                // What it keeps elsewhere than in its profile is kept there, too.
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
        let opened = told(&agent, "POST", &url, Some(capabilities(profile.path())));
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

    /// Runs a script in the page; what it returns is returned.
    pub fn run(&self, script: &str) -> Value {
        self.run_with(script, &[])
    }

    /// Runs a script with arguments.
    pub fn run_with(&self, script: &str, arguments: &[Value]) -> Value {
        self.post("execute/sync", json!({"script": script, "args": arguments}))
    }

    /// Runs a script that calls the last of its arguments with what it has to tell.
    pub fn run_until_called(&self, script: &str) -> Value {
        self.post("execute/async", json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn wait(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        eventually(expression, || self.run(&script) == true);
    }

    /// Waits until an element's text is this.
    pub fn wait_for_text(&self, css: &str, text: &str) {
        let is = format!(
            "document.querySelector({}).textContent.trim() === {}",
            json!(css),
            json!(text)
        );
        self.wait(&is);
    }

    /// The text of an element, and of what is in it.
    pub fn text(&self, css: &str) -> String {
        let script = "return document.querySelector(arguments[0]).textContent.trim()";
        let text = self.run_with(script, &[json!(css)]);
        text.as_str().unwrap().to_owned()
    }

    /// Clicks an element as with a mouse: it has to be in view, or come there, and nothing may be before it.
    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/click"), json!({}));
    }

    /// Types a text into a field that is emptied before.
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/clear"), json!({}));
        self.post(&format!("element/{element}/value"), json!({"text": text}));
    }

    /// Types a text where the focus is.
    pub fn type_text(&self, text: &str) {
        let letters = text.chars().map(String::from);
        self.keys(letters.map(|letter| (letter, None)));
    }

    /// Presses a key where the focus is.
    pub fn press(&self, key: Key) {
        let (key, held) = key.codes();
        self.keys([(key.to_owned(), held)].into_iter());
    }

    /// A window of this size, as of a phone or a desk.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// What somebody prefers, such as `prefers-color-scheme`: `dark`.
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

    /// Puts the window away, so that nobody can look at the page.
    pub fn minimize(&self) {
        self.post("window/minimize", json!({}));
    }

    /// Brings the window back.
    pub fn restore(&self) {
        self.post("window/rect", json!({"width": 1200, "height": 900}));
    }

    /// What has been written into the console since the last time, but for hints.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", json!({"type": "browser"}));
        log.as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["level"] != "DEBUG")
            .map(|entry| format!("{}: {}", entry["level"], entry["message"]))
            .collect()
    }

    /// Keeps a picture of the whole page among the files of the tests, for people to look at.
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

    /// What the developers' tools can and WebDriver cannot.
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
        // Without it, the driver would be killed and the browser would stay.
        let _ = self.ask("DELETE", "", None);
    }
}

/// Why WebDriver did not do what it was asked for.
type Failure = Box<dyn std::error::Error>;

fn capabilities(profile: &Path) -> Value {
    let arguments = [
        "--headless=new",
        // The tests may run as root, in a container, where it cannot have one.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        // It talks to nobody but the page.
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

fn told(agent: &ureq::Agent, method: &str, url: &str, body: Option<Value>) -> Value {
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
    let mut said: Value = serde_json::from_str(&text)?;
    let value = said["value"].take();
    if answer.status().is_success() {
        Ok(value)
    } else {
        Err(Box::new(Refusal(value)))
    }
}

/// What WebDriver says when it refuses.
#[derive(Debug)]
struct Refusal(Value);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0["error"], self.0["message"])
    }
}

impl std::error::Error for Refusal {}
