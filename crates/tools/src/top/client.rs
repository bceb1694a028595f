//! Asks the debug port: one question, one connection, so that nothing is to be kept alive over a slow shell.

use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;

/// A debug port.
#[derive(Debug)]
pub(super) struct Client {
    address: String,
}

impl Client {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    /// What is at a path, which must be JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let address = &self.address;
        timeout(PATIENCE, self.answer(path))
            .await
            .unwrap_or_else(|_| {
                let seconds = PATIENCE.as_secs();
                bail!("{address} did not answer within {seconds} s")
            })
    }

    async fn answer<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let address = &self.address;
        let socket = TcpStream::connect(address).await.with_context(|| {
            format!(
                "{address} cannot be reached; is the server running, and is this its debug port \
                 (--address, by default that of DEBUG_PORT, 6070)?"
            )
        })?;
        let speak = self.speak(socket, path).await;
        let (status, body) = speak.with_context(|| {
            format!(
                "{address} does not speak HTTP/1.1; give --address the debug port, 6070 by default"
            )
        })?;
        let stranger = || {
            format!(
                "{address} is not the debug port of a ratekeeper that knows {path} (HTTP {}); give \
                 --address the debug port, 6070 by default",
                status.as_u16()
            )
        };
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, answer) {
            (StatusCode::OK, Some(_)) => decode(&body),
            (_, Some(answer)) if answer["error"].is_string() => bail!(
                "{address} answered: {}",
                crate::harmless::plain(answer["error"].as_str().unwrap_or_default())
            ),
            _ => bail!(stranger()),
        }
    }

    async fn speak(
        &self,
        socket: TcpStream,
        path: &str,
    ) -> anyhow::Result<(StatusCode, bytes::Bytes)> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let request = Request::get(path)
            .header(header::HOST, self.address.as_str())
            .header(header::CONNECTION, "close")
            .body(Body::empty())?;
        let asking = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = to_bytes(Body::new(response.into_body()), MAX_ANSWER).await?;
            anyhow::Ok((status, body))
        };
        // The connection moves only while it is polled; it may end before the answer is looked at.
        tokio::pin!(asking);
        tokio::select! {
            answer = &mut asking => answer,
            ended = connection => {
                ended?;
                asking.await
            }
        }
    }
}

/// Decodes a document of the admin API.
fn decode<T: DeserializeOwned>(text: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(text).map_err(|error| {
        anyhow::anyhow!(
            "the server's answer cannot be read: {error}; this program and the server are of different versions"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratekeeper_api::admin::Status;

    #[test]
    fn another_version_is_told_of() {
        let error = decode::<Status>(b"{\"version\": \"9\"}").unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("missing field `instance`")
                && error.contains("this program and the server are of different versions"),
            "{error}"
        );
    }
}
