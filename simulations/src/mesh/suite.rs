//! Signatures and seals of a run: real ones, or stand-ins of the same size on the wire.
//!
//! The protocol's types are used as they are. With the model suite what is signed has no signature, the sealed envelope
//! carries nothing but its core, and a receipt is the few fields that differ; [`wire_bytes`] counts all of them as long
//! as the real ones. Agreement statements are rare and always really signed.
//!
//! **Invariant:** either suite refuses what another node than the expected one has made.

use std::convert::Infallible;
use std::rc::Rc;

use pakt_keys::EntityId;
use pakt_keys::sealing::{ContactKey, EpochKey, EpochPublic, Wrapped};
use pakt_keys::signing::{RootKey, Signature, StatementKey, TransportKey};
use pakt_protocol::codec;
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use pakt_protocol::message::Message;
use pakt_protocol::record::chain::{CertificateChain, CertifiedNode};
use pakt_protocol::record::envelope::{CORE_BYTES_MAX, Counts, EnvelopeCore, OpenEnvelope, SealedEnvelope};
use pakt_protocol::record::receipt::{
    RECEIPT_FILE_BYTES_MAX, Receipt, SignedReceipt, Verdict, receipt_bytes, verify_from,
};
use pakt_protocol::record::{Record, Signed};
use pakt_protocol::time::Time;
use rand_core::{TryCryptoRng, TryRng};

use super::clock::EPOCH;

/// Bytes that seed one secret.
fn secret(seed: u64, node: usize, purpose: &str, number: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("pakt simulated secret v1");
    hasher.update(&seed.to_be_bytes()).update(&(node as u64).to_be_bytes());
    hasher.update(&number.to_be_bytes()).update(purpose.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The keys of one node.
pub(crate) struct Identity {
    pub(crate) entity: EntityId,
    pub(crate) statement: StatementKey,
    pub(crate) root: RootKey,
    pub(crate) chain: CertificateChain,
    pub(crate) certified: Rc<CertifiedNode>,
    generation: u64,
}

/// What stands in for arithmetic.
#[derive(Clone)]
pub(crate) struct Suite {
    seed: u64,
    full: bool,
    /// The model's only keys of these kinds.
    contact: Rc<ContactKey>,
    epoch: EpochPublic,
    no_chain: CertificateChain,
}

/// What the model puts in place of a signed receipt: the signer and what differs between receipts.
type ModelReceipt = (EntityId, Verdict, CoreHash, (MessageId, EnvelopeId, AgreementId), (Time, Time));

impl Suite {
    pub(crate) fn new(seed: u64, full: bool) -> Suite {
        let epoch = EpochKey::from_bytes(&secret(seed, 0, "model epoch", 0)).public();
        let contact = Rc::new(ContactKey::from_bytes(&secret(seed, 0, "model contact", 0)));
        let no_chain = CertificateChain { links: Vec::new(), certificate: Signed::from_parts(Vec::new(), Vec::new()) };
        Suite { seed, full, contact, epoch, no_chain }
    }

    /// A new entity.
    pub(crate) fn identity(&self, node: usize) -> Identity {
        let root = RootKey::from_seed(secret(self.seed, node, "root", 0));
        let next = RootKey::from_seed(secret(self.seed, node, "root", 1)).public();
        let keys = self.node_keys(node, 0);
        let public = (keys.0.public(), keys.1.public(), keys.2.public());
        let chain = CertificateChain::create(&root, &next, public, EPOCH);
        let certified = Rc::new(chain.verify().expect("a chain that was just made"));
        Identity { entity: certified.entity, statement: keys.1, root, chain, certified, generation: 0 }
    }

    fn node_keys(&self, node: usize, number: u64) -> (TransportKey, StatementKey, Rc<ContactKey>) {
        let transport = TransportKey::from_seed(secret(self.seed, node, "transport", number));
        let statement = StatementKey::from_seed(secret(self.seed, node, "statement", number));
        let contact = match self.full {
            true => Rc::new(ContactKey::from_bytes(&secret(self.seed, node, "contact", number))),
            false => self.contact.clone(),
        };
        (transport, statement, contact)
    }

    /// Replaces the node's keys.
    pub(crate) fn rotate(&self, identity: &mut Identity, node: usize, now: Time) {
        identity.generation += 1;
        let keys = self.node_keys(node, identity.generation);
        let public = (keys.0.public(), keys.1.public(), keys.2.public());
        identity.chain = identity.chain.renewed(&identity.root, public, now).expect("its own chain and root");
        identity.certified = Rc::new(identity.chain.verify().expect("a chain that was just made"));
        identity.statement = keys.1;
    }

    /// The private half of an epoch.
    pub(crate) fn epoch_key(&self, node: usize, epoch: u64) -> EpochKey {
        EpochKey::from_bytes(&secret(self.seed, node, "epoch", epoch))
    }

    /// The public half of an epoch.
    pub(crate) fn epoch_public(&self, node: usize, epoch: u64) -> EpochPublic {
        if self.full { self.epoch_key(node, epoch).public() } else { self.epoch.clone() }
    }

    /// Signs a record with the node's statement key.
    pub(crate) fn sign<T: Record>(&self, record: &T, by: &Identity) -> Signed<T> {
        Signed::create(record, |domain, bytes| match self.full {
            true => by.statement.sign(domain, bytes),
            false => vec![Signature { suite: 0, bytes: by.entity.0[..8].to_vec() }],
        })
    }

    /// Reads a record that this node has signed.
    pub(crate) fn open<T: Record>(&self, signed: &Signed<T>, by: &CertifiedNode) -> Option<T> {
        if self.full {
            return by.open_statement(signed).ok();
        }
        let ours = signed.signatures().first().is_some_and(|signature| signature.bytes == by.entity.0[..8]);
        signed.peek().ok().filter(|_| ours)
    }

    /// Seals an envelope to an epoch.
    pub(crate) fn seal(
        &self,
        core: &[u8],
        (epoch, key): (u64, &EpochPublic),
        by: &Identity,
        number: u64,
    ) -> SealedEnvelope {
        let manifest_key = secret(self.seed, 0, "manifest", number);
        if self.full {
            let mut random = Stream::new(&secret(self.seed, 0, "wrap", number), core);
            return SealedEnvelope::seal(core, &manifest_key, (epoch, key), &by.statement, &mut random);
        }
        let wrapped = Wrapped { encapsulation: Vec::new(), ciphertext: Vec::new() };
        let signature = Signature { suite: 0, bytes: by.entity.0[..8].to_vec() };
        let bytes = codec::encode(1, &(core.to_vec(), epoch, wrapped, vec![signature]));
        codec::decode(1, &bytes, bytes.len()).expect("the fields of a sealed envelope in their order")
    }

    /// Checks an envelope's signature and parties, and that its key unwraps where its epoch is known.
    pub(crate) fn open_envelope(
        &self,
        sealed: &SealedEnvelope,
        sender: &CertifiedNode,
        recipient: &EntityId,
    ) -> Option<OpenEnvelope> {
        if self.full {
            return sealed.verify(sender, recipient).ok();
        }
        let bytes = codec::encode(1, sealed);
        let fields: (Vec<u8>, u64, Wrapped, Vec<Signature>) = codec::decode(1, &bytes, bytes.len()).ok()?;
        let core: EnvelopeCore = codec::decode(1, &fields.0, CORE_BYTES_MAX).ok()?;
        let signed = fields.3.first().is_some_and(|signature| signature.bytes == sender.entity.0[..8]);
        let ours = signed && core.sender == sender.entity && core.recipient == *recipient;
        ours.then(|| OpenEnvelope { core, hash: EnvelopeCore::hash_of(&fields.0) })
    }

    /// Whether the key of an envelope opens with the private half of its epoch.
    pub(crate) fn unwraps(&self, sealed: &SealedEnvelope, node: usize) -> bool {
        !self.full || sealed.unwrap(&self.epoch_key(node, sealed.epoch())).is_ok()
    }

    /// The certificate chain that goes into receipts.
    pub(crate) fn chain_of(&self, by: &Identity) -> CertificateChain {
        if self.full { by.chain.clone() } else { self.no_chain.clone() }
    }

    /// Signs a receipt, as it is stored and sent.
    pub(crate) fn receipt(&self, receipt: &Receipt, by: &Identity) -> Vec<u8> {
        if self.full {
            return receipt_bytes(&receipt.sign(&by.statement));
        }
        let ids = (receipt.message, receipt.envelope, receipt.agreement);
        let model: ModelReceipt = (by.entity, receipt.verdict, receipt.core, ids, (receipt.offered_at, receipt.at));
        codec::encode(1, &model)
    }

    /// Reads a receipt that this node has signed for `sender`.
    pub(crate) fn verify_receipt(&self, bytes: &[u8], node: &CertifiedNode, sender: &EntityId) -> Option<Receipt> {
        if self.full {
            return verify_from(bytes, node, sender).ok();
        }
        let (by, verdict, core, ids, times): ModelReceipt = codec::decode(1, bytes, bytes.len()).ok()?;
        let receipt = Receipt {
            verdict,
            core,
            message: ids.0,
            envelope: ids.1,
            sender: *sender,
            recipient: node.entity,
            agreement: ids.2,
            agreement_hash: [0; 32],
            counts: Counts::default(),
            offered_at: times.0,
            at: times.1,
            log_head: None,
            chain: self.no_chain.clone(),
        };
        (by == node.entity).then_some(receipt)
    }

    /// What a receipt states, whoever signed it: for the judge.
    pub(crate) fn stated(&self, bytes: &[u8]) -> Option<(EnvelopeId, Verdict)> {
        if self.full {
            let signed: SignedReceipt = codec::decode(1, bytes, RECEIPT_FILE_BYTES_MAX).ok()?;
            let receipt = signed.peek().ok()?;
            return Some((receipt.envelope, receipt.verdict));
        }
        let model: ModelReceipt = codec::decode(1, bytes, bytes.len()).ok()?;
        Some((model.3.1, model.1))
    }
}

/// Bytes of a frame on the wire, by its kind: the same for both suites.
pub(crate) fn wire_bytes(message: &Message) -> u64 {
    match message {
        Message::Announce(announce) => 48 + 36 * announce.entries.len() as u64,
        Message::Envelope(_) => 1_620,
        Message::Receipt(_) => 2_150,
        Message::Roster(_) | Message::EpochGone(_) => 1_560,
        Message::Reconcile(_) | Message::Reconciled(_) => 420,
        Message::Recall(_) | Message::Statement(_) | Message::Restored(_) => 330,
        Message::PurgedBefore(purged) => 16 + 2_150 * purged.receipts.len() as u64,
        Message::AskEnded(_) => 270,
        Message::ReconcileGap(gap) => 24 + 24 * gap.named.len() as u64,
        Message::Heartbeat(_) => 9,
        _ => 64,
    }
}

/// Randomness for one seal: a BLAKE3 stream.
struct Stream(blake3::OutputReader);

impl Stream {
    fn new(seed: &[u8; 32], about: &[u8]) -> Stream {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(about);
        Stream(hasher.finalize_xof())
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Stream {}
