//! Buffers for payloads that are used again: a fresh megabyte per object would be zeroed and faulted in each time.
//!
//! **Invariant:** at most [`KEPT_MAX`] buffers are kept; how many are in use, the budget of `memory` bounds: a buffer is
//! never much larger than what it is taken for.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pakt_protocol::limits::OBJECT_BYTES_MAX;

use super::lock;

/// Free buffers that are kept: what four fast lanes use at once.
const KEPT_MAX: usize = 8;

/// Smaller payloads get a buffer of their own size.
const POOLED_MIN: usize = OBJECT_BYTES_MAX / 2;

/// The free buffers of a node.
#[derive(Default)]
pub(super) struct Buffers {
    free: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer that is being filled, or that was filled and is being read.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// A buffer for a payload of at most an object's bytes; what it holds is whatever it held before.
    pub(super) fn take(self: &Arc<Buffers>, length: usize) -> Buffer {
        let bytes = match length {
            ..POOLED_MIN => vec![0; length].into_boxed_slice(),
            _ => lock(&self.free).pop().unwrap_or_else(|| vec![0; OBJECT_BYTES_MAX].into_boxed_slice()),
        };
        Buffer { length: length.min(bytes.len()), bytes, home: self.clone() }
    }

    /// Gives free buffers back to the system; those in use come back as they are done.
    pub(super) fn cool(&self) {
        *lock(&self.free) = Vec::new();
    }
}

impl Buffer {
    /// The part that is to be filled.
    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    /// Its content, without a copy; the buffer is free again when the last clone is dropped.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = lock(&self.home.free);
        if self.bytes.len() == OBJECT_BYTES_MAX && free.len() < KEPT_MAX {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_is_done() {
        let buffers = Arc::<Buffers>::default();
        let mut buffer = buffers.take(POOLED_MIN);
        buffer.as_mut()[..3].copy_from_slice(b"abc");
        let bytes = buffer.freeze();
        let clone = bytes.clone();
        drop(bytes);
        assert_eq!((&clone[..3], clone.len()), (&b"abc"[..], POOLED_MIN));
        assert!(lock(&buffers.free).is_empty());
        drop(clone);
        assert_eq!(lock(&buffers.free).len(), 1);
        let small = buffers.take(3);
        assert_eq!(small.bytes.len(), 3, "it takes what it counts for");
        drop(small);
        assert_eq!(lock(&buffers.free).len(), 1);
        let many: Vec<_> = (0..KEPT_MAX + 5).map(|_| buffers.take(usize::MAX)).collect();
        assert_eq!(many[0].as_ref().len(), OBJECT_BYTES_MAX);
        drop(many);
        assert_eq!(lock(&buffers.free).len(), KEPT_MAX);
        buffers.cool();
        assert!(lock(&buffers.free).is_empty());
    }
}
