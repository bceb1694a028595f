//! Checks every second whether the sentinels report another master. This is for existing connections: a master
//! that is cut off from its sentinels keeps replying.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::connection::Connector;
use super::redis_error::describe;
use super::sentinel::{CHECK_EVERY, Sentinels};
use super::settings::{RedisSettings, Topology};

/// A task that checks the master until this value is dropped.
#[derive(Debug)]
pub(super) struct MasterWatch(JoinHandle<()>);

impl MasterWatch {
    /// Starts the task if the topology has sentinels.
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
        // Before the first connection, there is no connection to an old master.
        let Some(master) = sentinels.master().filter(|_| sentinels.is_due()) else {
            continue;
        };
        if sentinels.named().await != Some(master) {
            // A connection to a server that confirms to be the master updates the known master, and
            // connections to the old one are not used again. If there is no such server yet, the next
            // check follows soon.
            let opened = connector.open_to_master(&sentinels);
            if let Ok(Err(error)) = timeout(CHECK_EVERY, opened).await {
                let error = describe(&error);
                tracing::debug!(
                    error,
                    "sentinels report another master, but it is not available yet"
                );
            }
        }
    }
}
