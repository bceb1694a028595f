//! The queue of a lane. Small requests overtake large ones.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Job, MAX_WAITING};
use crate::store::Payment;

/// Maximum number of requests of a batch, and the number of charges after which none is added. A batch blocks
/// Redis for some hundred microseconds.
const MAX_REQUESTS: usize = 128;
const MAX_CHARGES: usize = 256;

/// Requests with more charges are large. Redis takes 0.1 ms for one; most requests have fewer than ten charges.
const LARGE: usize = 32;

/// Maximum number of charges of large requests in flight. This is about 3 ms of work for Redis, the longest that a
/// small request of the same lane waits for them.
const MAX_LARGE: usize = 1024;

/// Size of a batch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Charges of all requests.
    pub(super) charges: usize,
    /// Charges of large requests.
    pub(super) large: usize,
}

/// Queued requests, at most [`MAX_WAITING`].
#[derive(Debug)]
pub(super) struct Queue<R> {
    waiting: Mutex<Waiting<R>>,
    filled: Notify,
}

#[derive(Debug)]
struct Waiting<R> {
    small: VecDeque<Job<R>>,
    large: VecDeque<Job<R>>,
}

impl<R> Default for Queue<R> {
    fn default() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                small: VecDeque::new(),
                large: VecDeque::new(),
            }),
            filled: Notify::new(),
        }
    }
}

impl<R> Queue<R> {
    /// Adds a request. Returns it if the queue is full.
    pub(super) fn push(&self, job: Job<R>) -> Result<(), Job<R>> {
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING {
            return Err(job);
        }
        match is_large(&job) {
            true => waiting.large.push_back(job),
            false => waiting.small.push_back(job),
        }
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Returns the number of queued requests.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Waits until a request is added. The caller must then check whether it can be taken.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Returns whether there are requests to take while `large_in_flight` charges of large requests are in
    /// flight.
    pub(super) fn has_some(&self, large_in_flight: usize) -> bool {
        let waiting = self.waiting();
        let fits = |job: &Job<R>| fits(job, large_in_flight);
        !waiting.small.is_empty() || waiting.large.front().is_some_and(fits)
    }

    /// Takes the requests of the next batch while `large_in_flight` charges of large requests are in flight.
    /// Requests whose callers no longer wait are dropped and never sent.
    ///
    /// Small requests come first. Each batch takes one large request, so that it waits no longer than those in
    /// front of it, and more of them while the batch is not full.
    pub(super) fn take(&self, jobs: &mut Vec<Job<R>>, large_in_flight: usize) -> Size {
        let now = Instant::now();
        let mut waiting = self.waiting();
        let mut size = Size::default();
        while jobs.len() < MAX_REQUESTS
            && size.charges < MAX_CHARGES
            && let Some(job) = waiting.small.pop_front()
        {
            if job.has_live_caller(now) {
                size.charges += job.charges.len();
                jobs.push(job);
            }
        }
        while let Some(job) = waiting.large.front() {
            if !job.has_live_caller(now) {
                waiting.large.pop_front();
                continue;
            }
            let charges = job.charges.len();
            let is_room = size.large == 0 || size.charges + charges <= MAX_CHARGES;
            if !is_room || !fits(job, large_in_flight + size.large) {
                break;
            }
            size.charges += charges;
            size.large += charges;
            jobs.extend(waiting.large.pop_front());
        }
        size
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Waiting<R> {
    fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }
}

/// Returns whether small requests can overtake this one. They cannot if it gives hits back: a request that is sent
/// after the response must find them in the bucket.
fn is_large<R>(job: &Job<R>) -> bool {
    let gives_back = |payment| matches!(payment, Payment::GivenBack { .. });
    job.charges.len() > LARGE && !job.charges.iter().any(|charge| gives_back(charge.payment))
}

/// Returns whether a large request can be sent while `large_in_flight` charges are in flight.
fn fits<R>(job: &Job<R>, large_in_flight: usize) -> bool {
    large_in_flight == 0 || large_in_flight + job.charges.len() <= MAX_LARGE
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::bucket::Terms;
    use crate::key::{KeyFormat, LimitTag};
    use crate::store::redis::lane::Undecided;
    use crate::store::{Charge, Decision, Part};

    type Answer = oneshot::Receiver<Result<Decision, Undecided>>;

    /// A job with `charges` charges and a number.
    fn job(number: u32, charges: usize, payment: Payment) -> (Job<u32>, Answer) {
        let keys = KeyFormat::new("");
        let tag = LimitTag {
            index: 0,
            is_window: false,
            override_period: None,
        };
        let charge = Charge {
            key: keys.key(&keys.stem("d", []), tag),
            terms: Terms::token_bucket(1, 1, 1, 0),
            hits: 1,
            payment,
            part: Part::Must,
            on_failure: None,
        };
        let (answer, decision) = oneshot::channel();
        let job = Job {
            charges: vec![charge; charges].into(),
            deadline: Instant::now() + Duration::from_secs(3_600),
            caller: None,
            answer,
            route: number,
        };
        (job, decision)
    }

    /// A queue of jobs with these numbers of charges, numbered from 0, and their results.
    fn queue(charges: &[usize]) -> (Queue<u32>, Vec<Answer>) {
        let queue = Queue::default();
        let mut answers = Vec::new();
        for (number, &charges) in (0..).zip(charges) {
            let (job, answer) = job(number, charges, Payment::Prepaid);
            assert!(queue.push(job).is_ok());
            answers.push(answer);
        }
        (queue, answers)
    }

    /// The numbers of the jobs of the next batch, and its size.
    fn taken(queue: &Queue<u32>, large_in_flight: usize) -> (Vec<u32>, Size) {
        let mut jobs = Vec::new();
        let size = queue.take(&mut jobs, large_in_flight);
        (jobs.iter().map(|job| job.route).collect(), size)
    }

    #[test]
    fn small_requests_overtake_large_ones_and_each_batch_has_room_for_one() {
        let (queue, _answers) = queue(&[250, 250, 1, 33, 32, 1]);
        let size = |charges, large| Size { charges, large };
        assert_eq!(taken(&queue, 0), (vec![2, 4, 5, 0], size(284, 250)));
        assert_eq!(taken(&queue, 250), (vec![1], size(250, 250)));
        assert_eq!(taken(&queue, 500), (vec![3], size(33, 33)));
        assert_eq!(taken(&queue, 533), (vec![], Size::default()));
        let (queue, _answers) = self::queue(&[100, 100, 100]);
        assert_eq!(taken(&queue, 0), (vec![0, 1], size(200, 200)));
    }

    #[test]
    fn large_requests_in_flight_are_bounded() {
        let (queue, _answers) = queue(&[250, 1]);
        assert!(queue.has_some(MAX_LARGE));
        assert_eq!(taken(&queue, MAX_LARGE - 249).0, [1]);
        assert!(!queue.has_some(MAX_LARGE - 249), "until others have ended");
        assert!(queue.has_some(MAX_LARGE - 250));
        assert_eq!(taken(&queue, MAX_LARGE - 250).0, [0]);
        // A request larger than the bound is sent alone.
        let (queue, _answers) = self::queue(&[MAX_LARGE + 1]);
        assert!(!queue.has_some(1));
        assert_eq!(taken(&queue, 0).0, [0]);
    }

    #[test]
    fn what_gives_back_keeps_its_place() {
        let (queue, _answers) = queue(&[]);
        let given_back = Payment::GivenBack { taken_at: 0 };
        let (large, _answer) = job(0, 250, given_back);
        let (small, _other_answer) = job(1, 1, Payment::Prepaid);
        assert!(queue.push(large).is_ok() && queue.push(small).is_ok());
        assert_eq!(taken(&queue, 0).0, [0, 1]);
    }

    #[test]
    fn a_batch_is_bounded() {
        let (many, _answers) = queue(&[1; MAX_REQUESTS + 1]);
        assert_eq!(taken(&many, 0).0.len(), MAX_REQUESTS);
        assert_eq!(taken(&many, 0).0.len(), 1);
        let (wide, _answers) = queue(&[30; 20]);
        assert_eq!(taken(&wide, 0).1.charges, 270, "the first that is enough");
    }

    #[test]
    fn the_queue_is_bounded_and_who_has_gone_is_not_sent() {
        let (queue, mut answers) = queue(&[1; MAX_WAITING]);
        let (more, _answer) = job(0, 250, Payment::Prepaid);
        assert!(queue.push(more).is_err());
        assert_eq!(queue.len(), MAX_WAITING);
        answers.drain(1..);
        assert_eq!(taken(&queue, 0).0, [0]);
        assert_eq!(queue.len(), 0);
        let (late, _answer) = job(7, 1, Payment::Prepaid);
        let late = Job {
            deadline: Instant::now(),
            ..late
        };
        assert!(queue.push(late).is_ok());
        assert_eq!(taken(&queue, 0).0, Vec::<u32>::new());
    }
}
