//! A timer for hyper whose clock is cheap to read.
//!
//! With keep-alive, hyper reads the clock for each frame. The kernel's coarse clock costs a third of the exact one and is a few
//! milliseconds late, which does not matter for intervals of seconds.

use std::pin::Pin;
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;

/// A timer that sleeps as tokio does, and reads a coarse clock.
#[derive(Debug, Clone)]
pub(crate) struct CoarseTimer {
    tokio: TokioTimer,
    /// The same moment on both clocks.
    start: (Instant, Duration),
}

impl CoarseTimer {
    pub(crate) fn new() -> Self {
        Self {
            tokio: TokioTimer::new(),
            start: (Instant::now(), coarse_time()),
        }
    }
}

impl Timer for CoarseTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.tokio.sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.tokio.sleep_until(deadline)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        self.tokio.reset(sleep, deadline);
    }

    fn now(&self) -> Instant {
        let (instant, coarse) = self.start;
        instant + coarse_time().saturating_sub(coarse)
    }
}

/// The time of the coarse clock, from an arbitrary start.
#[cfg(target_os = "linux")]
fn coarse_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    Duration::try_from(now).unwrap_or_default()
}

/// The time since the first call: other systems have no coarse clock.
#[cfg(not(target_os = "linux"))]
fn coarse_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_follows_the_exact_one() {
        let timer = CoarseTimer::new();
        let mut last = timer.now();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(50) {
            let now = timer.now();
            assert!(now >= last, "it never steps back");
            last = now;
        }
        let lag = Instant::now().saturating_duration_since(timer.now());
        assert!(lag < Duration::from_secs(1), "{lag:?}");
        assert!(last > begin, "it advances");
    }
}
