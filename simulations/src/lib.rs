//! Programs that measure Pakt, and meshes that show it before there is one: benches against the tools people use today, and
//! scenarios of up to 20,000 nodes with every fault on demand.
//!
//! **Invariant:** a bench is a program with a report, never a timed test; it measures the `pakt` that it has just built, starts every
//! timed run from nothing, and leaves neither processes nor files behind.
//! **Invariant:** a scenario and a seed say everything about a virtual run: the same version gives the same event hash.
//!
//! Start reading at [`mod@bench`] for benches, at [`scenario::Scenario`] for meshes.

pub mod bench;
pub mod link;
pub mod mesh;
pub mod outcome;
pub mod report;
pub mod run;
pub mod scenario;
