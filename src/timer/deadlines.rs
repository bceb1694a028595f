//! Many deadlines on one timer.

use std::collections::BTreeMap;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Timer;

/// Deadlines of the tasks of one runtime, kept to some 0.1 ms. The task that wakes those whose deadline has come ends when
/// this is dropped.
///
/// The timer is armed only for a deadline that is sooner than the one that it is armed for. Most requests are answered in
/// time: their deadlines come and go without a system call.
#[derive(Debug)]
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Notified when the timer must be armed for a sooner deadline.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Wakers by deadline. The number distinguishes equal deadlines.
    wakers: BTreeMap<(Instant, u64), Waker>,
    last: u64,
    /// What the timer is armed for.
    armed: Option<Instant>,
}

impl Deadlines {
    /// Deadlines on the current runtime.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let timer = FineTimer::new();
        let task = tokio::spawn(run(Arc::clone(&shared), timer));
        Self { shared, task }
    }

    /// A handle for those who wait.
    pub(crate) fn handle(&self) -> DeadlinesHandle {
        DeadlinesHandle(Arc::clone(&self.shared))
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for deadlines, for as long as the [`Deadlines`] exist that it is of.
#[derive(Debug, Clone)]
pub(crate) struct DeadlinesHandle(Arc<Shared>);

impl DeadlinesHandle {
    /// The output of a future, or `None` if it has none by the deadline.
    pub(crate) async fn timeout_at<F: Future>(
        self,
        deadline: Instant,
        future: F,
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut entry = Entry {
            shared: self.0,
            key: None,
        };
        poll_fn(move |cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if entry.wait(deadline, cx) => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Waits until then.
    pub(crate) async fn sleep_until(self, then: Instant) {
        self.timeout_at(then, pending::<()>()).await;
    }
}

/// A deadline that is waited for, until it is dropped.
struct Entry {
    shared: Arc<Shared>,
    key: Option<(Instant, u64)>,
}

impl Entry {
    /// Has a task woken when the deadline comes; false if it has come.
    fn wait(&mut self, deadline: Instant, cx: &Context<'_>) -> bool {
        if deadline <= Instant::now() {
            return false;
        }
        let mut waiting = self.shared.waiting();
        let key = self.key.unwrap_or_else(|| {
            waiting.last += 1;
            (deadline, waiting.last)
        });
        self.key = Some(key);
        waiting.wakers.insert(key, cx.waker().clone());
        if waiting.armed.is_none_or(|armed| deadline < armed) {
            waiting.armed = Some(deadline);
            drop(waiting);
            self.shared.sooner.notify_one();
        }
        true
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.waiting().wakers.remove(&key);
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those whose deadline has come. Returns the next deadline.
    fn wake(&self) -> Option<Instant> {
        let mut waiting = self.waiting();
        let now = Instant::now();
        let later = waiting.wakers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut waiting.wakers, later);
        waiting.armed = waiting.wakers.first_key_value().map(|((next, _), _)| *next);
        let next = waiting.armed;
        drop(waiting);
        // Not under the lock: those who are woken may take it.
        due.into_values().for_each(Waker::wake);
        next
    }
}

async fn run(shared: Arc<Shared>, timer: FineTimer) {
    loop {
        let sooner = shared.sooner.notified();
        match shared.wake() {
            None => sooner.await,
            Some(next) => tokio::select! {
                biased;
                () = sooner => {}
                () = timer.sleep_until(next) => {}
            },
        }
    }
}

/// The kernel's timer, or tokio's: where there is none, where the process has no descriptor left for it, and in unit tests,
/// whose clock is the runtime's.
#[derive(Debug)]
struct FineTimer(Option<Timer>);

impl FineTimer {
    fn new() -> Self {
        match cfg!(test) {
            true => Self(None),
            false => Self(Timer::new().ok()),
        }
    }

    async fn sleep_until(&self, then: Instant) {
        if let Self(Some(timer)) = self
            && timer.sleep_until(then).await.is_ok()
        {
            return;
        }
        tokio::time::sleep_until(then).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn each_is_woken_at_its_own_deadline() {
        let deadlines = Deadlines::start();
        let begin = Instant::now();
        let mut sleepers = tokio::task::JoinSet::new();
        for ms in [30, 10, 20, 10] {
            let handle = deadlines.handle();
            sleepers.spawn(async move {
                handle.sleep_until(begin + ms * MS).await;
                (ms, begin.elapsed())
            });
        }
        let mut slept = sleepers.join_all().await;
        slept.sort();
        assert_eq!(slept.len(), 4);
        for (ms, elapsed) in slept {
            assert!(
                (ms * MS..=(ms + 1) * MS).contains(&elapsed),
                "{ms}: {elapsed:?}"
            );
        }
        assert!(deadlines.shared.waiting().wakers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_in_time_leaves_nothing_behind() {
        let deadlines = Deadlines::start();
        let deadline = Instant::now() + 10 * MS;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(deadlines.handle().timeout_at(deadline, answered));
        advance(5 * MS).await;
        answer.send("in time").unwrap();
        assert_eq!(waiting.await.unwrap(), Some(Ok("in time")));
        let never = deadlines.handle().timeout_at(deadline, pending::<()>());
        drop(tokio::time::timeout(MS, never).await);
        assert!(deadlines.shared.waiting().wakers.is_empty());
        let over = deadlines.handle().timeout_at(begin_of(deadline), async {});
        assert_eq!(over.await, Some(()), "what is ready counts at any time");
        let over = deadlines.handle();
        let over = over.timeout_at(begin_of(deadline), pending::<()>());
        assert_eq!(over.await, None);
    }

    fn begin_of(deadline: Instant) -> Instant {
        deadline - 10 * MS
    }

    /// On the clock of the machine: the earlier of two that are set one after the other does not wait for the later one.
    #[tokio::test]
    async fn the_kernels_timer_is_armed_again_for_a_sooner_deadline() {
        let shared = Arc::new(Shared::default());
        let timer = FineTimer(Some(Timer::new().unwrap()));
        let task = tokio::spawn(run(Arc::clone(&shared), timer));
        let deadlines = Deadlines { shared, task };
        let now = Instant::now();
        let late = tokio::spawn(deadlines.handle().sleep_until(now + 3_600_000 * MS));
        tokio::task::yield_now().await;
        deadlines.handle().sleep_until(now + 2 * MS).await;
        assert!(now.elapsed() >= 2 * MS);
        assert!(!late.is_finished());
        late.abort();
    }
}
