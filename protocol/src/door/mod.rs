//! The door: what a dialer must show before a listener answers with a single byte.
//!
//! The dialer's first and only flight has 2,048 bytes and looks random. It carries the TLS ClientHello, sealed under
//! a secret that the listener itself granted to this counterpart. A listener that cannot open it writes nothing.
//!
//! ```text
//! nonce 32 | tag 16 | AES-256-GCM( counter u64be | length u16be | ClientHello | zeros ) 1,984 | GCM tag 16
//! ```
//!
//! **Invariant:** no clock decides: a counter that only grows tells a new flight from a replayed one.
//! **Invariant:** opening does the same work for every row, whether and where a row fits.
//!
//! Start reading at [`seal_flight`] and [`DoorTable::open`].

mod flight;
mod table;
mod window;

pub use flight::{DoorSecret, Flight, FlightError, HELLO_BYTES_MAX, seal_flight};
pub use table::{DoorTable, Opened, SECRETS_MAX};
pub use window::{CounterWindow, next_counter};
