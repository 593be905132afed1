//! The cases of the bench, one file each, as in the table of what must be shown.
//!
//! A case is a function from [`Bench`](super::contest::Bench) to reports; a new one is one file and one line in
//! [`BenchCase`](super::BenchCase).

pub mod again;
pub mod goodput;
pub mod large;
pub mod loopback;
pub mod many;
pub mod stalled;
pub mod study;
pub mod urgent;
