//! Requests to read the files again.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Requests that the files be read again. Requests that arrive before that happens are one.
#[derive(Debug, Clone)]
pub struct Poke(SyncSender<()>);

impl Poke {
    pub(super) fn channel() -> (Self, Receiver<()>) {
        let (sender, receiver) = sync_channel(1);
        (Self(sender), receiver)
    }

    /// Requests that the files be read again.
    pub fn poke(&self) {
        // It fails when a request is pending already, or when the thread has ended.
        let _ = self.0.try_send(());
    }
}
