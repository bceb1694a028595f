//! Timers finer than a millisecond. tokio's timers count whole milliseconds and round up, so a deadline kept by them is
//! up to two milliseconds late: a tenth of the time that Envoy waits by default.

mod coarse;
mod deadlines;
mod kernel_timer;

pub(crate) use coarse::CoarseTimer;
pub(crate) use deadlines::{Deadlines, DeadlinesHandle};
use kernel_timer::Timer;
