//! The thread that tells what others count: it answers Prometheus, and sends metrics and traces. The threads that
//! serve requests never wait for it, nor for whom it tells.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::metrics::{Metrics, Port};
use super::statsd::Sender;
use super::traces::{Traces, Tracing};
use super::{TelemetryError, TelemetrySettings};

/// The longest that telling the rest may take once the server has stopped.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest that traces may take of that; the last metrics come after them.
const PATIENCE_WITH_TRACES: Duration = Duration::from_secs(4);

/// The thread. Dropped, it ends at its next pause; [`end`](Self::end) waits for that.
#[derive(Debug)]
pub(super) struct Background {
    traces: Option<Traces>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

/// What it is to do.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) settings: TelemetrySettings,
    pub(super) metrics: Arc<Metrics>,
    pub(super) prometheus: Option<Port>,
}

impl Background {
    /// Starts the thread.
    pub(super) fn start(work: Work) -> Result<(Self, Tracing), TelemetryError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let Work {
            settings,
            metrics,
            prometheus,
        } = work;
        let (traces, tracing) = match &settings.traces {
            Some(traces) => match Traces::start(traces, runtime.handle()) {
                Ok((traces, tracing)) => (Some(traces), tracing),
                Err(error) => {
                    // To drop it otherwise would be to wait, which nobody may who is on a runtime.
                    runtime.shutdown_background();
                    return Err(error.into());
                }
            },
            None => (None, Tracing::default()),
        };
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let work = async move {
            let mut statsd = settings
                .statsd
                .map(|statsd| Sender::new(statsd, Arc::clone(&metrics)));
            tokio::select! {
                () = scrapes(prometheus, &settings.prometheus_path, &metrics) => {}
                () = flushes(statsd.as_mut()) => {}
                // Also when nobody is left to say so.
                _ = stopped => {}
            }
            if let Some(statsd) = &mut statsd {
                statsd.flush().await;
            }
        };
        thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || {
                runtime.block_on(work);
                // Nobody waits any more when the server was told to stop at once.
                let _ = end.send(());
            })?;
        let background = Self {
            traces,
            stop,
            ended,
        };
        Ok((background, tracing))
    }

    /// Tells the rest, then ends; takes five seconds at most.
    pub(super) async fn end(self) {
        let Self {
            traces,
            stop,
            ended,
        } = self;
        let rest = async {
            if let Some(traces) = traces {
                // It blocks, and the thread must go on meanwhile: it sends them.
                let sent = tokio::task::spawn_blocking(move || traces.end(PATIENCE_WITH_TRACES));
                // It fails if it panics, which is told already.
                let _ = sent.await;
            }
            // It has ended already when nobody listens.
            let _ = stop.send(());
            let _ = ended.await;
        };
        if tokio::time::timeout(PATIENCE, rest).await.is_err() {
            tracing::warn!("the last metrics and traces could not be told in {PATIENCE:?}");
        }
    }
}

/// Answers Prometheus, if it is listened for.
async fn scrapes(port: Option<Port>, path: &str, metrics: &Arc<Metrics>) {
    if let Some(port) = port
        && let Err(error) = port.serve(path, Arc::clone(metrics)).await
    {
        tracing::error!(%error, "metrics are no longer told to Prometheus; restart the server");
    }
    std::future::pending().await
}

/// Sends metrics to the daemon, if there is one.
async fn flushes(statsd: Option<&mut Sender>) {
    match statsd {
        Some(statsd) => statsd.run().await,
        None => std::future::pending().await,
    }
}
