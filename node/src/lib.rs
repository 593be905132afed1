//! The Pakt node: network, store, exchange, mailroom, API and command line.

pub mod ambient;
pub mod blob;
pub mod content;
pub mod demo;
pub mod disk;
pub mod entity;
pub mod exchange;
pub mod mailroom;
pub mod net;
pub mod slots;
pub mod store;
