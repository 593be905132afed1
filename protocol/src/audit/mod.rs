//! The audit log: what a node did, as a Merkle tree (RFC 6962, section 2.1) over entries that hold ids only.
//!
//! [`event`] is what an entry says, [`tree`] how entries are hashed and what proves what, [`head`] the signed size and root
//! that leave the node, so that whoever holds one sees when anything before it was changed, cut or dated back.
//!
//! **Invariant:** no name, subject, text or address is in any entry.

pub mod event;
pub mod head;
pub mod tree;

pub use event::{
    AdministratorStep, AgreementStep, BackupStep, DirectoryStep, Entry, Event, IntroductionStep, KeyStep, MessageStep,
};
pub use head::{BlindedHead, LogHead};
