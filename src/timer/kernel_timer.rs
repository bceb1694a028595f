//! Timers of the kernel. The package ratekeeper-tools compiles this file, too.

use std::io;
#[cfg(target_os = "linux")]
use std::{fs::File, io::Read as _};

#[cfg(target_os = "linux")]
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
#[cfg(target_os = "linux")]
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// A timer of the kernel, which the runtime waits for as it waits for sockets.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Timer(AsyncFd<File>);

#[cfg(target_os = "linux")]
impl Timer {
    /// A timer of the current runtime, which must have its I/O enabled.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for the sake of types that may change their \
                      descriptor; a File keeps its one until it is dropped"
        )]
        let fd = AsyncFd::new(File::from(fd))?;
        Ok(Self(fd))
    }

    /// Sleeps until then; not at all when that is over.
    pub(crate) async fn sleep_until(&self, then: Instant) -> io::Result<()> {
        let rest = then.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        let it_value = Timespec::try_from(rest).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
        let it_interval = Timespec::default();
        let once = Itimerspec {
            it_interval,
            it_value,
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            // How often it went off, which is once.
            let mut times = [0; 8];
            if let Ok(read) = ready.try_io(|fd| fd.get_ref().read(&mut times)) {
                return read.map(drop);
            }
        }
    }
}

/// tokio's timer, on systems without a finer one.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    /// A timer.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    /// Sleeps until then; not at all when that is over.
    pub(crate) async fn sleep_until(&self, then: Instant) -> io::Result<()> {
        tokio::time::sleep_until(then).await;
        Ok(())
    }
}
