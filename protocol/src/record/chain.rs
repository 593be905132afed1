//! Root links and node certificates: how a running node proves which entity it is.
//!
//! ```text
//! inception root --commits to--> root 1 --commits to--> root 2 …     (each link signed by the root that it names)
//!                                                          \--signs--> node certificate --certifies--> node keys
//! ```
//!
//! **Invariant:** an entity is named by its inception root for ever; a later root counts only if the root before it
//! committed to it.

use pakt_keys::EntityId;
use pakt_keys::sealing::ContactPublic;
use pakt_keys::signing::{Domain, RootKey, RootPublic, StatementPublic, TransportPublic, successor_commitment};
use serde::{Deserialize, Serialize};

use super::{Record, RecordError, Signed};
use crate::door::next_counter;
use crate::time::Time;

/// Root links in one chain: an entity that replaces its root every year for a lifetime stays below.
pub const ROOT_LINKS_MAX: usize = 64;

/// One root and its commitment to the next one; signed by the root that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootLink {
    /// 0 for the inception root.
    pub generation: u32,
    /// The root that this link introduces.
    pub root: RootPublic,
    /// Hash of the root that may follow.
    pub successor: [u8; 32],
}

impl Record for RootLink {
    const DOMAIN: Domain = Domain::RootLink;
    const BYTES_MAX: usize = 256;
}

/// What a root certifies about the entity's running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCertificate {
    /// Whose node this is.
    pub entity: EntityId,
    /// The generation of the root that signs.
    pub root_generation: u32,
    /// Certificates of one root are ordered by this number; times do not count.
    pub serial: u64,
    /// Proves itself in TLS; the libp2p PeerId.
    pub transport: TransportPublic,
    /// Signs rosters, envelopes, receipts, addresses.
    pub statement: StatementPublic,
    /// Door grants are sealed to it.
    pub contact: ContactPublic,
    /// When it was made, for people.
    pub issued_at: Time,
}

impl Record for NodeCertificate {
    const DOMAIN: Domain = Domain::NodeCertificate;
    const BYTES_MAX: usize = 4096;
}

/// The links from the inception root to the current one, and the node certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateChain {
    /// All root links, inception first.
    pub links: Vec<Signed<RootLink>>,
    /// The node certificate, signed by the last link's root.
    pub certificate: Signed<NodeCertificate>,
}

/// A node whose chain was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedNode {
    /// Whose node it is.
    pub entity: EntityId,
    /// Generation of the current root.
    pub root_generation: u32,
    /// The current root.
    pub root: RootPublic,
    /// The roots before it, newest first: what they signed while they counted still holds.
    pub former_roots: Vec<RootPublic>,
    /// Serial of the certificate.
    pub serial: u64,
    /// Key that proves itself in TLS.
    pub transport: TransportPublic,
    /// Key that signs statements.
    pub statement: StatementPublic,
    /// Key that door grants are sealed to.
    pub contact: ContactPublic,
}

/// Why a certificate chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No link, or more than [`ROOT_LINKS_MAX`].
    #[error("the certificate chain has {0} root links")]
    Length(usize),
    /// A link cannot be read or is not signed by the root that it names.
    #[error("root link {0} is not valid")]
    Link(usize),
    /// A link's generation is not its position.
    #[error("root link {0} is out of order")]
    Order(usize),
    /// The root before did not commit to this one.
    #[error("root {0} is not the successor that the root before it committed to")]
    Uncommitted(usize),
    /// The certificate cannot be read or is not signed by the current root.
    #[error("the node certificate is not valid")]
    Certificate,
    /// The certificate names another entity or root generation.
    #[error("the node certificate belongs to another entity or root")]
    Foreign,
}

impl CertificateChain {
    /// A chain for a new entity: its inception root commits to `next` and certifies the node keys with serial 1.
    pub fn create(
        root: &RootKey,
        next: &RootPublic,
        node: (TransportPublic, StatementPublic, ContactPublic),
        now: Time,
    ) -> CertificateChain {
        let (transport, statement, contact) = node;
        let link = RootLink { generation: 0, root: root.public(), successor: successor_commitment(next) };
        let certificate = NodeCertificate {
            entity: EntityId::of(&root.public()),
            root_generation: 0,
            serial: 1,
            transport,
            statement,
            contact,
            issued_at: now,
        };
        CertificateChain {
            links: vec![Signed::create(&link, |domain, bytes| root.sign(domain, bytes))],
            certificate: Signed::create(&certificate, |domain, bytes| root.sign(domain, bytes)),
        }
    }

    /// The same roots with a certificate for new node keys, which replaces the one before.
    ///
    /// # Errors
    /// [`ChainError`] if this chain does not hold, [`ChainError::Certificate`] if `root` is not its current one.
    pub fn renewed(
        &self,
        root: &RootKey,
        node: (TransportPublic, StatementPublic, ContactPublic),
        now: Time,
    ) -> Result<CertificateChain, ChainError> {
        let before = self.verify()?;
        if before.root != root.public() {
            return Err(ChainError::Certificate);
        }
        Ok(self.certified(root, before.entity, (before.root_generation, before.serial), node, now))
    }

    /// One root more: `successor`, to which the current one has committed, commits to `next` and certifies new node keys.
    ///
    /// # Errors
    /// [`ChainError`] if this chain does not hold, is full, or committed to another root.
    pub fn succeeded(
        &self,
        successor: &RootKey,
        next: &RootPublic,
        node: (TransportPublic, StatementPublic, ContactPublic),
        now: Time,
    ) -> Result<CertificateChain, ChainError> {
        let before = self.verify()?;
        let generation = before.root_generation.saturating_add(1);
        let link = RootLink { generation, root: successor.public(), successor: successor_commitment(next) };
        let link = Signed::create(&link, |domain, bytes| successor.sign(domain, bytes));
        let links = self.links.iter().cloned().chain([link]).collect();
        let longer = CertificateChain { links, certificate: self.certificate.clone() };
        longer.verify_links()?;
        Ok(longer.certified(successor, before.entity, (generation, 0), node, now))
    }

    /// The serial grows with the clock too, so that a store that was set back repeats none.
    fn certified(
        &self,
        root: &RootKey,
        entity: EntityId,
        (root_generation, last_serial): (u32, u64),
        (transport, statement, contact): (TransportPublic, StatementPublic, ContactPublic),
        now: Time,
    ) -> CertificateChain {
        let serial = next_counter(last_serial, now);
        let certificate =
            NodeCertificate { entity, root_generation, serial, transport, statement, contact, issued_at: now };
        let certificate = Signed::create(&certificate, |domain, bytes| root.sign(domain, bytes));
        CertificateChain { links: self.links.clone(), certificate }
    }

    /// Checks every link, commitment and signature.
    ///
    /// # Errors
    /// The first [`ChainError`] found.
    pub fn verify(&self) -> Result<CertifiedNode, ChainError> {
        let roots = self.verify_links()?;
        let (first, last) = match roots.as_slice() {
            [first, .., last] => (first, last),
            [only] => (only, only),
            [] => return Err(ChainError::Length(0)),
        };
        let certificate = self
            .certificate
            .verify(|domain, bytes, signatures| last.root.verify(domain, bytes, signatures))
            .map_err(|_| ChainError::Certificate)?;
        let entity = EntityId::of(&first.root);
        if certificate.entity != entity || certificate.root_generation != last.generation {
            return Err(ChainError::Foreign);
        }
        Ok(CertifiedNode {
            entity,
            root_generation: last.generation,
            root: last.root,
            former_roots: roots.iter().rev().skip(1).map(|link| link.root).collect(),
            serial: certificate.serial,
            transport: certificate.transport,
            statement: certificate.statement,
            contact: certificate.contact,
        })
    }

    /// The roots in order, each checked against the commitment before it.
    ///
    /// # Errors
    /// The first [`ChainError`] of the links.
    pub fn verify_links(&self) -> Result<Vec<RootLink>, ChainError> {
        if self.links.is_empty() || self.links.len() > ROOT_LINKS_MAX {
            return Err(ChainError::Length(self.links.len()));
        }
        let mut roots: Vec<RootLink> = Vec::with_capacity(self.links.len());
        for (at, signed) in self.links.iter().enumerate() {
            let link = signed.peek().map_err(|_| ChainError::Link(at))?;
            signed
                .verify(|domain, bytes, signatures| link.root.verify(domain, bytes, signatures))
                .map_err(|_| ChainError::Link(at))?;
            if usize::try_from(link.generation) != Ok(at) {
                return Err(ChainError::Order(at));
            }
            let committed = roots.last().is_none_or(|before| before.successor == successor_commitment(&link.root));
            if !committed {
                return Err(ChainError::Uncommitted(at));
            }
            roots.push(link);
        }
        Ok(roots)
    }
}

impl CertifiedNode {
    /// Whether this certificate replaces `other`: order is (root generation, serial).
    pub fn is_newer_than(&self, other: &CertifiedNode) -> bool {
        (self.root_generation, self.serial) > (other.root_generation, other.serial)
    }

    /// Opens a record that this node's statement key must have signed.
    ///
    /// # Errors
    /// [`RecordError::Signature`] or [`RecordError::Codec`].
    pub fn open_statement<T: Record>(&self, signed: &Signed<T>) -> Result<T, RecordError> {
        signed.verify(|domain, bytes, signatures| self.statement.verify(domain, bytes, signatures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    #[test]
    fn p4_binds_root_entity_and_node() {
        let party = Party::new(1);
        let node = party.chain.verify().expect("a fresh chain holds");
        assert_eq!(node.entity, party.entity());
        let other = Party::new(2);
        let swap = |links: &CertificateChain, certificate: &CertificateChain| CertificateChain {
            links: links.links.clone(),
            certificate: certificate.certificate.clone(),
        };
        let empty = CertificateChain { links: vec![], certificate: party.chain.certificate.clone() };
        let doubled = CertificateChain {
            links: [party.chain.links.clone(), party.chain.links.clone()].concat(),
            certificate: party.chain.certificate.clone(),
        };
        let rows = [
            (swap(&other.chain, &party.chain), ChainError::Certificate),
            (swap(&party.chain, &other.chain), ChainError::Certificate),
            (empty, ChainError::Length(0)),
            (doubled, ChainError::Order(1)),
        ];
        for (chain, error) in rows {
            assert_eq!(chain.verify(), Err(error));
        }
    }

    #[test]
    fn p4_a_successor_must_have_been_committed_to() {
        let party = Party::new(1);
        let link = |root: &RootKey| {
            let link = RootLink { generation: 1, root: root.public(), successor: [0; 32] };
            Signed::create(&link, |domain, bytes| root.sign(domain, bytes))
        };
        let mut chain = party.chain.clone();
        chain.links.push(link(&party.next));
        assert_eq!(chain.verify(), Err(ChainError::Certificate), "the old root no longer certifies");
        assert!(chain.verify_links().is_ok());
        chain.links[1] = link(&Party::new(2).next);
        assert_eq!(chain.verify(), Err(ChainError::Uncommitted(1)));
    }

    fn node(seed: u8) -> (TransportPublic, StatementPublic, ContactPublic) {
        let party = Party::new(seed);
        let node = party.chain.verify().expect("holds");
        (node.transport, node.statement, node.contact)
    }

    #[test]
    fn a_renewed_chain_replaces_the_one_before() {
        let party = Party::new(1);
        let first = party.chain.verify().expect("holds");
        let renewed = party.chain.renewed(&party.root, node(5), Time(1_000_000)).expect("the root's own");
        let second = renewed.verify().expect("holds");
        assert!(second.is_newer_than(&first) && second.transport != first.transport);
        assert_eq!((second.entity, second.root_generation), (first.entity, 0));
        let third = renewed.renewed(&party.root, node(6), Time(0)).expect("holds").verify().expect("holds");
        assert!(third.is_newer_than(&second), "whatever the clock shows");
        assert_eq!(party.chain.renewed(&party.next, node(5), Time(1)), Err(ChainError::Certificate));
    }

    #[test]
    fn the_committed_root_and_no_other_succeeds() {
        let (party, other) = (Party::new(1), Party::new(2));
        let renewed = party.chain.renewed(&party.root, node(5), Time(9)).expect("the root's own");
        let after = RootKey::from_seed([77; 32]);
        let longer = renewed.succeeded(&party.next, &after.public(), node(6), Time(1)).expect("committed to");
        let certified = longer.verify().expect("holds");
        assert!(certified.is_newer_than(&renewed.verify().expect("holds")));
        assert_eq!(
            (certified.entity, certified.root_generation, certified.root),
            (party.entity(), 1, party.next.public())
        );
        assert!(longer.renewed(&party.root, node(7), Time(2)).is_err(), "the old root certifies nothing any more");
        assert!(longer.succeeded(&after, &other.root.public(), node(7), Time(2)).is_ok());
        let wrong = renewed.succeeded(&other.next, &after.public(), node(6), Time(1));
        assert_eq!(wrong, Err(ChainError::Uncommitted(1)));
    }

    #[test]
    fn p4_a_certificate_of_another_entity_is_foreign() {
        let party = Party::new(1);
        let mut certificate = party.chain.certificate.peek().expect("readable");
        certificate.entity = Party::new(2).entity();
        let chain = CertificateChain {
            links: party.chain.links.clone(),
            certificate: Signed::create(&certificate, |domain, bytes| party.root.sign(domain, bytes)),
        };
        assert_eq!(chain.verify(), Err(ChainError::Foreign));
    }
}
