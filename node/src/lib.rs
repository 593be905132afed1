//! The Pakt node: network, store, exchange, mailroom, API and command line.

pub mod ambient;
pub mod api;
pub mod blob;
pub mod book;
pub mod cli;
pub mod clock;
pub mod config;
pub mod content;
pub mod demo;
pub mod disk;
pub mod entity;
pub mod exchange;
pub mod files;
pub mod line;
pub mod mailroom;
pub mod net;
pub mod relay;
pub mod service;
pub mod setup;
pub mod slots;
pub mod store;
