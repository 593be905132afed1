//! What a message says: the part of the manifest that is not files.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::MessageId;
use crate::limits::{PURPOSE_BYTES_MAX, SUBJECT_BYTES_MAX, TEXT_BYTES_MAX};
use crate::time::Time;

/// Subject, text and what they belong to.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ManifestHead {
    /// One line for the inbox.
    pub subject: String,
    /// The text, may be empty.
    pub text: String,
    /// The sending group, as its own entity names it.
    pub from_group: String,
    /// Why the data may be sent: one of the agreement's purposes.
    pub purpose: Option<String>,
    /// The message that this one answers.
    pub thread: Option<MessageId>,
    /// When the sender's user submitted it, by the sender's clock: shown, never relied upon.
    pub written_at: Time,
}

/// A part of the head is longer than allowed; the caller's or the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {part} has {bytes} bytes, at most {max} are allowed")]
pub struct HeadError {
    /// Which part.
    pub part: &'static str,
    /// Bytes found.
    pub bytes: usize,
    /// Bytes allowed.
    pub max: usize,
}

impl ManifestHead {
    /// Checks the lengths.
    ///
    /// # Errors
    /// The first part that is too long.
    pub fn check(&self) -> Result<(), HeadError> {
        let purpose = self.purpose.as_deref().unwrap_or_default();
        let parts = [
            ("subject", self.subject.len(), SUBJECT_BYTES_MAX),
            ("text", self.text.len(), TEXT_BYTES_MAX),
            ("purpose", purpose.len(), PURPOSE_BYTES_MAX),
            ("sending group", self.from_group.len(), crate::record::NAME_BYTES_MAX),
        ];
        match parts.into_iter().find(|(_, bytes, max)| bytes > max) {
            Some((part, bytes, max)) => Err(HeadError { part, bytes, max }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ManifestHead {
    // Subject and text are content and must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestHead(subject {} bytes, text {} bytes)", self.subject.len(), self.text.len())
    }
}
