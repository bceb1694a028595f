//! A client of an HTTP port of the server.

use std::net::SocketAddr;

use ureq::http;

use super::envoy::agent;

/// An HTTP port.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    agent: ureq::Agent,
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// The content type; empty when the header is missing.
    pub kind: String,
    /// The body.
    pub body: String,
}

impl Http {
    /// A client of the port at an address.
    pub fn at(address: SocketAddr) -> Self {
        let agent = agent();
        Self { address, agent }
    }

    /// The address of the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a GET request.
    pub fn get(&self, path: &str) -> Page {
        self.send("GET", path, "")
    }

    /// Sends a request with a body.
    ///
    /// # Panics
    /// When there is no response.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Page {
        self.send_with(method, path, &[], body)
    }

    /// Sends a request with headers and a body.
    ///
    /// # Panics
    /// When there is no response.
    pub fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Page {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = match body {
            "" => self.agent.run(request.body(()).unwrap()),
            body => self.agent.run(request.body(body).unwrap()),
        };
        let mut response = sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let kind = response.headers().get("content-type");
        Page {
            status: response.status().as_u16(),
            kind: kind.map_or("", |kind| kind.to_str().unwrap()).to_owned(),
            body: response.body_mut().read_to_string().unwrap(),
        }
    }
}
