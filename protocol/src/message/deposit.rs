//! Deposits at a partner, and questions for them.

use serde::{Deserialize, Serialize};

/// One deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositEntry {
    /// What it is asked for by.
    pub tag: [u8; 16],
    /// The sealed addresses, of one of two lengths.
    pub sealed: Vec<u8>,
}

/// The depositor names what it wants to be kept; the keeper answers with what it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositOffer {
    /// Names the whole set; only the depositor knows what of.
    pub digest: [u8; 32],
}

/// A part of the set; the first takes the place of all that was kept before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposit {
    /// Whether a new set begins.
    pub first: bool,
    /// Some deposits.
    pub entries: Vec<DepositEntry>,
    /// The set's name, when it is whole.
    pub digest: Option<[u8; 32]>,
}

/// What the keeper keeps of this depositor; zeros while it is nothing whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposited {
    /// The name that the depositor gave the set.
    pub digest: [u8; 32],
}

/// Asks for deposits: always eight tags, filled up with random ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seek {
    /// Comes back in the answer.
    pub number: u32,
    /// What is looked for.
    pub tags: [[u8; 16]; 8],
}

/// The answer: always eight of the longer length; random bytes where nothing is kept, and behind what is shorter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sought {
    /// That of the question.
    pub number: u32,
    /// In the order of the tags.
    pub found: Vec<Vec<u8>>,
}
