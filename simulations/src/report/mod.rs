//! What a run has shown, for people: one page that needs nothing else, a table that compares runs, and a summary for a terminal.
//!
//! The benches draw with the same pieces: `svg`, `loglog` and the frame of a `page`.
//!
//! **Invariant:** a page fetches nothing: style, plots and the script that steps through time are inside.
//! **Invariant:** a page says how to get it again: scenario, seed, version and event hash.
//!
//! Start reading at [`run_page`].

mod compare;
pub(crate) mod loglog;
mod mesh;
pub(crate) mod page;
mod run;
pub(crate) mod svg;
#[cfg(test)]
pub(crate) mod tests;

pub use compare::{comparison_page, comparison_text};
pub use run::{run_page, summary};
