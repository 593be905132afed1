//! The identity of a real node in the hands of somebody else: its keys, its agreement, its way through the victim's
//! door.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pakt_keys::keystore::Keystore;
use pakt_keys::signing::{Domain, RootKey, Signature, StatementKey};
use pakt_keys::{EntityId, EpochKey};
use pakt_node::ambient;
use pakt_node::config::Config;
use pakt_node::setup;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::codec;
use pakt_protocol::door::{DoorSecret, seal_flight};
use pakt_protocol::hello::{Hello, VersionRange};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::limits::OBJECT_BYTES_MAX;
use pakt_protocol::message::lane::{LaneKind, LaneOpen};
use pakt_protocol::message::{Message, RosterUpdate};
use pakt_protocol::record::RecordError;
use pakt_protocol::record::Signed;
use pakt_protocol::record::agreement::{AgreementFile, Side, VerifiedFile};
use pakt_protocol::record::chain::{CertificateChain, CertifiedNode, NodeCertificate};
use pakt_protocol::record::roster::{GroupId, Roster, RosterGroup};
use pakt_protocol::record::statement::{Action, AgreementStatement, StatementChain};
use pakt_protocol::time::Time;
use rustls::crypto::SupportedKxGroup;

use crate::bulk::Bulk;
use crate::session::{Control, Session};
use crate::tls;
use crate::wire::{Ears, PATIENCE, Stop, Wire, knock};

/// A partner gone bad.
pub(crate) struct Partner {
    /// Its private keys.
    pub(crate) keys: Keystore,
    root: RootKey,
    /// What it shows as its certificates.
    pub(crate) chain: CertificateChain,
    /// The agreement as both signed it.
    pub(crate) file: AgreementFile,
    /// The same, checked.
    pub(crate) checked: VerifiedFile,
    /// Its own epoch, which its rosters publish.
    pub(crate) epoch: EpochKey,
    /// The roster that counts.
    pub(crate) roster: Signed<Roster>,
    /// What it has stated about the agreement.
    pub(crate) stated: StatementChain,
    /// The victim's door.
    pub(crate) victim: SocketAddr,
    /// What the victim granted.
    pub(crate) door: DoorSecret,
    counter: u64,
    ears: Ears,
}

/// How a lane is dialled; each part may be a lie.
pub(crate) struct Dial {
    /// Seed of the key that is proven in TLS.
    pub(crate) transport: [u8; 32],
    /// The first frame, without its length.
    pub(crate) hello: Vec<u8>,
    /// What is asked for in the negotiation.
    pub(crate) protocol: &'static str,
    /// The frame behind it.
    pub(crate) open: Message,
    /// The key exchange.
    pub(crate) exchange: &'static dyn SupportedKxGroup,
}

impl Partner {
    /// Takes over the node in `dir`, whose agreement with the victim lies in `agreement`.
    ///
    /// # Panics
    /// When something of it cannot be read: nothing can be tried then.
    pub(crate) fn take_over(dir: &Path, agreement: &Path, victim: SocketAddr, ears: Ears) -> Partner {
        let config = Config::load(dir).expect("there is a node");
        let keys = setup::unlock(&config, None).expect("its keys lie open");
        let chain: CertificateChain = codec::decode(1, &keys.chain, 64 << 10).expect("its chain can be read");
        let text = std::fs::read(agreement).expect("its agreement was exported");
        let bytes = armour::decode(Label::Agreement, &text).expect("it is an agreement");
        let checked = AgreementFile::verify(&bytes).expect("it is valid");
        let file = codec::decode(1, &bytes, 320 << 10).expect("it was read before");
        let own = chain.verify().expect("its chain holds").entity;
        let grant = checked.grants.iter().find(|grant| grant.holder == own).expect("the victim granted a door");
        let door = DoorSecret::from_bytes(*grant.open(&keys.contact).expect("it was granted to these keys"));
        let held = keys.root.as_ref().expect("the root lies in the keystore");
        let root = held.key(&[]).expect("nobody has to approve");
        let epoch = EpochKey::generate(&mut ambient::rng());
        let roster = Signed::from_parts(Vec::new(), Vec::new());
        let mut partner = Partner {
            keys,
            root,
            chain,
            file,
            checked,
            epoch,
            roster,
            stated: StatementChain::default(),
            victim,
            door,
            counter: 0,
            ears,
        };
        let roster = partner.fresh_roster();
        partner.roster = partner.sign_roster(&roster);
        partner
    }

    /// Its entity.
    pub(crate) fn entity(&self) -> EntityId {
        self.chain.verify().expect("its chain holds").entity
    }

    /// The victim's entity.
    pub(crate) fn victim_entity(&self) -> EntityId {
        let own = self.entity();
        let [a, b] = [&self.checked.terms.proposer, &self.checked.terms.acceptor].map(|party| party.entity);
        if a == own { b } else { a }
    }

    /// Takes a later version of its agreement for the one that counts.
    pub(crate) fn adopt(&mut self, (checked, file): (VerifiedFile, Vec<u8>)) {
        self.file = codec::decode(1, &file, 320 << 10).expect("it was read before");
        self.checked = checked;
    }

    /// Which side of the agreement it is.
    pub(crate) fn side(&self) -> Side {
        self.checked.terms.side_of(&self.entity()).expect("it is a party")
    }

    /// The victim's node as its card in the agreement certifies it.
    pub(crate) fn victim_node(&self) -> CertifiedNode {
        match self.side() {
            Side::Proposer => self.checked.acceptor.node.clone(),
            Side::Acceptor => self.checked.proposer.node.clone(),
        }
    }

    /// The agreement's id.
    pub(crate) fn agreement(&self) -> AgreementId {
        self.checked.record.id
    }

    /// Its root key.
    pub(crate) fn root(&self) -> &RootKey {
        &self.root
    }

    /// Signs with its statement key.
    pub(crate) fn sign(&self, domain: Domain, bytes: &[u8]) -> Vec<Signature> {
        self.keys.statement.sign(domain, bytes)
    }

    /// A number above all that this node has used.
    pub(crate) fn next_counter(&mut self) -> u64 {
        self.counter = micros().max(self.counter + 1);
        self.counter
    }

    /// A roster with one group and a new number.
    pub(crate) fn fresh_roster(&mut self) -> Roster {
        Roster {
            issuer: self.entity(),
            reader: self.victim_entity(),
            agreement: self.agreement(),
            counter: self.next_counter(),
            groups: vec![RosterGroup { id: GroupId([1; 16]), name: "Reception".into() }],
            epoch: 1,
            epoch_key: self.epoch.public(),
        }
    }

    /// Signs a roster as it should be.
    pub(crate) fn sign_roster(&self, roster: &Roster) -> Signed<Roster> {
        Signed::create(roster, |domain, bytes| self.sign(domain, bytes))
    }

    /// Its next statement about the agreement.
    ///
    /// # Errors
    /// When it cannot state this now.
    pub(crate) fn next_statement(&self, action: Action) -> Result<AgreementStatement, RecordError> {
        self.stated.next(self.agreement(), self.entity(), action, ambient::now())
    }

    /// Signs a statement with the key that its action needs.
    pub(crate) fn sign_statement(&self, statement: &AgreementStatement) -> Signed<AgreementStatement> {
        Signed::create(statement, |domain, bytes| match statement.action.needs_root() {
            true => self.root().sign(domain, bytes),
            false => self.sign(domain, bytes),
        })
    }

    /// A certificate of this node, changed and signed anew by its root.
    pub(crate) fn recertify(&self, change: impl FnOnce(&mut NodeCertificate)) -> CertificateChain {
        let mut certificate = self.chain.certificate.peek().expect("its chain was read before");
        change(&mut certificate);
        let certificate = Signed::create(&certificate, |domain, bytes| self.root().sign(domain, bytes));
        CertificateChain { links: self.chain.links.clone(), certificate }
    }

    /// A first frame with this chain.
    pub(crate) fn hello(&self, chain: &CertificateChain, versions: VersionRange) -> Vec<u8> {
        Hello { chain: chain.clone(), versions, now: Time(micros()) }.to_bytes()
    }

    /// How an honest node dials a lane.
    pub(crate) fn honest(&self, kind: LaneKind) -> Dial {
        Dial {
            transport: *self.keys.transport.seed(),
            hello: self.hello(&self.chain, VersionRange::OURS),
            protocol: kind.protocol(),
            open: LaneOpen { agreement_version: self.checked.terms.version, ..open(kind) }.into(),
            exchange: tls::HYBRID,
        }
    }

    /// A flight through the victim's door with this ClientHello.
    pub(crate) fn flight(&mut self, client_hello: &[u8]) -> Vec<u8> {
        let counter = self.next_counter();
        self.flight_with(counter, client_hello)
    }

    /// The same under a counter of choice.
    pub(crate) fn flight_with(&self, counter: u64, client_hello: &[u8]) -> Vec<u8> {
        seal_flight(&self.door, counter, client_hello, &mut ambient::rng()).expect("it fits").to_vec()
    }

    /// Through the door and TLS.
    pub(crate) fn enter(&mut self, dial: &Dial) -> Result<Wire, Stop> {
        self.enter_within(dial, PATIENCE)
    }

    fn enter_within(&mut self, dial: &Dial, patience: Duration) -> Result<Wire, Stop> {
        let (session, client_hello) = tls::begin(&dial.transport, dial.exchange);
        let flight = self.flight(&client_hello);
        Wire::secure(session, knock(self.victim, &flight, patience)?, self.ears.clone())
    }

    /// Dials a lane up to the victim's `Opened`.
    pub(crate) fn dial(&mut self, dial: &Dial) -> Result<Wire, Stop> {
        self.dial_within(dial, PATIENCE)
    }

    /// The same, where the door is given up as silent after `patience`.
    pub(crate) fn dial_within(&mut self, dial: &Dial, patience: Duration) -> Result<Wire, Stop> {
        let mut wire = self.enter_within(dial, patience)?;
        wire.greet(&dial.hello)?;
        wire.negotiate(dial.protocol)?;
        wire.write(&crate::wire::frame(&dial.open.to_bytes())).map_err(|_| Stop::NotOpened)?;
        let opened = wire.read_frame(PATIENCE).map_err(|_| Stop::NotOpened)?;
        match Message::from_bytes(&opened) {
            Ok(Message::Opened(_)) => Ok(wire),
            _ => Err(Stop::NotOpened),
        }
    }

    /// A control lane on which nothing was said yet.
    pub(crate) fn control(&mut self) -> Result<Control, Stop> {
        let dial = self.honest(LaneKind::Control);
        Ok(Control::new(self.dial(&dial)?))
    }

    /// The victim's transport key, as its first frame certifies it.
    pub(crate) fn victim_transport(&mut self) -> Result<[u8; 32], Stop> {
        let dial = self.honest(LaneKind::Control);
        let mut wire = self.enter(&dial)?;
        let hello = Hello::from_bytes(&wire.greet(&dial.hello)?).map_err(|_| Stop::NoHello)?;
        Ok(hello.chain.verify().map_err(|_| Stop::NoHello)?.transport.0)
    }

    /// A session as honest nodes begin it: both rosters are known.
    pub(crate) fn session(&mut self) -> Result<Session, Stop> {
        let mut control = self.control()?;
        control.say(RosterUpdate { roster: self.roster.clone() });
        Session::begin(control).ok_or(Stop::NotOpened)
    }

    /// A lane for content beside a session.
    pub(crate) fn bulk(&mut self, kind: LaneKind) -> Result<Bulk, Stop> {
        let dial = self.honest(kind);
        Ok(Bulk::new(self.dial(&dial)?))
    }

    /// A statement key of somebody who has none with the victim.
    pub(crate) fn foreign_statement() -> StatementKey {
        StatementKey::generate(&mut ambient::rng())
    }
}

/// The first frame of an honest lane.
pub(crate) fn open(kind: LaneKind) -> LaneOpen {
    LaneOpen { kind, slot: 0, agreement_version: 1, object_bytes_max: OBJECT_BYTES_MAX as u32, requests_max: 64 }
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
