//! The unit of time.

/// Microseconds since the Unix epoch, or a number of microseconds.
///
/// Values below 2^53 are exact in Redis's Lua as well.
pub type Micros = u64;
