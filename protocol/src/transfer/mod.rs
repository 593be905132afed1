//! Moving one envelope from its sender to its receiver, once over one control lane.
//!
//! ```text
//!   sender (Outgoing)                    receiver (Incoming)
//!   Offer          ------------------->  decide (policy), persist
//!                  <-------------------  Answer: accept or refuse
//!   Announce …     ------------------->  pull what is missing over the bulk lanes
//!                  <-------------------  Progress …
//!                  <-------------------  Ready: every object durable
//!   persist "left"
//!   Envelope       ------------------->  verify, unwrap, open the manifest, commit
//!                  <-------------------  EpochGone: seal again     (no content moves)
//!                  <-------------------  Receipt
//!   persist receipt
//! ```
//! When the lane is lost both machines are dropped. Everything is offered again in the next session; what the receiver
//! holds it does not pull again, and what it has committed it answers with the same receipt bytes.

pub mod incoming;
pub mod outgoing;
pub mod standstill;

#[cfg(test)]
mod tests;
