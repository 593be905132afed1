//! The harness of the end-to-end tests: real `pakt` processes, a line between them that can be watched and broken,
//! trees of files that are hard to carry, and the tools of others.
//!
//! **Invariant:** a test runs the `pakt` that belongs to the sources at hand, built by the cargo that runs the test.
//! **Invariant:** whatever a test starts ends with it, also when it fails.
//!
//! Start reading at [`node::TestNode`] and [`pair::Pair`].

pub mod armour;
pub mod binary;
pub mod clamd;
pub mod http;
pub mod mesh;
pub mod network;
pub mod node;
pub mod output;
pub mod pair;
pub mod probe;
pub mod proxy;
pub mod quarantine;
pub mod scan;
pub mod source;
pub mod storm;
pub mod tools;
pub mod tree;
pub mod turn;
pub mod upload;
pub mod wait;
pub mod wire;
