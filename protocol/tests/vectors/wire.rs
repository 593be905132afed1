//! The encodings of the specification, written down a second time without the codec, so that wrong bytes can be made
//! at any place of a record.

use pakt_keys::signing::Signature;

/// Bytes under construction.
#[derive(Clone, Default)]
pub(crate) struct Wire(pub(crate) Vec<u8>);

impl Wire {
    /// Begins an encoded value of version 1.
    pub(crate) fn v1() -> Wire {
        Wire(vec![1])
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Wire {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(self, value: u8) -> Wire {
        self.raw(&[value])
    }

    pub(crate) fn u16(self, value: u16) -> Wire {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Wire {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Wire {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Wire {
        self.u64(bytes.len() as u64).raw(bytes)
    }

    pub(crate) fn text(self, text: &str) -> Wire {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn list(self, items: &[Vec<u8>]) -> Wire {
        items.iter().fold(self.u64(items.len() as u64), |wire, item| wire.raw(item))
    }

    pub(crate) fn texts(self, items: &[&str]) -> Wire {
        let items: Vec<_> = items.iter().map(|item| Wire::default().text(item).0).collect();
        self.list(&items)
    }

    /// A set of numbers as first and last of each range.
    pub(crate) fn ranges(self, ranges: &[(u64, u64)]) -> Wire {
        let items: Vec<_> = ranges.iter().map(|(first, last)| Wire::default().u64(*first).u64(*last).0).collect();
        self.list(&items)
    }

    /// Numbers with the envelopes that have them.
    pub(crate) fn named(self, named: &[(u64, [u8; 16])]) -> Wire {
        let items: Vec<_> = named.iter().map(|(number, id)| Wire::default().u64(*number).raw(id).0).collect();
        self.list(&items)
    }

    pub(crate) fn option(self, value: Option<&[u8]>) -> Wire {
        match value {
            None => self.u8(0),
            Some(bytes) => self.u8(1).raw(bytes),
        }
    }
}

/// A list of signatures.
pub(crate) fn signatures(list: &[Signature]) -> Vec<u8> {
    let items: Vec<_> = list.iter().map(|one| Wire::default().u8(one.suite).bytes(&one.bytes).0).collect();
    Wire::default().list(&items).0
}

/// A signed record inside another structure.
pub(crate) fn signed(body: &[u8], list: &[Signature]) -> Vec<u8> {
    Wire::default().bytes(body).raw(&signatures(list)).0
}

/// A signed record as a whole encoded value.
pub(crate) fn record(body: &[u8], list: &[Signature]) -> Vec<u8> {
    Wire::v1().raw(&signed(body, list)).0
}

/// What a card body says, field by field.
#[derive(Clone)]
pub(crate) struct CardFields {
    pub(crate) name: &'static str,
    pub(crate) number: &'static str,
    pub(crate) chain: Vec<u8>,
    pub(crate) addresses: Vec<&'static str>,
    pub(crate) issued_at: u64,
}

impl CardFields {
    pub(crate) fn body(&self) -> Vec<u8> {
        let wire = Wire::v1().text(self.name).text(self.number).raw(&self.chain);
        wire.texts(&self.addresses).u64(self.issued_at).0
    }
}

/// The body of a root link.
pub(crate) fn link(generation: u32, root: &[u8; 32], successor: &[u8; 32]) -> Vec<u8> {
    Wire::v1().u32(generation).raw(root).raw(successor).0
}

/// What a node certificate says, field by field.
#[derive(Clone)]
pub(crate) struct CertificateFields {
    pub(crate) entity: [u8; 32],
    pub(crate) root_generation: u32,
    pub(crate) serial: u64,
    pub(crate) transport: [u8; 32],
    pub(crate) statement: [u8; 32],
    pub(crate) contact: Vec<u8>,
    pub(crate) issued_at: u64,
}

impl CertificateFields {
    pub(crate) fn body(&self) -> Vec<u8> {
        let wire = Wire::v1().raw(&self.entity).u32(self.root_generation).u64(self.serial);
        wire.raw(&self.transport).raw(&self.statement).bytes(&self.contact).u64(self.issued_at).0
    }
}

/// A chain inside another structure, of signed links and a signed certificate.
pub(crate) fn chain(links: &[Vec<u8>], certificate: &[u8]) -> Vec<u8> {
    Wire::default().list(links).raw(certificate).0
}

/// What the terms of an agreement say, field by field.
#[derive(Clone)]
pub(crate) struct TermsFields {
    pub(crate) proposer: ([u8; 32], &'static str, &'static str),
    pub(crate) acceptor: ([u8; 32], &'static str, &'static str),
    pub(crate) version: u32,
    pub(crate) previous: Vec<u8>,
    pub(crate) nonce: [u8; 32],
    pub(crate) accept_by: u64,
    pub(crate) purposes: Vec<&'static str>,
    pub(crate) legal_basis: &'static str,
    pub(crate) valid_from: u64,
    pub(crate) valid_until: u64,
    pub(crate) message_bytes_max: u64,
    pub(crate) hold_seconds: u32,
    pub(crate) retention_seconds: Option<u64>,
    pub(crate) messages_per_hour: Option<u32>,
    pub(crate) controls: Vec<&'static str>,
    pub(crate) urgent_contact: &'static str,
    pub(crate) relay: u8,
}

impl TermsFields {
    pub(crate) fn body(&self) -> Vec<u8> {
        let party =
            |wire: Wire, (entity, name, number): ([u8; 32], &str, &str)| wire.raw(&entity).text(name).text(number);
        let wire = party(party(Wire::v1(), self.proposer), self.acceptor);
        let wire = wire.u32(self.version).raw(&self.previous).raw(&self.nonce).u64(self.accept_by);
        let wire = wire.texts(&self.purposes).text(self.legal_basis).u64(self.valid_from).u64(self.valid_until);
        let wire = wire.u64(self.message_bytes_max).u32(self.hold_seconds);
        let wire = wire.option(self.retention_seconds.map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
        let wire = wire.option(self.messages_per_hour.map(u32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice));
        wire.texts(&self.controls).text(self.urgent_contact).raw(&[self.relay]).0
    }
}

/// What a sender states that it has sent, field by field.
#[derive(Clone)]
pub(crate) struct SentFields {
    pub(crate) entity: [u8; 32],
    pub(crate) reader: [u8; 32],
    pub(crate) agreement: [u8; 32],
    pub(crate) round: u64,
    pub(crate) at: u64,
    pub(crate) given: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) delivered: Vec<(u64, u64)>,
    pub(crate) open: Vec<(u64, u64)>,
    pub(crate) excused: Vec<(u64, u64)>,
    pub(crate) forgotten: Vec<(u64, u64)>,
}

impl SentFields {
    pub(crate) fn body(&self) -> Vec<u8> {
        let wire = Wire::v1().raw(&self.entity).raw(&self.reader).raw(&self.agreement);
        let wire = wire.u64(self.round).u64(self.at).u64(self.given).u64(self.first).u64(self.last);
        wire.ranges(&self.delivered).ranges(&self.open).ranges(&self.excused).ranges(&self.forgotten).0
    }
}

/// What a receiver states that it holds, field by field.
#[derive(Clone)]
pub(crate) struct HeldFields {
    pub(crate) entity: [u8; 32],
    pub(crate) reader: [u8; 32],
    pub(crate) agreement: [u8; 32],
    pub(crate) statement: [u8; 32],
    pub(crate) at: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) held: Vec<(u64, u64)>,
    pub(crate) named: Vec<(u64, [u8; 16])>,
}

impl HeldFields {
    pub(crate) fn body(&self) -> Vec<u8> {
        let wire = Wire::v1().raw(&self.entity).raw(&self.reader).raw(&self.agreement).raw(&self.statement);
        wire.u64(self.at).u64(self.first).u64(self.last).ranges(&self.held).named(&self.named).0
    }
}
