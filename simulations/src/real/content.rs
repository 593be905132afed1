//! Content by size: what a person would send, as far as a store and a line can tell.
//!
//! The bytes are drawn from the run's seed and the number of the message, and do not compress, so that a message of so many
//! bytes costs as many on every line. Whoever receives them can be asked whether they are the same.

use blake3::Hasher;

use crate::scenario::Submission;

const CONTEXT: &str = "pakt simulations, content of a message, version 1";

/// The content of one submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    seed: u64,
    number: u64,
    /// Of all files.
    pub(super) bytes: u64,
    /// At least one.
    pub(super) files: u32,
}

impl Content {
    /// What `submission` says, cut to `bytes_max`.
    pub(super) fn of(submission: &Submission, seed: u64, bytes_max: u64) -> Content {
        let bytes = submission.bytes.min(bytes_max);
        Content { seed, number: submission.number, bytes, files: submission.files.max(1) }
    }

    fn name(number: u32) -> String {
        format!("{number:05}.bin")
    }

    /// The bytes of one file; the first ones are a byte longer where the division does not come out.
    fn file(&self, number: u32) -> Vec<u8> {
        let files = u64::from(self.files);
        let length = self.bytes / files + u64::from(u64::from(number) < self.bytes % files);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut hasher = Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.seed.to_le_bytes()).update(&self.number.to_le_bytes()).update(&number.to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    /// All files, as a node takes them.
    pub(super) fn tar(&self) -> std::io::Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for number in 0..self.files {
            let bytes = self.file(number);
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            builder.append_data(&mut header, Content::name(number), bytes.as_slice())?;
        }
        builder.into_inner()
    }

    /// Name, length and BLAKE3 of every file, as the receiver's node shows them.
    pub(super) fn listing(&self) -> Vec<(String, u64, String)> {
        let row = |number| {
            let bytes = self.file(number);
            (Content::name(number), bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string())
        };
        (0..self.files).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_has_its_size_and_is_its_own() {
        let content = |number, bytes, files| Content { seed: 1, number, bytes, files };
        let total = |content: Content| content.listing().iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (bytes, files) in [(0, 1), (10, 1), (10, 3), (2, 5), (100_000, 7)] {
            assert_eq!(total(content(3, bytes, files)), bytes);
            assert_eq!(content(3, bytes, files).listing().len(), files as usize);
        }
        assert_eq!(content(3, 100, 2).tar().unwrap(), content(3, 100, 2).tar().unwrap());
        assert_ne!(content(3, 100, 2).listing(), content(4, 100, 2).listing());
    }
}
