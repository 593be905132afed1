//! The Pakt node: network, store, exchange, mailroom, API and command line.

pub mod ambient;
pub mod api;
pub mod audit;
pub mod backup;
pub mod blob;
pub mod book;
pub mod cli;
pub mod clock;
pub mod config;
pub mod content;
pub mod controls;
pub mod demo;
pub mod directory;
pub mod disk;
pub mod entity;
pub mod exchange;
#[cfg(test)]
mod faults;
pub mod files;
pub mod introductions;
pub mod keyring;
pub mod line;
pub mod mailroom;
pub mod metrics;
pub mod net;
pub mod reconcile;
pub mod relay;
pub mod release;
pub mod root;
pub mod scan;
pub mod service;
pub mod setup;
pub mod slots;
pub mod store;
