//! Reading a received message to its last byte before anybody sees it, and giving it to the malware scanner on the way.
//!
//! ```text
//! Blobs -> pool: open, decode -> pool: Unpacker, BLAKE3 of each file -> one stream per file -> scanner
//! ```
//! **Invariant:** what passes was opened to its declared length, every file has the hash that its sender named, and,
//! where a scanner is asked, it called every file, the subject and the text clean.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use pakt_keys::EntityId;
use pakt_protocol::content::manifest::Manifest;
use pakt_protocol::content::unpack::{Step, UnpackError, Unpacker};

use super::pool::{ContentPool, PoolStopped};
use super::scanned::{NotClean, Scanned};
use super::tar_out::{Opener, TarStreamError};
use crate::blob::Blobs;
use crate::scan::Scanner;

/// Chunks opened ahead of the one that is scanned: 2 MiB.
const AHEAD: usize = 2;
/// Parts of files that are handed over at a time.
const PARTS_MAX: usize = 4_096;

/// Why a message does not pass.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read: by this node's fault, or because it is not what its sender described.
    #[error(transparent)]
    Content(#[from] TarStreamError),
    /// The scanner does not let it through.
    #[error(transparent)]
    NotClean(#[from] NotClean),
}

impl From<PoolStopped> for CheckError {
    fn from(error: PoolStopped) -> CheckError {
        CheckError::Content(error.into())
    }
}

impl From<UnpackError> for CheckError {
    fn from(error: UnpackError) -> CheckError {
        CheckError::Content(error.into())
    }
}

/// Reads the whole message of `manifest`, whose objects are stored as coming from `origin`, and has it scanned by
/// `scanner`, if there is one.
///
/// # Errors
/// [`CheckError`], at the first thing that is wrong.
pub async fn check_content(
    blobs: Blobs,
    origin: EntityId,
    manifest: Arc<Manifest>,
    pool: &ContentPool,
    scanner: Option<Scanner>,
) -> Result<(), CheckError> {
    let opener = Opener { blobs, origin, manifest: manifest.clone(), pool: pool.clone() };
    let mut scanned = Scanned::by(scanner);
    scanned.text(&manifest.head.subject).await?;
    scanned.text(&manifest.head.text).await?;
    let mut opened = stream::iter(0..manifest.chunks.len()).map(|index| opener.open(index)).buffered(AHEAD);
    let mut walk = Walk { manifest: manifest.clone(), unpacker: Unpacker::new() };
    // Rows before the first chunk need none.
    let mut chunk = Vec::new();
    loop {
        let mut taken = 0;
        loop {
            let walked = pool.run(move |_| {
                let parts = walk.take(&chunk, taken);
                (walk, chunk, parts)
            });
            let walked = walked.await?;
            (walk, chunk) = (walked.0, walked.1);
            let Parts { parts, taken: now, more } = walked.2?;
            for part in parts {
                match part {
                    Part::Content(range) => scanned.write(&chunk[range]).await?,
                    Part::End => scanned.end().await?,
                }
            }
            taken = now;
            if !more {
                break;
            }
        }
        pool.recycle(chunk);
        match opened.next().await {
            Some(next) => chunk = next?,
            None => break,
        }
    }
    Ok(walk.unpacker.finish(&manifest.tree)?)
}

/// A part of a file, or its end.
enum Part {
    Content(Range<usize>),
    End,
}

/// Parts of one chunk, and whether it gives more.
struct Parts {
    parts: Vec<Part>,
    taken: usize,
    more: bool,
}

struct Walk {
    manifest: Arc<Manifest>,
    unpacker: Unpacker,
}

impl Walk {
    /// Takes `chunk` from `taken` on, until it is used up or there are many parts.
    fn take(&mut self, chunk: &[u8], taken: usize) -> Result<Parts, UnpackError> {
        let mut content = &chunk[taken..];
        let mut parts = Vec::new();
        let at = |content: &[u8]| chunk.len() - content.len();
        while parts.len() < PARTS_MAX {
            let begin = at(content);
            match self.unpacker.step(&self.manifest.tree, &mut content)? {
                None => return Ok(Parts { parts, taken: at(content), more: false }),
                Some(Step::Append { .. }) => parts.push(Part::Content(begin..at(content))),
                Some(Step::Finish { .. }) => parts.push(Part::End),
                Some(Step::Dir { .. } | Step::Create { .. }) => {}
            }
        }
        Ok(Parts { parts, taken: at(content), more: true })
    }
}
