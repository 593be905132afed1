//! Who may run beside whom: heavy tests measure or move a lot and run alone, the others share the machine.
//!
//! Bounds the processes and the memory whatever `--test-threads` says.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Light tests that run at the same time.
const BESIDE_MAX: usize = 2;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to run; given back when dropped.
#[must_use = "the turn ends when this is dropped"]
pub struct Turn {
    share: usize,
}

/// Waits until the test may run beside others.
pub fn beside() -> Turn {
    take(1)
}

/// Waits until the test may run alone.
pub fn alone() -> Turn {
    take(BESIDE_MAX)
}

fn take(share: usize) -> Turn {
    let taken = lock();
    let mut taken =
        FREED.wait_while(taken, |taken| *taken + share > BESIDE_MAX).unwrap_or_else(PoisonError::into_inner);
    *taken += share;
    Turn { share }
}

fn lock() -> MutexGuard<'static, usize> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Turn {
    fn drop(&mut self) {
        *lock() -= self.share;
        FREED.notify_all();
    }
}
