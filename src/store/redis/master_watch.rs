//! Looks about every second whether the sentinels name another master, for the sake of connections that
//! have not been told: a master that is cut off from its sentinels goes on answering.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::connection::Connector;
use super::redis_error::describe;
use super::sentinel::{CHECK_EVERY, Sentinels};
use super::settings::{RedisSettings, Topology};

/// The task that looks, for as long as this is held.
#[derive(Debug)]
pub(super) struct MasterWatch(JoinHandle<()>);

impl MasterWatch {
    /// Starts to look, if there are sentinels to ask.
    pub(super) fn start(settings: &RedisSettings, connector: &Connector) -> Option<Self> {
        let Topology::Sentinel(sentinels) = &settings.topology else {
            return None;
        };
        let watch = watch(Arc::clone(sentinels), connector.clone());
        Some(Self(tokio::spawn(watch)))
    }
}

impl Drop for MasterWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(sentinels: Arc<Sentinels>, connector: Connector) {
    let mut ticks = interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Until somebody needed a connection, there is none to a master that is left.
        let Some(master) = sentinels.master().filter(|_| sentinels.is_due()) else {
            continue;
        };
        if sentinels.named().await != Some(master) {
            // A connection to another one that says it is the master makes it known, and the old ones are not used
            // any more. When there is none yet, the next look comes soon.
            let opened = connector.open_to_master(&sentinels);
            if let Ok(Err(error)) = timeout(CHECK_EVERY, opened).await {
                let error = describe(&error);
                tracing::debug!(
                    error,
                    "the sentinels name another master, but there is none yet"
                );
            }
        }
    }
}
