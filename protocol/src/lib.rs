//! Records, codec, door, session, transfer, delivery and receipts: sans-I/O.
//!
//! **Invariant:** no socket, file, clock or ambient randomness: `now` and the random generator are arguments.

pub mod armour;
pub mod bulk;
pub mod content;
pub mod delivery;
pub mod deposit;
pub mod door;
pub mod hello;
pub mod ids;
pub mod limits;
pub mod machine;
pub mod message;
pub mod policy;
pub mod record;
pub mod session;
pub mod time;
pub mod transfer;

pub use pakt_keys::codec;
