//! A connection that comes back when it is lost.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before a lost connection is made again.
pub(super) const BACK_OFF: Duration = Duration::from_millis(100);

/// What may be in flight towards us before the server has to wait: so much that it never does.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 24;

type Driver = client::Connection<TcpStream, Bytes>;

/// A handle to a connection, for the thread that it was made in.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    state: Rc<RefCell<Result<SendRequest<Bytes>, String>>>,
}

impl Connection {
    /// Connects to `host:port`. The connection lives while the future in the second place is
    /// polled, which makes it anew whenever it is lost, and never ends.
    pub(super) async fn open(
        address: &str,
    ) -> anyhow::Result<(Self, impl Future<Output = ()> + use<>)> {
        let (sender, driver) = connect(address).await?;
        let state = Rc::new(RefCell::new(Ok(sender)));
        let keeper = keep(address.to_owned(), driver, Rc::clone(&state));
        Ok((Self { state }, keeper))
    }

    /// What sends requests, or why nothing does.
    pub(super) fn sender(&self) -> Result<SendRequest<Bytes>, String> {
        self.state.borrow().clone()
    }
}

/// Polls a connection while it lasts, then makes it anew, and so on.
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
        // Nagle's algorithm would hold back what is to be measured.
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
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {CONNECT_TIMEOUT:?}")))
        .with_context(|| format!("no server at {address}; is ratekeeper running there?"))
}
