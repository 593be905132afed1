//! Records, codec, door, session, transfer, delivery and receipts: sans-I/O.
//!
//! **Invariant:** no socket, file, clock or ambient randomness: `now` and the random generator are arguments.

pub mod armour;
pub mod content;
pub mod door;
pub mod ids;
pub mod limits;
pub mod record;
pub mod time;

pub use pakt_keys::codec;
