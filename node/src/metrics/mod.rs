//! What a monitoring system reads: counts of what happened since the start, and what is so at the moment of asking.
//!
//! [`mod@counted`] is told what happens, in the commit that makes it durable; [`render`] adds the state that
//! [`crate::service::Node`] measures and writes the text of OpenMetrics; [`listen`] serves it on a listener of its own.
//!
//! **Invariant:** no label holds a name, id or address: the values of every label are words of this program.
//! **Invariant:** reading changes nothing, and costs the same however many messages there are.

pub mod counted;
pub mod listen;
mod render;
#[cfg(test)]
mod tests;

pub use counted::counted;
pub use render::{Lanes, Measured, render};
