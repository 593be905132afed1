//! Content on its way between a tar stream and sealed objects, in both directions.
//!
//! ```text
//! tar -> Packer -> chunks -> pool: encode, seal -> batches -> Blobs (durable, pinned) -> manifest segments
//! Blobs -> pool: open, decode -> pool: Unpacker, tar rows -> tar
//! ```
//! [`seal_tree`] makes the objects of an outgoing message but for what [`KnownContent`] has, [`read_manifest`] and
//! [`check_table`] judge an incoming one, [`check_content`] reads it to its end, [`tar_stream`] gives its tree back;
//! [`DurableSoFar`] tells what of an outgoing
//! message can leave already. What is done to the bytes is decided in `pakt_protocol::content`; here is who
//! does it, on which thread, and how much of it at a time.
//!
//! **Invariant:** memory does not grow with the message, but for a few dozen bytes per object.
//! **Invariant:** names of files reach no log: errors print without them.

mod check;
mod durable;
mod known;
#[cfg(test)]
mod known_tests;
mod open;
mod pool;
mod scanned;
mod seal;
mod tar_in;
mod tar_out;
#[cfg(test)]
mod tests;

pub use check::{CheckError, check_content};
pub use durable::{DurableSoFar, Follower};
pub use known::KnownContent;
pub(crate) use known::{KnownKey, KnownRow};
pub use open::{ReadManifestError, check_table, read_manifest};
pub use pool::{ContentPool, PoolStopped};
pub use scanned::NotClean;
pub use seal::{SealTree, SealedTree, seal_tree};
pub use tar_in::{EntryProblem, SealTreeError};
pub use tar_out::{TarStreamError, tar_stream};
