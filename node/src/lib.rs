//! The Pakt node: network, store, exchange, mailroom, API and command line.

pub mod api;
pub mod blob;
pub mod demo;
pub mod disk;
pub mod net;
pub mod slots;
pub mod store;
