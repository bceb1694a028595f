//! The warning that a store in memory is full.

use crate::clock::Clock;
use crate::telemetry::Throttle;
use crate::time::Micros;

/// The minimum time between two warnings.
const WARN_EVERY: Micros = 60_000_000;

/// Returns a callback for [`MemoryStore::on_dropped`](super::memory::MemoryStore::on_dropped) that logs a warning, at
/// most once a minute.
pub(crate) fn full_warning(
    max_buckets: usize,
    clock: Clock,
) -> impl Fn(u64) + Send + Sync + 'static {
    let throttle = Throttle::every(WARN_EVERY);
    move |_| {
        if throttle.passes(clock()) {
            tracing::warn!(
                max_buckets,
                "memory store full, dropping buckets of the limits that have the most; \
                 raise MEMORY_MAX_BUCKETS, or use Redis"
            );
        }
    }
}
