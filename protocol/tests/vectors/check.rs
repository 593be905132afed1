//! What this implementation says to each kind of vector, in the names of the specification.

use std::ops::RangeInclusive;

use pakt_keys::EntityId;
use pakt_keys::codec::{self, CodecError};
use pakt_keys::keystore::Recovery;
use pakt_keys::signing::SignatureError;
use pakt_keys::words;
use pakt_protocol::armour::{self, ArmourError, Label};
use pakt_protocol::bulk::{BULK_FRAME_BYTES_MAX, BULK_HEAD_BYTES, BulkError, BulkFrame};
use pakt_protocol::content::encode::{DecodeError, DecodeScratch};
use pakt_protocol::content::manifest::{Bounds, ManifestError, ManifestKey, ManifestReader, OrderError};
use pakt_protocol::content::seal::{ChunkEntry, OpenChunkError, open_chunk};
use pakt_protocol::door::DoorTable;
use pakt_protocol::hello::{Hello, VersionRange};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::Message;
use pakt_protocol::record::address_update::AddressUpdate;
use pakt_protocol::record::agreement::AgreementFile;
use pakt_protocol::record::card::Card;
use pakt_protocol::record::chain::{CertificateChain, CertifiedNode, ChainError};
use pakt_protocol::record::envelope::SealedEnvelope;
use pakt_protocol::record::grant::DoorGrant;
use pakt_protocol::record::roster::Roster;
use pakt_protocol::record::statement::{self, AgreementStatement};
use pakt_protocol::record::{Record, RecordError, Signed, receipt};

use crate::file::Vector;
use crate::network;
use crate::parties::Party;
use crate::settling;
use crate::story::{FLIGHT_COUNTER, Story, client_hello};
use crate::wire;

/// Kinds that there must be vectors of, good and hostile ones.
pub(crate) const KINDS: [&str; 33] = [
    "addresses",
    "agreement",
    "armour",
    "ask",
    "attestation",
    "bulk",
    "card",
    "chain",
    "decline",
    "deposit",
    "entity",
    "envelope",
    "flight",
    "gap",
    "grant",
    "head",
    "held",
    "hello",
    "letter",
    "listing",
    "manifest",
    "message",
    "notice",
    "object",
    "page",
    "proposal",
    "purged",
    "receipt",
    "recall",
    "recovery",
    "roster",
    "sent",
    "statement",
];

/// Kinds whose body is an encoded message.
pub(crate) const MESSAGE_KINDS: [&str; 4] = ["ask", "gap", "message", "purged"];

/// Messages that settle envelopes: from ReceiptHeld to PurgedBefore.
pub(crate) const SETTLING: RangeInclusive<u32> = 44..=51;

type Outcome = Result<(), String>;

/// `ok` or the name of the error with which the vector is refused.
pub(crate) fn outcome(vector: &Vector) -> String {
    let story = Story::new();
    let outcome = match vector.kind.as_str() {
        "agreement" => agreement(vector, Label::Agreement),
        "armour" => armour::decode_any(&vector.bytes()).map(drop).map_err(|error| of_armour(&error)),
        "bulk" => bulk(&vector.bytes()),
        "card" => card(vector),
        "chain" => chain(&vector.bytes()),
        "entity" => entity(vector),
        "envelope" => envelope(&story, &vector.bytes()),
        "flight" => flight(&story, &vector.bytes()),
        "grant" => grant(&story, &vector.bytes()),
        "hello" => hello(&vector.bytes()),
        "manifest" => manifest(vector),
        "message" => message(&vector.bytes()),
        "object" => object(vector),
        "proposal" => agreement(vector, Label::Proposal),
        "receipt" => read_receipt(&story, vector),
        "recovery" => recovery(vector),
        "addresses" => addresses(&story, &vector.bytes()),
        "roster" => roster(&story, &vector.bytes()),
        "statement" => read_statement(&story, &vector.bytes()),
        "ask" | "gap" | "held" | "purged" | "recall" | "sent" => {
            settling::outcome(&story, vector.kind.as_str(), &vector.bytes())
        }
        kind => network::outcome(&story, kind, &vector.bytes()),
    };
    outcome.err().unwrap_or_else(|| "ok".to_owned())
}

/// The record's bytes: out of the armour, or given in hexadecimal where the armour is not the point.
fn record_of(vector: &Vector, label: Label) -> Result<Vec<u8>, String> {
    match vector.is_armour() {
        true => armour::decode(label, vector.body.as_bytes()).map_err(|error| of_armour(&error)),
        false => Ok(vector.bytes()),
    }
}

fn card(vector: &Vector) -> Outcome {
    let bytes = record_of(vector, Label::Card)?;
    Card::from_bytes(&bytes).map(drop).map_err(|error| of_record(&error))
}

fn agreement(vector: &Vector, label: Label) -> Outcome {
    let bytes = record_of(vector, label)?;
    AgreementFile::verify(&bytes).map(drop).map_err(|error| of_record(&error))
}

fn read_receipt(story: &Story, vector: &Vector) -> Outcome {
    let bytes = record_of(vector, Label::Receipt)?;
    let cards = [&story.a, &story.b].map(card_of);
    receipt::verify_offline(&bytes, [&cards[0], &cards[1]]).map(drop).map_err(|error| of_record(&error))
}

fn recovery(vector: &Vector) -> Outcome {
    let bytes = record_of(vector, Label::Recovery)?;
    Recovery::from_bytes(&bytes).map(drop).map_err(of_codec)
}

fn entity(vector: &Vector) -> Outcome {
    let id: EntityId = vector.body.trim_end_matches('\n').parse().map_err(|_| "Entity".to_owned())?;
    let said = |key: &str| vector.more.get(key).cloned().unwrap_or_default();
    assert_eq!((hex::encode(id.0), words::fingerprint(&id)), (said("id"), said("fingerprint")), "{}", vector.name);
    Ok(())
}

fn chain(bytes: &[u8]) -> Outcome {
    let chain: CertificateChain = codec::decode(1, bytes, 64 << 10).map_err(of_codec)?;
    chain.verify().map(drop).map_err(|error| of_chain(&error))
}

fn grant(story: &Story, bytes: &[u8]) -> Outcome {
    let grant: DoorGrant = statement_of(&story.a, bytes)?;
    let parties = (grant.issuer, grant.holder, grant.agreement);
    if parties != (story.a.entity(), story.b.entity(), AgreementId(story.agreement_id())) {
        return Err("Parties".to_owned());
    }
    grant.open(&story.b.contact).map(drop).map_err(|_| "Unwrap".to_owned())
}

fn addresses(story: &Story, bytes: &[u8]) -> Outcome {
    let signed: Signed<AddressUpdate> = codec::decode(1, bytes, 1 << 20).map_err(of_codec)?;
    let id = AgreementId(story.agreement_id());
    let read = AddressUpdate::verify(&signed, &id, &node_of(&story.b), &story.a.entity());
    read.map(drop).map_err(|error| of_record(&error))
}

fn roster(story: &Story, bytes: &[u8]) -> Outcome {
    let roster: Roster = statement_of(&story.b, bytes)?;
    let parties = (roster.issuer, roster.reader, roster.agreement);
    if parties != (story.b.entity(), story.a.entity(), AgreementId(story.agreement_id())) {
        return Err("Parties".to_owned());
    }
    roster.check().map_err(|error| of_record(&error))
}

fn read_statement(story: &Story, bytes: &[u8]) -> Outcome {
    let signed: Signed<AgreementStatement> = codec::decode(1, bytes, 1 << 20).map_err(of_codec)?;
    let id = AgreementId(story.agreement_id());
    statement::verify(&signed, &id, &node_of(&story.a)).map(drop).map_err(|error| of_record(&error))
}

/// A signed record as it stands in a control message, signed by the statement key of `issuer`.
pub(crate) fn statement_of<T: Record>(issuer: &Party, bytes: &[u8]) -> Result<T, String> {
    let signed: Signed<T> = codec::decode(1, bytes, 1 << 20).map_err(of_codec)?;
    node_of(issuer).open_statement(&signed).map_err(|error| of_record(&error))
}

fn envelope(story: &Story, bytes: &[u8]) -> Outcome {
    let sealed: SealedEnvelope = codec::decode(1, bytes, 1 << 20).map_err(of_codec)?;
    let verified = sealed.verify(&node_of(&story.a), &story.b.entity());
    verified.map_err(|error| of_record(&error))?;
    sealed.unwrap(&story.b.epoch).map(drop).map_err(|_| "Unwrap".to_owned())
}

fn message(bytes: &[u8]) -> Outcome {
    let message = Message::from_bytes(bytes).map_err(of_codec)?;
    assert_eq!(message.to_bytes(), bytes, "one value has one encoding");
    Ok(())
}

fn bulk(bytes: &[u8]) -> Outcome {
    let named = |error: BulkError| match error {
        BulkError::Kind(_) => "Bulk.Kind".to_owned(),
        BulkError::Length(_) => "Bulk.Length".to_owned(),
    };
    let (length, rest) = bytes.split_first_chunk().expect("these vectors have a length");
    let length = u32::from_be_bytes(*length) as usize;
    if length > BULK_FRAME_BYTES_MAX {
        return Err(named(BulkError::Length(length)));
    }
    let head: &[u8; BULK_HEAD_BYTES] = rest.first_chunk().expect("these vectors have a head");
    BulkFrame::parse(length, head).map(drop).map_err(named)
}

fn hello(bytes: &[u8]) -> Outcome {
    let hello = Hello::from_bytes(bytes).map_err(of_codec)?;
    hello.chain.verify().map_err(|error| of_chain(&error))?;
    VersionRange::OURS.common(hello.versions).map(drop).ok_or_else(|| "Versions".to_owned())
}

fn flight(story: &Story, bytes: &[u8]) -> Outcome {
    let mut doors = DoorTable::new();
    doors.set(AgreementId(story.agreement_id()), story.a.entity(), &[story.door()]);
    let shut = || "Door".to_owned();
    let opened = doors.open(bytes.try_into().map_err(|_| shut())?).ok_or_else(shut)?;
    assert_eq!((opened.counter, opened.hello), (FLIGHT_COUNTER, client_hello()));
    Ok(())
}

/// A row of the chunk table as an encoded value, then the sealed object.
fn object(vector: &Vector) -> Outcome {
    let blocks = vector.block_bytes();
    let [row, sealed] = blocks.as_slice() else { return Err("two blocks are needed".to_owned()) };
    let entry: ChunkEntry = codec::decode(1, row, 128).map_err(of_codec)?;
    let (mut scratch, mut plain) = (DecodeScratch::new(), Vec::new());
    open_chunk(&entry, sealed, &mut scratch, &mut plain).map_err(|error| match error {
        OpenChunkError::Sealed => "Sealed".to_owned(),
        OpenChunkError::Content(error) => of_content(error),
    })?;
    assert_eq!(Some(&hex::encode(plain)), vector.more.get("plain"), "{}", vector.name);
    Ok(())
}

fn manifest(vector: &Vector) -> Outcome {
    let mut reader = ManifestReader::new(ManifestKey::from_bytes(vector.key()), Bounds::PROTOCOL);
    for sealed in vector.block_bytes() {
        reader.feed(&sealed).map_err(of_manifest)?;
    }
    let manifest = reader.finish().map_err(of_manifest)?;
    assert_eq!(Some(&hex::encode(manifest.root)), vector.more.get("root"), "{}", vector.name);
    Ok(())
}

fn card_of(party: &Party) -> Card {
    let body = party.card().body();
    let bytes = wire::record(&body, &party.sign(pakt_keys::Domain::Card, &body));
    Card::from_bytes(&bytes).expect("the story's own cards are good")
}

pub(crate) fn node_of(party: &Party) -> CertifiedNode {
    card_of(party).node
}

pub(crate) fn of_codec(error: CodecError) -> String {
    let name = match error {
        CodecError::Empty => "Empty",
        CodecError::TooLong { .. } => "TooLong",
        CodecError::Newer { .. } => "Newer",
        CodecError::Older { .. } => "Older",
        CodecError::Malformed => "Malformed",
        CodecError::TrailingBytes => "TrailingBytes",
    };
    format!("Codec.{name}")
}

fn of_signature(error: SignatureError) -> String {
    let name = match error {
        SignatureError::Missing => "Missing",
        SignatureError::Duplicate => "Duplicate",
        SignatureError::Invalid => "Invalid",
        SignatureError::BadKey => "BadKey",
    };
    format!("Signature.{name}")
}

fn of_chain(error: &ChainError) -> String {
    let name = match error {
        ChainError::Length(_) => "Length",
        ChainError::Link(_) => "Link",
        ChainError::Order(_) => "Order",
        ChainError::Uncommitted(_) => "Uncommitted",
        ChainError::Certificate => "Certificate",
        ChainError::Foreign => "Foreign",
    };
    format!("Chain.{name}")
}

pub(crate) fn of_record(error: &RecordError) -> String {
    match error {
        RecordError::Codec(error) => of_codec(*error),
        RecordError::Signature(error) => of_signature(*error),
        RecordError::Chain(error) => of_chain(error),
        RecordError::Field(_) => "Field".to_owned(),
        RecordError::Parties(_) => "Parties".to_owned(),
    }
}

fn of_armour(error: &ArmourError) -> String {
    let name = match error {
        ArmourError::TooLarge { .. } => "TooLarge",
        ArmourError::NotARecord => "NotARecord",
        ArmourError::Truncated => "Truncated",
        ArmourError::Damaged { .. } => "Damaged",
        ArmourError::WrongLabel { .. } => "WrongLabel",
    };
    format!("Armour.{name}")
}

fn of_content(error: DecodeError) -> String {
    let name = match error {
        DecodeError::UnknownCodec { .. } => "UnknownCodec",
        DecodeError::Length { .. } => "Length",
        DecodeError::WrongLength => "WrongLength",
        DecodeError::Frame => "Frame",
        DecodeError::Image => "Image",
    };
    format!("Content.{name}")
}

fn of_manifest(error: ManifestError) -> String {
    match error {
        ManifestError::Sealed => "Sealed".to_owned(),
        ManifestError::Codec(error) => of_codec(error),
        ManifestError::Head => "Head".to_owned(),
        ManifestError::HeadLength(_) => "HeadLength".to_owned(),
        ManifestError::Order(OrderError::Parent) => "Order.Parent".to_owned(),
        ManifestError::Order(OrderError::Name) => "Order.Name".to_owned(),
        ManifestError::Order(OrderError::Depth) => "Order.Depth".to_owned(),
        ManifestError::Chunk(error) => of_content(error),
        ManifestError::Cut => "Cut".to_owned(),
        ManifestError::Bounds => "Bounds".to_owned(),
        ManifestError::Totals => "Totals".to_owned(),
    }
}
