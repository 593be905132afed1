//! The local HTTP API: the one interface for everything on this machine.

pub mod types;
