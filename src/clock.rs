//! What time it is. Whatever needs the time is handed a [`Clock`], so that tests can own it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Micros;

/// Returns the current time.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// The clock of this machine.
#[must_use]
pub fn system() -> Clock {
    Arc::new(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the clock that is passed around"
        )]
        let now = SystemTime::now();
        // A clock before 1970 is wrong anyway; 0 keeps the server deciding until it is set.
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
