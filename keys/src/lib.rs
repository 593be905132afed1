//! Identities, keys by purpose, signing, sealing and the keystore at rest.
//!
//! Start reading with [`signing`] (who said it), [`sealing`] (who may read it) and [`object`] (the content
//! itself). [`codec`] is the one byte format that all records share.
//!
//! **Invariant:** no socket, file, clock or ambient randomness: the random generator is an argument.
//! **Invariant:** private keys are named by purpose, wiped on drop, redacted in `Debug` and have no `Display`.

pub mod backup;
pub mod codec;
pub mod entity;
mod hedged;
pub mod keystore;
pub mod object;
pub mod sealing;
mod secret;
pub mod signing;
pub mod slots;
pub mod store_seal;
#[cfg(test)]
mod test_rng;
pub mod words;

pub use entity::{EntityId, EntityIdError};
pub use sealing::{ContactKey, ContactPublic, EpochKey, EpochPublic, PublicKeyError, UnwrapError, Wrapped};
pub use signing::{
    Domain, RootKey, RootPublic, Signature, SignatureError, StatementKey, StatementPublic, TransportKey,
    TransportPublic, successor_commitment,
};
