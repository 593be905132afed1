//! Waiting for something that another process does.

use std::time::{Duration, Instant};

/// Asks `look` every 50 ms until it answers.
///
/// # Panics
/// After `limit`, naming `what` was waited for.
#[track_caller]
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    within(limit, &mut look).unwrap_or_else(|| panic!("{what}: not within {limit:?}"))
}

/// Asks `look` every 50 ms until it answers or `limit` has passed.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Seconds, for tables of limits that read well.
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
