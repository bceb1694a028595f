//! The requests of a run, counted by what must hold.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Call, Fault, RECOVERY, SERVERS, check_admitted, check_back, slowest};

/// What happened.
pub(super) struct Run<'a> {
    pub(super) fault: &'a Fault,
    pub(super) calls: Vec<Call>,
    pub(super) begin: Instant,
    pub(super) injected: Instant,
    pub(super) lifted: Instant,
}

impl Run<'_> {
    pub(super) fn check(&self) {
        let name = self.fault.name;
        self.slowest();
        assert!(
            self.calls.iter().any(|call| !call.by_policy),
            "{name}: Redis never decided"
        );
        let bitten = self.calls.iter().any(|call| call.by_policy);
        assert!(bitten || !self.fault.bites, "{name} did nothing");
        let lives = if self.fault.forgets { 2.0 } else { 1.0 };
        check_admitted(name, &self.calls, lives, self.begin.elapsed());
        for server in 0..SERVERS {
            let recovery = self.recovery(server);
            assert!(
                recovery <= RECOVERY,
                "{name}: server {server} took {recovery:?}"
            );
        }
        check_back(name, &self.calls, self.lifted);
    }

    fn slowest(&self) -> Duration {
        slowest(&self.calls)
    }

    /// How long after the end of the fault the first call was answered, and sent after that end, that Redis decided.
    fn recovery(&self, server: usize) -> Duration {
        let after =
            |call: &&Call| call.server == server && !call.by_policy && call.sent >= self.lifted;
        let answered = self.calls.iter().filter(after);
        let answered = answered.map(|call| call.sent + call.took - self.lifted);
        answered.min().unwrap_or(Duration::MAX)
    }

    fn quantile(&self, share: f64) -> Duration {
        let during_the_fault =
            |call: &&Call| call.sent >= self.injected && call.sent <= self.lifted;
        let mut took: Vec<Duration> = self
            .calls
            .iter()
            .filter(during_the_fault)
            .map(|call| call.took)
            .collect();
        took.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list"
        )]
        let place = (share * (took.len() as f64 - 1.0)) as usize;
        took[place]
    }
}

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_policy = self.calls.iter().filter(|call| call.by_policy).count();
        let recovery = (0..SERVERS).map(|server| self.recovery(server)).max();
        write!(
            f,
            "| {} | {} | {} | {:.1} ms | {:.1} ms | {} ms |",
            self.fault.name,
            self.calls.len(),
            by_policy,
            self.quantile(0.99).as_secs_f64() * 1_000.0,
            self.slowest().as_secs_f64() * 1_000.0,
            recovery.unwrap_or_default().as_millis()
        )
    }
}
