//! The story that all vectors tell: A proposes an agreement to B, B accepts, A sends B one message, B gives a receipt.

use pakt_keys::object::{self, ObjectKey, SealBase};
use pakt_keys::signing::{Domain, RootKey, Signature};
use pakt_protocol::door::{DoorSecret, seal_flight};
use pakt_protocol::ids::ObjectId;

use crate::parties::{DAY, NOW, NamedRng, Party, secret};
use crate::wire::{self, SentFields, TermsFields, Wire};

/// The counter of the flight.
pub(crate) const FLIGHT_COUNTER: u64 = NOW + 1;
/// The number of B's epoch.
pub(crate) const EPOCH: u64 = NOW / 1_000_000;

/// The parties and what they made.
pub(crate) struct Story {
    pub(crate) a: Party,
    pub(crate) b: Party,
    pub(crate) c: Party,
}

impl Story {
    pub(crate) fn new() -> Story {
        Story { a: Party::a(), b: Party::b(), c: Party::c() }
    }

    pub(crate) fn terms(&self) -> TermsFields {
        let party = |party: &Party| (party.entity().0, party.name, party.number);
        TermsFields {
            proposer: party(&self.a),
            acceptor: party(&self.b),
            version: 1,
            previous: vec![0],
            nonce: secret("agreement nonce"),
            accept_by: NOW + 30 * DAY,
            purposes: vec!["radiology", "second opinion"],
            legal_basis: "treatment",
            valid_from: NOW,
            valid_until: NOW + 365 * DAY,
            message_bytes_max: 100_000_000_000,
            hold_seconds: 48 * 3600,
            retention_seconds: Some(10 * 365 * 86_400),
            messages_per_hour: None,
            controls: vec!["malware-scan"],
            urgent_contact: "+47 55 00 00 00",
            relay: 0,
        }
    }

    pub(crate) fn agreement_id(&self) -> [u8; 32] {
        blake3::derive_key("pakt agreement v1", &self.terms().body())
    }

    /// A record with these terms and signature lists.
    pub(crate) fn record(&self, terms: &[u8], proposer: &[Signature], acceptor: Option<&[Signature]>) -> Vec<u8> {
        let id = blake3::derive_key("pakt agreement v1", terms);
        self.record_with_id(&id, terms, proposer, acceptor)
    }

    pub(crate) fn record_with_id(
        &self,
        id: &[u8; 32],
        terms: &[u8],
        proposer: &[Signature],
        acceptor: Option<&[Signature]>,
    ) -> Vec<u8> {
        self.record_of(id, terms, Some(proposer), acceptor)
    }

    /// A record as it may be in an amendment, whose proposer need not have signed.
    pub(crate) fn record_of(
        &self,
        id: &[u8; 32],
        terms: &[u8],
        proposer: Option<&[Signature]>,
        acceptor: Option<&[Signature]>,
    ) -> Vec<u8> {
        let wire = Wire::default().raw(id).bytes(terms).option(proposer.map(wire::signatures).as_deref());
        wire.option(acceptor.map(wire::signatures).as_deref()).0
    }

    /// The terms of version 2: half the largest message.
    pub(crate) fn amended_terms(&self) -> TermsFields {
        let first = self.terms().body();
        let previous = blake3::derive_key("pakt agreement terms v1", &first);
        let mut terms = self.terms();
        (terms.version, terms.previous) = (2, [&[1][..], &previous].concat());
        (terms.nonce, terms.message_bytes_max) = (self.agreement_id(), 50_000_000_000);
        terms
    }

    /// The file of an amendment with these signatures.
    pub(crate) fn amendment(&self, terms: &[u8], a: Option<&Party>, b: Option<&Party>) -> Vec<u8> {
        let sign = |party: &Party| party.root.sign(Domain::AgreementTerms, terms);
        let (a, b) = (a.map(sign), b.map(sign));
        let record = self.record_of(&self.agreement_id(), terms, a.as_deref(), b.as_deref());
        self.file_of(&record, &self.a.signed_card(), &self.b.signed_card(), &[])
    }

    /// A record of these terms, signed by A and, if it is complete, by B.
    pub(crate) fn signed_record(&self, terms: &[u8], complete: bool) -> Vec<u8> {
        let sign = |root: &RootKey| root.sign(Domain::AgreementTerms, terms);
        let acceptor = complete.then(|| sign(&self.b.root));
        self.record(terms, &sign(&self.a.root), acceptor.as_deref())
    }

    /// The body of a door grant of `issuer` for `holder`.
    pub(crate) fn grant_body(&self, issuer: &Party, holder: &Party) -> Vec<u8> {
        self.grant_body_of(&self.agreement_id(), issuer, holder, 1, &secret(&format!("door of {}", issuer.number)))
    }

    pub(crate) fn grant_body_of(
        &self,
        agreement: &[u8; 32],
        issuer: &Party,
        holder: &Party,
        counter: u64,
        secret: &[u8],
    ) -> Vec<u8> {
        let (from, to) = (issuer.entity().0, holder.entity().0);
        let info = [b"pakt door grant v1".as_slice(), agreement, &from, &to, &counter.to_be_bytes()].concat();
        let wrapped = holder.contact.public().wrap(&info, secret, &mut NamedRng::new("grant"));
        let wire = Wire::v1().raw(agreement).raw(&from).raw(&to).u64(counter);
        wire.bytes(&wrapped.encapsulation).bytes(&wrapped.ciphertext).0
    }

    pub(crate) fn signed_grant(&self, issuer: &Party, holder: &Party) -> Vec<u8> {
        let body = self.grant_body(issuer, holder);
        wire::signed(&body, &issuer.sign(Domain::DoorGrant, &body))
    }

    /// A whole agreement file.
    pub(crate) fn file_of(&self, record: &[u8], proposer: &[u8], acceptor: &[u8], grants: &[Vec<u8>]) -> Vec<u8> {
        Wire::v1().raw(record).raw(proposer).raw(acceptor).list(grants).0
    }

    /// The proposal, or the agreement, with this record.
    pub(crate) fn file(&self, record: &[u8], complete: bool) -> Vec<u8> {
        let mut grants = vec![self.signed_grant(&self.a, &self.b)];
        if complete {
            grants.push(self.signed_grant(&self.b, &self.a));
        }
        self.file_of(record, &self.a.signed_card(), &self.b.signed_card(), &grants)
    }

    pub(crate) fn good_file(&self, complete: bool) -> Vec<u8> {
        self.file(&self.signed_record(&self.terms().body(), complete), complete)
    }

    /// What B shows to A: groups in order, the epoch and its key.
    pub(crate) fn roster_body(&self, groups: &[(&str, &str)], epoch_key: &[u8]) -> Vec<u8> {
        let groups: Vec<_> = groups.iter().map(|(id, name)| Wire::default().raw(&group(id)).text(name).0).collect();
        let wire = Wire::v1().raw(&self.b.entity().0).raw(&self.a.entity().0).raw(&self.agreement_id());
        wire.u64(7).list(&groups).u64(EPOCH).bytes(epoch_key).0
    }

    pub(crate) fn good_roster(&self) -> Vec<u8> {
        let key = self.b.epoch.public();
        self.roster_body(&[("radiology", "Radiology reception"), ("reception", "Reception")], key.as_bytes())
    }

    /// The body of A's end of the agreement.
    pub(crate) fn statement_body(&self, agreement: &[u8; 32], party: &Party, number: u64, rest: &[u8]) -> Vec<u8> {
        Wire::v1().raw(agreement).raw(&party.entity().0).u64(number).raw(rest).0
    }

    pub(crate) fn good_statement(&self) -> Vec<u8> {
        let rest = Wire::default().u8(0).u32(0).u64(NOW + 90 * DAY).0;
        self.statement_body(&self.agreement_id(), &self.a, 1, &rest)
    }

    /// What A states to B about its numbers 1 to 40, of 60 that it has given: 11 and 14 ended undelivered.
    pub(crate) fn sent(&self) -> SentFields {
        SentFields {
            entity: self.a.entity().0,
            reader: self.b.entity().0,
            agreement: self.agreement_id(),
            round: NOW,
            at: NOW,
            given: 60,
            first: 1,
            last: 40,
            delivered: vec![(1, 10), (15, 30)],
            open: vec![(12, 12)],
            excused: vec![(13, 13)],
            forgotten: vec![(31, 40)],
        }
    }

    /// That statement as a whole record.
    pub(crate) fn good_sent(&self) -> Vec<u8> {
        let body = self.sent().body();
        wire::record(&body, &self.a.sign(Domain::SentStatement, &body))
    }

    /// The flight with which A dials B, and the ClientHello-like text in it.
    pub(crate) fn flight(&self) -> Box<[u8; 2048]> {
        let rng = &mut NamedRng::new("flight");
        seal_flight(&self.door(), FLIGHT_COUNTER, &client_hello(), rng).expect("the text is short enough")
    }

    /// The secret that B granted to A.
    pub(crate) fn door(&self) -> DoorSecret {
        DoorSecret::from_bytes(secret(&format!("door of {}", self.b.number)))
    }

    /// The message's manifest, sealed: one segment.
    pub(crate) fn segments(&self) -> Vec<Vec<u8>> {
        vec![seal_segment(&manifest_key(), 0, &segment_body(&head(Some("radiology")), &tree(), &chunks(), totals()))]
    }

    pub(crate) fn counts(&self) -> Vec<u8> {
        let content: usize = sealed_chunks().iter().map(|(_, sealed)| sealed.len()).sum();
        let sealed = content + self.segments().iter().map(Vec::len).sum::<usize>();
        Wire::default().u64(2).u64(69).u64(2).u64(1).u64(sealed as u64).0
    }

    /// The core of A's envelope, between these entities.
    pub(crate) fn core_between(&self, sender: &Party, recipient: &Party, suite: u8, priority: u32) -> Vec<u8> {
        let wire = Wire::v1().u8(suite).raw(&id("message")).raw(&id("envelope"));
        let wire = wire.raw(&sender.entity().0).raw(&recipient.entity().0).raw(&group("reception")).u32(priority);
        let wire = wire.u64(NOW + DAY).raw(&self.counts()).raw(&self.agreement_id()).u32(1).u64(1);
        let ids: Vec<u8> = self.segments().iter().flat_map(|sealed| ObjectId::of(sealed).0).collect();
        wire.raw(&blake3::derive_key("pakt manifest root v1", &ids)).0
    }

    pub(crate) fn core(&self) -> Vec<u8> {
        self.core_between(&self.a, &self.b, 1, 1)
    }

    /// The envelope inside another structure, around this core, its seal signed by `signer` under `domain`.
    pub(crate) fn envelope_of(&self, core: &[u8], signer: &Party, domain: Domain) -> Vec<u8> {
        let hash = blake3::derive_key("pakt envelope core v1", core);
        let info = [b"pakt envelope v1".as_slice(), &hash, &EPOCH.to_be_bytes()].concat();
        let wrapped = self.b.epoch.public().wrap(&info, &manifest_key(), &mut NamedRng::new("envelope"));
        let wrapped_bytes = [wrapped.encapsulation.as_slice(), &wrapped.ciphertext].concat();
        let wrapped_hash = blake3::derive_key("pakt wrapped key v1", &wrapped_bytes);
        let seal = Wire::v1().raw(&hash).u64(EPOCH).raw(&wrapped_hash).0;
        let wire = Wire::default().bytes(core).u64(EPOCH).bytes(&wrapped.encapsulation).bytes(&wrapped.ciphertext);
        wire.raw(&wire::signatures(&signer.sign(domain, &seal))).0
    }

    pub(crate) fn envelope(&self) -> Vec<u8> {
        self.envelope_of(&self.core(), &self.a, Domain::Envelope)
    }

    /// The body of B's receipt with this verdict, between these parties, showing this chain.
    pub(crate) fn receipt_body(&self, verdict: &[u8], sender: &Party, recipient: &Party, chain: &[u8]) -> Vec<u8> {
        let core = blake3::derive_key("pakt envelope core v1", &self.core());
        let wire = Wire::v1().raw(verdict).raw(&core).raw(&id("message")).raw(&id("envelope"));
        let wire = wire.raw(&sender.entity().0).raw(&recipient.entity().0).raw(&self.agreement_id());
        let wire = wire.raw(&blake3::derive_key("pakt agreement terms v1", &self.terms().body()));
        let wire = wire.raw(&self.counts()).u64(NOW + DAY + 1_000_000).u64(NOW + DAY + 5_000_000);
        wire.u8(0).raw(chain).0
    }

    pub(crate) fn good_receipt(&self) -> Vec<u8> {
        self.receipt_body(&DELIVERED, &self.a, &self.b, &self.b.chain())
    }
}

/// The verdict Held(Delivered).
pub(crate) const DELIVERED: [u8; 8] = [0; 8];

/// The id of a thing with 16 bytes.
pub(crate) fn id(name: &str) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&secret(&format!("id of {name}"))[..16]);
    id
}

pub(crate) fn group(name: &str) -> [u8; 16] {
    id(&format!("group {name}"))
}

pub(crate) fn manifest_key() -> [u8; 32] {
    secret("manifest key")
}

/// Not a real ClientHello: the door does not look inside.
pub(crate) fn client_hello() -> Vec<u8> {
    b"not a real ClientHello, for the door does not look inside. ".repeat(24)
}

/// What is sent: a folder with two files.
pub(crate) fn files() -> [(&'static str, Vec<u8>); 2] {
    [("a.bin", vec![0x41; 64]), ("b.txt", b"hello".to_vec())]
}

/// A zstd frame that repeats one byte, at most 255 times: a single segment that states its length, one block.
pub(crate) fn zstd_frame(byte: u8, length: u8) -> Vec<u8> {
    let block = 1 | 1 << 1 | u32::from(length) << 3;
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, length], &block.to_le_bytes()[..3], &[byte]].concat()
}

/// Sealed objects with their rows of the chunk table: one in zstd, one raw.
pub(crate) fn sealed_chunks() -> Vec<(Vec<u8>, Vec<u8>)> {
    let [(_, first), (_, second)] = files();
    vec![chunk(1, first.len() as u32, &zstd_frame(0x41, 64)), chunk(0, second.len() as u32, &second)]
}

/// A sealed chunk and its row.
pub(crate) fn chunk(codec: u8, plain_bytes: u32, encoded: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let key = object::derive_key(&SealBase::from_bytes(secret("message secret")), "pakt chunk v1", encoded);
    let sealed = object::seal(&key, encoded);
    (row(&sealed, &key, codec, plain_bytes, encoded.len() as u32), sealed)
}

/// A row of the chunk table.
pub(crate) fn row(sealed: &[u8], key: &ObjectKey, codec: u8, plain_bytes: u32, encoded_bytes: u32) -> Vec<u8> {
    let wire = Wire::default().raw(&ObjectId::of(sealed).0).raw(key.as_bytes());
    wire.u8(codec).u32(plain_bytes).u32(encoded_bytes).0
}

pub(crate) fn chunks() -> Vec<Vec<u8>> {
    sealed_chunks().into_iter().map(|(row, _)| row).collect()
}

pub(crate) fn dir(depth: u8, name: &str) -> Vec<u8> {
    Wire::default().u8(depth).text(name).u32(0).0
}

pub(crate) fn file(depth: u8, name: &str, content: &[u8]) -> Vec<u8> {
    let wire = Wire::default().u8(depth).text(name).u32(1).u64(content.len() as u64);
    wire.raw(blake3::hash(content).as_bytes()).0
}

pub(crate) fn tree() -> Vec<Vec<u8>> {
    let mut tree = vec![dir(0, "scan")];
    tree.extend(files().iter().map(|(name, content)| file(1, name, content)));
    tree
}

pub(crate) fn head(purpose: Option<&str>) -> Vec<u8> {
    let wire = Wire::default().text("Second opinion").text("Please have a look.").text("Reception");
    let purpose = purpose.map(|purpose| Wire::default().text(purpose).0);
    wire.option(purpose.as_deref()).u8(0).u64(NOW + DAY).0
}

/// Rows, files, bytes, chunks, segments.
pub(crate) fn totals() -> [u64; 5] {
    [3, 2, 69, 2, 1]
}

/// The body of a lone segment.
pub(crate) fn segment_body(head: &[u8], tree: &[Vec<u8>], chunks: &[Vec<u8>], totals: [u64; 5]) -> Vec<u8> {
    let totals = totals.iter().fold(Wire::default(), |wire, total| wire.u64(*total)).0;
    Wire::v1().option(Some(head)).list(tree).list(chunks).option(Some(&totals)).0
}

/// A sealed segment.
pub(crate) fn seal_segment(key: &[u8; 32], index: u64, body: &[u8]) -> Vec<u8> {
    let base = SealBase::from_bytes(*key);
    let salted = [&index.to_be_bytes()[..], body].concat();
    let salt = object::derive_key(&base, "pakt segment salt v1", &salted);
    seal_with_salt(key, index, salt.as_bytes(), body)
}

pub(crate) fn seal_with_salt(key: &[u8; 32], index: u64, salt: &[u8; 32], body: &[u8]) -> Vec<u8> {
    let base = SealBase::from_bytes(*key);
    let keyed = [&index.to_be_bytes()[..], salt].concat();
    let object_key = object::derive_key(&base, "pakt segment key v1", &keyed);
    [&salt[..], &object::seal(&object_key, body)].concat()
}
