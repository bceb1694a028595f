//! Threads that serve connections, each with a runtime of its own.
//!
//! A connection stays on the thread that it was handed to, and with it its requests, the queue that they
//! wait in and the way to Redis: no request wakes another thread. That costs less than a runtime that
//! moves tasks between threads; docs/performance.md has the figures.

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

/// Connections that wait for a worker to take them over. A worker does so between any two requests.
const MAX_WAITING: usize = 64;

/// What a worker does with its connections, until it is told to stop and has ended what it has begun.
pub type Serve = Box<dyn FnOnce(Incoming, Stop) -> LocalBoxFuture<'static, anyhow::Result<()>>>;

/// The connections of a worker.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<Connection>>>>;

/// Is over when a worker is to stop.
pub type Stop = LocalBoxFuture<'static, ()>;

/// Threads that serve, until they are dropped.
#[derive(Debug)]
pub struct Workers {
    connections: Vec<mpsc::Sender<Connection<Detached>>>,
    /// Dropped to have them end what they have begun, and no more.
    stop: watch::Sender<()>,
    /// Dropped to have them end at once. After `stop`, so that it lasts longer.
    cut: watch::Sender<()>,
    ends: JoinSet<anyhow::Result<()>>,
}

impl Workers {
    /// Starts so many threads. Each serves by what `serve` makes on it.
    ///
    /// # Errors
    /// When a thread or what it is to serve cannot be made.
    pub async fn start(
        count: NonZeroUsize,
        serve: impl Fn() -> anyhow::Result<Serve> + Clone + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (stop, _) = watch::channel(());
        let (cut, _) = watch::channel(());
        let mut workers = Self {
            connections: Vec::with_capacity(count.get()),
            stop,
            cut,
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
        let (connections, incoming) = mpsc::channel(MAX_WAITING);
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let mut stopping = self.stop.subscribe();
        let mut cut = self.cut.subscribe();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("a runtime for a worker cannot be made")?;
        let work = move || async move {
            let serve = match serve() {
                Ok(serve) => serve,
                Err(error) => {
                    // Whoever starts the workers waits for this.
                    let _ = ready.send(Err(error));
                    return Ok(());
                }
            };
            let _ = ready.send(Ok(()));
            let incoming = ReceiverStream::new(incoming).map(Connection::attach);
            let stop = async move { closed(&mut stopping).await };
            tokio::select! {
                served = serve(Box::pin(incoming), Box::pin(stop)) => served,
                () = closed(&mut cut) => Ok(()),
            }
        };
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                // Nobody waits any more when the server was told to stop at once.
                let _ = end.send(runtime.block_on(work()));
            })
            .context("a thread for a worker cannot be made")?;
        is_ready.await.context("a worker died at its start")??;
        self.connections.push(connections);
        self.ends
            .spawn(async { ended.await.context("a worker died")? });
        Ok(())
    }

    /// Hands connections out in turn, until a worker ends, which none should.
    ///
    /// # Errors
    /// Why a worker ended.
    pub async fn serve(
        &mut self,
        connections: impl Stream<Item = Connection>,
    ) -> anyhow::Result<()> {
        let Self {
            connections: workers,
            ends,
            ..
        } = self;
        let hand_out = async {
            let mut turns = workers.iter().cycle();
            tokio::pin!(connections);
            while let Some(connection) = connections.next().await {
                // What the operating system does not let go of is over.
                let Ok(connection) = connection.detach() else {
                    continue;
                };
                let worker = turns.next().expect("there is at least one worker");
                if worker.send(connection).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = hand_out => {}
            Some(end) = ends.join_next() => {
                end.context("a worker died")??;
            }
        }
        anyhow::bail!("a worker ended")
    }

    /// Lets the workers end what they have begun.
    ///
    /// # Errors
    /// When one of them failed.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        // Nobody listens to the old one but the workers.
        self.stop = watch::channel(()).0;
        while let Some(end) = self.ends.join_next().await {
            end.context("a worker died")??;
        }
        Ok(())
    }
}

/// Until the sender is gone.
async fn closed(receiver: &mut watch::Receiver<()>) {
    while receiver.changed().await.is_ok() {}
}
