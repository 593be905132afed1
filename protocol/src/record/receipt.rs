//! Receipts: the receiving entity's signed statement about an envelope. Anyone verifies one offline with two cards.

use pakt_keys::codec;
use pakt_keys::signing::{Domain, StatementKey};
use serde::{Deserialize, Serialize};

use super::card::Card;
use super::chain::{CertificateChain, CertifiedNode};
use super::envelope::Counts;
use super::{Record, RecordError, Signed};
use crate::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use crate::record::Signed as SignedRecord;
use crate::time::Time;
use pakt_keys::EntityId;

/// How far the receiver went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// Opened, compared, durable.
    Delivered,
    /// Checked and visible in the group's mailbox.
    Released,
    /// A person or a connected system took responsibility.
    Taken,
}

impl Tier {
    /// 1, 2 or 3.
    pub fn number(self) -> u8 {
        match self {
            Tier::Delivered => 1,
            Tier::Released => 2,
            Tier::Taken => 3,
        }
    }

    /// The word that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Delivered => "delivered",
            Tier::Released => "released",
            Tier::Taken => "taken",
        }
    }
}

/// What the receiver states about an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It has it, to this tier.
    Held(Tier),
    /// It received everything but cannot open it.
    Unopenable,
    /// The same envelope id came before with another core.
    Conflict,
    /// It was opened, and its purpose is none that the agreement names; nothing of it is kept.
    PurposeNotAgreed,
    /// Its malware check found something: nobody there sees it.
    Quarantined,
    /// It was purged on the sender's wish, before anybody had taken it.
    Recalled,
    /// It is not for the receiver, who has purged it.
    Returned,
    /// It is not held and never will be: the answer to a sender that asks how an envelope ended.
    NotHeld,
}

impl Verdict {
    /// The tier that is stated, if one is.
    pub fn tier(self) -> Option<Tier> {
        match self {
            Verdict::Held(tier) => Some(tier),
            _ => None,
        }
    }

    /// Its place among what is stated about one envelope: the tiers by their number, 0 for what is stated instead of the
    /// first, 4 and more for what ends it later.
    pub fn place(self) -> u8 {
        match self {
            Verdict::Held(tier) => tier.number(),
            Verdict::Unopenable | Verdict::Conflict | Verdict::PurposeNotAgreed | Verdict::NotHeld => 0,
            Verdict::Quarantined => 4,
            Verdict::Recalled => 5,
            Verdict::Returned => 6,
        }
    }

    /// The word in JSON and on paper.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Held(tier) => tier.as_str(),
            Verdict::Unopenable => "unopenable",
            Verdict::Conflict => "conflict",
            Verdict::PurposeNotAgreed => "purpose_not_agreed",
            Verdict::Quarantined => "quarantined",
            Verdict::Recalled => "recalled",
            Verdict::Returned => "returned",
            Verdict::NotHeld => "not_held",
        }
    }
}

/// The body of a receipt; signed by the receiver's statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What is stated.
    pub verdict: Verdict,
    /// The envelope's core.
    pub core: CoreHash,
    /// The message.
    pub message: MessageId,
    /// The envelope.
    pub envelope: EnvelopeId,
    /// Who sent it.
    pub sender: EntityId,
    /// Who states this.
    pub recipient: EntityId,
    /// The agreement that it came under.
    pub agreement: AgreementId,
    /// Hash of that agreement's terms.
    pub agreement_hash: [u8; 32],
    /// What was counted.
    pub counts: Counts,
    /// When the envelope was first offered, by the receiver's clock.
    pub offered_at: Time,
    /// When the verdict became durable, by the receiver's clock.
    pub at: Time,
    /// Blinded head of the receiver's audit log; none from a node without one.
    pub log_head: Option<[u8; 32]>,
    /// The receiver's chain, so that its key can be checked by whoever has its card.
    pub chain: CertificateChain,
}

impl Record for Receipt {
    const DOMAIN: Domain = Domain::Receipt;
    const BYTES_MAX: usize = 32 << 10;
}

/// A receipt as it travels.
pub type SignedReceipt = SignedRecord<Receipt>;

/// Bytes of an encoded signed receipt, at most.
pub const RECEIPT_FILE_BYTES_MAX: usize = 40 << 10;

impl Receipt {
    /// Signs the receipt.
    pub fn sign(&self, key: &StatementKey) -> SignedReceipt {
        Signed::create(self, |domain, bytes| key.sign(domain, bytes))
    }
}

/// The bytes of a receipt that are stored, sent and put into armour.
pub fn receipt_bytes(signed: &SignedReceipt) -> Vec<u8> {
    codec::encode(1, signed)
}

/// Checks a receipt that a counterpart's node sent.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify_from(bytes: &[u8], node: &CertifiedNode, sender: &EntityId) -> Result<Receipt, RecordError> {
    let (receipt, signer) = open(bytes)?;
    if signer.entity != node.entity || receipt.sender != *sender {
        return Err(RecordError::Parties("the receipt is between other entities"));
    }
    Ok(receipt)
}

/// Checks a receipt offline: signature, chain, and that the two cards are its two parties (in any order).
///
/// # Errors
/// Any [`RecordError`].
pub fn verify_offline(bytes: &[u8], cards: [&Card; 2]) -> Result<Receipt, RecordError> {
    let (receipt, signer) = open(bytes)?;
    let has = |entity: &EntityId| cards.iter().any(|card| card.node.entity == *entity);
    if !has(&receipt.sender) || !has(&receipt.recipient) {
        return Err(RecordError::Parties("the receipt is between other entities than the two cards"));
    }
    let card = cards.iter().find(|card| card.node.entity == signer.entity);
    let shared = card.map(|card| card.shares_roots(&receipt.chain)).transpose()?;
    if shared != Some(true) {
        return Err(RecordError::Parties("the receipt's roots are not those of the card"));
    }
    Ok(receipt)
}

/// Reads a receipt whose signature and chain hold; whose they are, only a card or an agreement says.
///
/// # Errors
/// Any [`RecordError`].
pub fn read(bytes: &[u8]) -> Result<Receipt, RecordError> {
    open(bytes).map(|(receipt, _)| receipt)
}

/// Checks signature and chain of a receipt from the bytes alone.
fn open(bytes: &[u8]) -> Result<(Receipt, CertifiedNode), RecordError> {
    let signed: SignedReceipt = codec::decode(1, bytes, RECEIPT_FILE_BYTES_MAX)?;
    let signer = signed.peek()?.chain.verify()?;
    let receipt = signer.open_statement(&signed)?;
    if receipt.recipient != signer.entity || receipt.sender == receipt.recipient {
        return Err(RecordError::Parties("the receipt is not signed by the receiving entity"));
    }
    Ok((receipt, signer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{Party, only_its_two_cards_verify};

    fn receipt(from: &Party, to: &Party) -> Receipt {
        Receipt {
            verdict: Verdict::Held(Tier::Delivered),
            core: CoreHash([1; 32]),
            message: MessageId([2; 16]),
            envelope: EnvelopeId([3; 16]),
            sender: from.entity(),
            recipient: to.entity(),
            agreement: AgreementId([4; 32]),
            agreement_hash: [5; 32],
            counts: Counts::default(),
            offered_at: Time(6),
            at: Time(7),
            log_head: None,
            chain: to.chain.clone(),
        }
    }

    #[test]
    fn verified_offline_with_two_cards_only() {
        let (a, b, c) = (Party::new(1), Party::new(2), Party::new(3));
        let bytes = receipt_bytes(&receipt(&a, &b).sign(&b.statement));
        let (card_a, card_b, card_c) = (a.card(), b.card(), c.card());
        assert!(verify_offline(&bytes, [&card_a, &card_b]).is_ok());
        assert!(verify_offline(&bytes, [&card_b, &card_a]).is_ok());
        only_its_two_cards_verify(&bytes, [&card_a, &card_b, &card_c], verify_offline);
    }

    #[test]
    fn p4_only_the_recipient_signs() {
        let (a, b) = (Party::new(1), Party::new(2));
        let (card_a, card_b) = (a.card(), b.card());
        let by_sender = Receipt { chain: a.chain.clone(), ..receipt(&a, &b) };
        let forged = receipt_bytes(&by_sender.sign(&a.statement));
        assert!(matches!(verify_offline(&forged, [&card_a, &card_b]), Err(RecordError::Parties(_))));
        let other_key = receipt_bytes(&receipt(&a, &b).sign(&a.statement));
        assert!(matches!(verify_offline(&other_key, [&card_a, &card_b]), Err(RecordError::Signature(_))));
    }
}
