//! A connection that reconnects when it is lost.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Maximum time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time to wait before reconnecting.
pub(super) const BACK_OFF: Duration = Duration::from_millis(100);

/// Flow-control windows, so large that the server never waits for them.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 24;

type Driver = client::Connection<TcpStream, Bytes>;

/// A handle to a connection, for the thread that opened it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    state: Rc<RefCell<Result<SendRequest<Bytes>, String>>>,
}

impl Connection {
    /// Connects to `host:port`. The returned future drives the connection and must be polled. It reconnects whenever the
    /// connection is lost, and never completes.
    pub(super) async fn open(
        address: &str,
    ) -> anyhow::Result<(Self, impl Future<Output = ()> + use<>)> {
        let (sender, driver) = connect(address).await?;
        let state = Rc::new(RefCell::new(Ok(sender)));
        let keeper = keep(address.to_owned(), driver, Rc::clone(&state));
        Ok((Self { state }, keeper))
    }

    /// The sender of requests, or the reason why there is no connection.
    pub(super) fn sender(&self) -> Result<SendRequest<Bytes>, String> {
        self.state.borrow().clone()
    }
}

/// Drives a connection, and reconnects when it is lost.
async fn keep(
    address: String,
    mut driver: Driver,
    state: Rc<RefCell<Result<SendRequest<Bytes>, String>>>,
) {
    loop {
        let reason = match driver.await {
            Ok(()) => "the server closed the connection".to_owned(),
            Err(error) => format!("the connection was lost: {error}"),
        };
        *state.borrow_mut() = Err(reason);
        driver = loop {
            sleep(BACK_OFF).await;
            match connect(&address).await {
                Ok((sender, driver)) => {
                    *state.borrow_mut() = Ok(sender);
                    break driver;
                }
                Err(error) => *state.borrow_mut() = Err(format!("{error:#}")),
            }
        };
    }
}

async fn connect(address: &str) -> anyhow::Result<(SendRequest<Bytes>, Driver)> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        // Nagle's algorithm would delay the calls.
        stream.set_nodelay(true)?;
        let connection = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await?;
        anyhow::Ok(connection)
    };
    timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no response within {CONNECT_TIMEOUT:?}")))
        .with_context(|| format!("no server at {address}; is ratekeeper running there?"))
}
