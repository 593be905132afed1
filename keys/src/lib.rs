//! Identities, keys by purpose, signing, sealing and the keystore at rest.
//!
//! **Invariant:** no socket, file, clock or ambient randomness: the random generator is an argument.

pub mod codec;
pub mod entity;
pub mod keystore;
pub mod object;
pub mod sealing;
pub mod signing;
pub mod slots;
pub mod store_seal;
pub mod words;


