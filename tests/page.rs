//! The admin page in a real browser, on a server with real traffic.
//!
//! Nothing may be written into the console: not a refusal of the Content-Security-Policy, and no error. The pictures
//! that are taken (target/tmp/pictures) are for people to look at.

mod access;
mod buckets;
mod hostile;
mod many;
mod numbers;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::Runtime;

use crate::support::{Backend, Browser, Ratekeeper, Redis, Scrape, ask};

/// The views, and what each is about.
pub(crate) const VIEWS: [&str; 6] = [
    "overview",
    "rules",
    "top",
    "bucket",
    "explain",
    "configuration",
];

/// A phone that is not large.
pub(crate) const PHONE: (u32, u32) = (360, 740);
pub(crate) const DESK: (u32, u32) = (1200, 900);

/// The stores of which the page tells something different.
pub(crate) fn stores() -> [Backend; 2] {
    [Backend::Memory, Backend::Redis(Redis::start())]
}

/// A server with these rules that also tells its metrics.
pub(crate) fn server(rules: &str, backend: &Backend, more: &[(&'static str, &str)]) -> Ratekeeper {
    let own: Vec<_> = [more, &Scrape::environment()]
        .concat()
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
    Ratekeeper::start(rules, own.into_iter().chain(backend.environment()))
}

/// A browser that shows a view of the page.
pub(crate) fn visit(name: &'static str, server: &Ratekeeper, view: &str) -> Browser {
    let browser = Browser::start(name);
    browser.resize(DESK.0, DESK.1);
    browser.open(&format!("http://{}/#{view}", server.debug().address()));
    browser.wait("document.querySelector('.view:not([hidden])')");
    browser
}

/// Goes to a view as by a link.
pub(crate) fn go(browser: &Browser, view: &str) {
    browser.run_with("location.hash = arguments[0]", &[view.into()]);
    let name = view.split('?').next().unwrap();
    browser.wait(&format!("!document.getElementById('{name}').hidden"));
}

/// Nothing was written into the console.
pub(crate) fn is_silent(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Requests that go on until this is dropped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    sending: Option<JoinHandle<()>>,
}

impl Traffic {
    /// Asks a server for these descriptors in turn, again and again.
    pub(crate) fn start(server: &Ratekeeper, domain: &str, descriptors: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let requests: Vec<_> = descriptors
            .iter()
            .map(|descriptor| ask(domain, &[descriptor]))
            .collect();
        let runtime = Runtime::new().unwrap();
        let mut client = runtime.block_on(server.client());
        let stopped = Arc::clone(&stop);
        let sending = thread::spawn(move || {
            for request in requests.iter().cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // A server that is stopped on purpose answers nobody.
                let _ = runtime.block_on(client.should_rate_limit(request.clone()));
            }
        });
        let sending = Some(sending);
        Self { stop, sending }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sending) = self.sending.take() {
            let _ = sending.join();
        }
    }
}
