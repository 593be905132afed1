//! The two things that come from outside every machine: the time and randomness.
//!
//! **Invariant:** nothing else in the node reads the wall clock or draws from the operating system's generator for
//! anything that the protocol sees.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pakt_protocol::time::Time;
use rand_core::UnwrapErr;
use serde::{Deserialize, Serialize};

/// The operating system's generator; where it fails no secret can be made, so that is the end of the process.
pub type Rng = UnwrapErr<getrandom::SysRng>;

/// The wall clock.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The service clock: the wall clock at the start of the process plus the time since then, so that a step of the wall
/// clock neither ends sessions nor expires messages.
pub fn service_now() -> Time {
    static START: OnceLock<(Instant, Time)> = OnceLock::new();
    let (instant, time) = START.get_or_init(|| (Instant::now(), now()));
    *time + instant.elapsed()
}

/// The machine's own clock, which nobody sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Tells one boot of the machine from another.
    pub boot: [u8; 16],
    /// Time since that boot, suspended time included.
    pub since_boot: Duration,
}

/// The machine's own clock, where the system tells it.
pub fn machine() -> Option<Machine> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let mut boot = [0; 16];
    hex::decode_to_slice(text.trim().replace('-', ""), &mut boot).ok()?;
    let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let since_boot = Duration::new(u64::try_from(since.tv_sec).ok()?, u32::try_from(since.tv_nsec).ok()?);
    Some(Machine { boot, since_boot })
}

/// A generator for one use.
pub fn rng() -> Rng {
    UnwrapErr(getrandom::SysRng)
}

/// Random bytes, for ids.
pub fn random<const N: usize>() -> [u8; N] {
    use rand_core::Rng as _;
    let mut bytes = [0; N];
    rng().fill_bytes(&mut bytes);
    bytes
}
