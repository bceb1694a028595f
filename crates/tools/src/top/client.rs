//! HTTP client of the debug port. Each query opens its own connection, so none has to be kept alive through a slow
//! port-forward.

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

/// Maximum time of a query.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// A client of a debug port.
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

    /// Returns the JSON document at a path.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let address = &self.address;
        timeout(TIMEOUT, self.answer(path))
            .await
            .unwrap_or_else(|_| {
                let seconds = TIMEOUT.as_secs();
                bail!("{address} did not respond within {seconds} s")
            })
    }

    async fn answer<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let address = &self.address;
        let socket = TcpStream::connect(address).await.with_context(|| {
            format!(
                "cannot reach {address}; check that the server is running and that --address is its debug port \
                 (DEBUG_PORT, 6070 by default)"
            )
        })?;
        let exchange = self.exchange(socket, path).await;
        let (status, body) = exchange.with_context(|| {
            format!(
                "{address} does not respond with HTTP/1.1; set --address to the debug port, 6070 by default"
            )
        })?;
        let not_ratekeeper = || {
            format!(
                "{address} is not the debug port of a ratekeeper with {path} (HTTP {}); set --address to the \
                 debug port, 6070 by default",
                status.as_u16()
            )
        };
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, answer) {
            (StatusCode::OK, Some(_)) => decode(&body),
            (_, Some(answer)) if answer["error"].is_string() => bail!(
                "{address} returned an error: {}",
                crate::harmless::plain(answer["error"].as_str().unwrap_or_default())
            ),
            _ => bail!(not_ratekeeper()),
        }
    }

    async fn exchange(
        &self,
        socket: TcpStream,
        path: &str,
    ) -> anyhow::Result<(StatusCode, bytes::Bytes)> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let request = Request::get(path)
            .header(header::HOST, self.address.as_str())
            .header(header::CONNECTION, "close")
            .body(Body::empty())?;
        let query = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = to_bytes(Body::new(response.into_body()), MAX_ANSWER).await?;
            anyhow::Ok((status, body))
        };
        // The connection must be polled, and can end before the response is read.
        tokio::pin!(query);
        tokio::select! {
            answer = &mut query => answer,
            ended = connection => {
                ended?;
                query.await
            }
        }
    }
}

/// Decodes a document of the admin API.
fn decode<T: DeserializeOwned>(text: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(text).map_err(|error| {
        anyhow::anyhow!(
            "cannot read the server's response: {error}; this program and the server have different versions"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratekeeper_api::admin::Status;

    #[test]
    fn another_version_is_reported() {
        let error = decode::<Status>(b"{\"version\": \"9\"}").unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("missing field `instance`")
                && error.contains("this program and the server have different versions"),
            "{error}"
        );
    }
}
