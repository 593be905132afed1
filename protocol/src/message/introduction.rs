//! Introductions: what two entities without an agreement say to each other through one that has an agreement with both.
//!
//! The same message goes from the sender to the introducer and from there to the recipient. It is repeated until the
//! next one has taken it.

use pakt_keys::EntityId;
use pakt_keys::sealing::Wrapped;
use serde::{Deserialize, Serialize};

use crate::record::card::SignedCard;

/// The name of one introduction message, random.
pub type IntroductionId = [u8; 16];

/// Something to be passed on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its name.
    pub id: IntroductionId,
    /// Who says it.
    pub from: EntityId,
    /// To whom.
    pub to: EntityId,
    /// What.
    pub body: IntroductionBody,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum IntroductionBody {
    /// Here is the sender's card: may it have the recipient's?
    CardRequest(SignedCard),
    /// Here is the card that was asked for.
    Card(SignedCard),
    /// A [`crate::introduction::Letter`], sealed to the recipient's contact key.
    Letter(Wrapped),
}

/// The next one has taken it, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntroductionTaken {
    /// The message.
    pub id: IntroductionId,
    /// What became of it.
    pub fate: IntroductionFate,
}

/// What became of an introduction message at the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntroductionFate {
    /// It is not to be sent again. Whether the recipient is known or takes it is not said.
    Taken,
    /// This node passes nothing on.
    NotPassedOn,
    /// Too much at a time: it may be sent again later.
    Later,
}
