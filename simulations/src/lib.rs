//! Programs that measure Pakt: benches against the tools people use today.
//!
//! **Invariant:** a bench is a program with a report, never a timed test; it measures the `pakt` that it has just built, starts every
//! timed run from nothing, and leaves neither processes nor files behind. Start reading at [`mod@bench`].

pub mod bench;
pub mod link;
pub mod mesh;
pub mod outcome;
pub mod scenario;
