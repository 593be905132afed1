//! Records, codec, door, session, transfer, delivery and receipts: sans-I/O.
//!
//! **Invariant:** no socket, file, clock or ambient randomness: `now` and the random generator are arguments.

pub mod agreement;
pub mod armour;
pub mod audit;
pub mod bulk;
pub mod content;
pub mod controls;
pub mod defect;
pub mod delivery;
pub mod deposit;
pub mod dialing;
pub mod directory;
pub mod door;
pub mod hello;
pub mod ids;
pub mod introduction;
pub mod limits;
pub mod line;
pub mod machine;
pub mod message;
pub mod owed;
pub mod pace;
pub mod policy;
pub mod quota;
pub mod rate;
pub mod recalls;
pub mod reconcile;
pub mod record;
pub mod session;
pub mod settling;
pub mod time;
pub mod transfer;

pub use pakt_keys::codec;
