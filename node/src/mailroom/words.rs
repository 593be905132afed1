//! What people read of a message that arrived: subject, text, purpose, the sending group's name. Sealed under the manifest
//! key, which lies in a slot, so that erasing that key takes all of it, from every place on the disk where a row lingers.
//!
//! **Invariant:** no row holds these words but sealed; whoever writes a message's row back writes none of them.

use pakt_keys::codec;
use pakt_keys::store_seal::StoreKey;
use serde::{Deserialize, Serialize};

use super::rows::{InItem, InMessage};
use super::{MailError, Mailroom};
use crate::ambient;
use crate::store::VALUE_BYTES_MAX;

const VERSION: u8 = 1;
const PLACE: &str = "words of a message";

#[derive(Serialize, Deserialize)]
struct Words {
    from_group: String,
    subject: String,
    text: String,
    purpose: Option<String>,
}

fn key_of(manifest_key: &[u8; 32]) -> StoreKey {
    StoreKey::from_bytes(blake3::derive_key("pakt words of a message v1", manifest_key))
}

/// Seals the words of a message under its manifest key.
pub(super) fn seal(message: &InMessage, manifest_key: &[u8; 32]) -> Vec<u8> {
    let words = Words {
        from_group: message.from_group.clone(),
        subject: message.subject.clone(),
        text: message.text.clone(),
        purpose: message.purpose.clone(),
    };
    let plain = codec::encode_secret(VERSION, &words);
    key_of(manifest_key).seal(PLACE, &message.envelope.0, &plain, &mut ambient::rng())
}

/// Opens the words of a message; they stay empty if that is not their key.
pub(super) fn open(message: &mut InMessage, manifest_key: &[u8; 32]) {
    let plain = key_of(manifest_key).open(PLACE, &message.envelope.0, &message.words);
    let words = plain.ok().and_then(|plain| codec::decode::<Words>(VERSION, &plain, VALUE_BYTES_MAX).ok());
    if let Some(Words { from_group, subject, text, purpose }) = words {
        (message.from_group, message.subject, message.text, message.purpose) = (from_group, subject, text, purpose);
    }
}

impl Mailroom {
    /// Opens the words of an item as it came from the store. One whose key is gone stays without.
    ///
    /// # Errors
    /// [`MailError::Slots`].
    pub(crate) fn with_words(&self, mut item: InItem) -> Result<InItem, MailError> {
        if let InItem::Message(message) = &mut item
            && let Some(slot) = message.key
        {
            let key = self.slots.get(slot)?;
            if let Some(key) = key.as_ref().and_then(|key| key.as_slice().try_into().ok()) {
                open(message, key);
            }
        }
        Ok(item)
    }
}
