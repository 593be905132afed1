//! Reconciliation: numbers that envelopes get, and the daily rounds that compare what was sent with what is held.
//!
//! `numbers` gives each envelope of an agreement the next number and follows what becomes of it, in the commits of the
//! mailroom; `pages` reads what there is to state; [`rounds`] keeps what a comparison has shown. When to do what is the business of
//! `pakt_protocol::reconcile`, saying it that of `exchange/peer/reconcile`.
//!
//! **Invariant:** a number is given once; after a restore they go on far above all that may have been given.
//! **Invariant:** a gap stays on record until a later round shows that it has closed.

pub(crate) mod numbers;
mod pages;
pub mod rounds;
pub mod rows;
#[cfg(test)]
pub(crate) mod tests;

pub use pages::Stated;
pub use rounds::{Changed, Compared, Rounds};
