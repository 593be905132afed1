//! Programs that measure Pakt, and meshes that show it before there is one: benches against the tools people use today, and
//! scenarios of up to 20,000 nodes with every fault on demand.
//!
//! **Invariant:** a bench is a program with a report, never a timed test; it measures the `pakt` that it has just built, starts every
//! timed run from nothing, and leaves neither processes nor files behind.
//! **Invariant:** a scenario and a seed say everything about a virtual run: the same version gives the same event hash.
//!
//! Start reading at [`mod@bench`] for benches, at [`scenario::Scenario`] and [`mesh::run`] for meshes. A test in another crate:
//!
//! ```
//! use pakt_simulations::outcome::Verdict;
//! use pakt_simulations::{mesh, scenario::Scenario};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scenario = Scenario::named("pair")?; // or Scenario::parse("name = …"), Scenario::load(path)
//! let outcome = mesh::run(&scenario, 7, &mesh::Options::default(), &mut ());
//! assert_eq!(outcome.verdict, Verdict::Pass, "{:?}", outcome.finding);
//! assert_eq!(outcome.messages.expired, 0);
//! # Ok(()) }
//! ```
//!
//! The README has a guide to scenarios, faults and checkers of one's own.

pub mod bench;
pub mod link;
pub mod mesh;
pub mod outcome;
pub mod real;
pub mod records;
pub mod report;
pub mod run;
pub mod scenario;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
