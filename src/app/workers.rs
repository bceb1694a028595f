//! Worker threads that serve connections, each with its own runtime.
//!
//! A connection stays on one thread, and with it its requests, their queue and the connections to Redis: no request
//! wakes another thread. That costs less than a runtime that moves tasks between threads; docs/performance.md has the
//! figures.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::thread;

use anyhow::Context as _;
use futures_util::future::LocalBoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};

use crate::service::{Connection, Detached};

/// Maximum number of connections that wait for a worker. A worker accepts them between any two requests.
const MAX_PENDING: usize = 64;

/// Serves the connections of a worker, until it must stop and its requests in flight have completed.
pub type Serve = Box<dyn FnOnce(Incoming, Stop) -> LocalBoxFuture<'static, anyhow::Result<()>>>;

/// Connections that a worker receives.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<Connection>>>>;

/// Completes when a worker must stop.
pub type Stop = LocalBoxFuture<'static, ()>;

/// Worker threads. They end when this value is dropped.
#[derive(Debug)]
pub struct Workers {
    connections: Vec<mpsc::Sender<Connection<Detached>>>,
    /// Dropped to let requests in flight complete and then end.
    stop: watch::Sender<()>,
    /// Dropped to end immediately. Declared after `stop`, so that it is dropped later.
    abort: watch::Sender<()>,
    ends: JoinSet<anyhow::Result<()>>,
}

impl Workers {
    /// Starts `count` threads. Each calls `serve` and serves with its result.
    ///
    /// # Errors
    /// A thread cannot be started, or `serve` fails.
    pub async fn start(
        count: NonZeroUsize,
        serve: impl Fn() -> anyhow::Result<Serve> + Clone + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (stop, _) = watch::channel(());
        let (abort, _) = watch::channel(());
        let mut workers = Self {
            connections: Vec::with_capacity(count.get()),
            stop,
            abort,
            ends: JoinSet::new(),
        };
        for number in 0..count.get() {
            workers.add(number, serve.clone()).await?;
        }
        Ok(workers)
    }

    async fn add(
        &mut self,
        number: usize,
        serve: impl Fn() -> anyhow::Result<Serve> + Send + 'static,
    ) -> anyhow::Result<()> {
        let (connections, incoming) = mpsc::channel(MAX_PENDING);
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let mut stopping = self.stop.subscribe();
        let mut abort = self.abort.subscribe();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime of a worker thread cannot be created")?;
        let work = move || async move {
            let serve = match serve() {
                Ok(serve) => serve,
                Err(error) => {
                    // The receiver is awaited below.
                    let _ = ready.send(Err(error));
                    return Ok(());
                }
            };
            let _ = ready.send(Ok(()));
            let incoming = ReceiverStream::new(incoming).map(Connection::attach);
            let stop = async move { closed(&mut stopping).await };
            tokio::select! {
                served = serve(Box::pin(incoming), Box::pin(stop)) => served,
                () = closed(&mut abort) => Ok(()),
            }
        };
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                // The receiver is gone if the server has stopped immediately.
                let _ = end.send(runtime.block_on(work()));
            })
            .context("a worker thread cannot be started")?;
        is_ready
            .await
            .context("a worker thread panicked while starting")??;
        self.connections.push(connections);
        self.ends
            .spawn(async { ended.await.context("a worker thread panicked")? });
        Ok(())
    }

    /// Distributes connections round-robin, until a worker ends, which is always an error.
    ///
    /// # Errors
    /// A worker ended.
    pub async fn serve(
        &mut self,
        connections: impl Stream<Item = Connection>,
    ) -> anyhow::Result<()> {
        let Self {
            connections: workers,
            ends,
            ..
        } = self;
        let distribute = async {
            let mut round_robin = workers.iter().cycle();
            tokio::pin!(connections);
            while let Some(connection) = connections.next().await {
                // An error means that the connection is closed.
                let Ok(connection) = connection.detach() else {
                    continue;
                };
                let worker = round_robin.next().expect("there is at least one worker");
                if worker.send(connection).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = distribute => {}
            Some(end) = ends.join_next() => {
                end.context("a worker thread panicked")??;
            }
        }
        anyhow::bail!("a worker thread ended")
    }

    /// Waits until the requests in flight have completed and the workers have ended.
    ///
    /// # Errors
    /// A worker failed.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        // Drops the sender, which stops the workers.
        self.stop = watch::channel(()).0;
        while let Some(end) = self.ends.join_next().await {
            end.context("a worker thread panicked")??;
        }
        Ok(())
    }
}

/// Waits until the sender is dropped.
async fn closed(receiver: &mut watch::Receiver<()>) {
    while receiver.changed().await.is_ok() {}
}
