//! What the local API says and hears: every request and response body, and the one error shape.
//!
//! The command line, the web client and integrations all speak these types. Field names are stable from the first
//! release: fields may be added, none is renamed. Times are RFC 3339 in UTC, ids are their text form, sizes are bytes.
//!
//! **Invariant:** nothing here carries a private key, and `Debug` of a type that holds subject, text or file names
//! never shows them.
//!
//! Start reading at [`ErrorCode`] and [`ServiceError`], then [`Sent`] and [`OutboxEnvelope`].

use std::fmt;

use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// RFC 3339 text in UTC of `at`, to the microsecond (trailing zeros are left out).
pub fn time_text(at: Time) -> String {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX).to_string()
}

// ---------------------------------------------------------------------------------------------------------- errors

/// Why something was not done; one row per kind gives the HTTP status and the exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// It could not be done, for a reason of this machine (port in use, file gone, a finding).
    Failed,
    /// The request makes no sense as written.
    Usage,
    /// The caller of the TCP listener did not show the token.
    Unauthorized,
    /// No agreement lets these two entities talk, or it is not active.
    NoAgreement,
    /// The counterpart refused, or the terms of the agreement do.
    Refused,
    /// No such group, message, envelope, agreement, peer or file.
    NotFound,
    /// The node does not run or does not answer.
    NotRunning,
    /// A file or the data directory is changed, cut short or of a newer version.
    Damaged,
    /// A passphrase is missing or wrong, or a key file is open to others.
    Locked,
    /// The time given for waiting is over; the work goes on.
    TimedOut,
    /// No space is left for this.
    Full,
    /// Something else is using it; the same request may succeed later.
    Busy,
    /// What is asked for contradicts what is already there.
    Conflict,
    /// The fingerprint that was typed is not the one of the file.
    FingerprintMismatch,
    /// The request body is larger than this route takes.
    TooLarge,
}

impl ErrorCode {
    /// Every code, in the order of the table.
    pub const ALL: [Self; 15] = [
        Self::Failed,
        Self::Usage,
        Self::Unauthorized,
        Self::NoAgreement,
        Self::Refused,
        Self::NotFound,
        Self::NotRunning,
        Self::Damaged,
        Self::Locked,
        Self::TimedOut,
        Self::Full,
        Self::Busy,
        Self::Conflict,
        Self::FingerprintMismatch,
        Self::TooLarge,
    ];

    /// The table: name, HTTP status, exit code.
    const fn row(self) -> (&'static str, u16, u8) {
        match self {
            Self::Failed => ("failed", 500, 1),
            Self::Usage => ("usage", 400, 2),
            Self::Unauthorized => ("unauthorized", 401, 5),
            Self::NoAgreement => ("no_agreement", 403, 3),
            Self::Refused => ("refused", 403, 3),
            Self::NotFound => ("not_found", 404, 4),
            Self::NotRunning => ("not_running", 503, 5),
            Self::Damaged => ("damaged", 422, 6),
            Self::Locked => ("locked", 423, 6),
            Self::TimedOut => ("timed_out", 504, 7),
            Self::Full => ("full", 507, 1),
            Self::Busy => ("busy", 503, 1),
            Self::Conflict => ("conflict", 409, 1),
            Self::FingerprintMismatch => ("fingerprint_mismatch", 409, 1),
            Self::TooLarge => ("too_large", 413, 1),
        }
    }

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status of a [`Problem`] with this code.
    pub const fn http_status(self) -> u16 {
        self.row().1
    }

    /// The exit code of the command line.
    pub const fn exit_code(self) -> u8 {
        self.row().2
    }
}

/// An error as people and scripts read it: what kind, what is wrong, what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceError {
    /// The kind, which decides HTTP status and exit code.
    #[serde(rename = "error")]
    pub code: ErrorCode,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do next, or empty.
    pub hint: String,
}

impl ServiceError {
    /// An error of kind `code` that says `message` and what to do.
    pub fn new(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServiceError {}

/// The error body of the API: RFC 9457 problem details with our code and hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:pakt:error:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What is wrong.
    pub detail: String,
    /// The code that scripts compare.
    pub error: ErrorCode,
    /// What to do next, or empty.
    pub hint: String,
}

impl From<ServiceError> for Problem {
    fn from(e: ServiceError) -> Self {
        Self {
            kind: format!("urn:pakt:error:{}", e.code.as_str()),
            title: e.code.as_str().replace('_', " "),
            status: e.code.http_status(),
            detail: e.message,
            error: e.code,
            hint: e.hint,
        }
    }
}

impl From<Problem> for ServiceError {
    fn from(p: Problem) -> Self {
        Self { code: p.error, message: p.detail, hint: p.hint }
    }
}

// ---------------------------------------------------------------------------------------------------------- status

/// What a node says about itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// This entity's id.
    pub entity: String,
    /// This entity's name, as in its card.
    pub name: String,
    /// This entity's registered number.
    pub number: String,
    /// The libp2p peer id of the transport key.
    pub peer_id: String,
    /// Address and port of the one inbound listener.
    pub listen: String,
    /// Path of the API's Unix socket; the API fills it in.
    #[serde(default)]
    pub api: String,
    /// URL of the loopback TCP listener, if it is switched on; the API fills it in.
    #[serde(default)]
    pub api_tcp: Option<String>,
    /// Version of this program.
    pub version: String,
    /// Seconds since start.
    pub uptime_s: u64,
    /// Envelopes that wait or are on their way.
    pub queued: u64,
    /// Of these, envelopes that wait for a counterpart that cannot be reached or an agreement that holds them.
    pub held: u64,
    /// Counterparts whose control lane is up.
    pub peers_online: u64,
    /// Whether the keystore lies on disk without a passphrase.
    pub unprotected: bool,
    /// The object store.
    pub store: StoreUsage,
    /// Sentences an operator should read: unverified fingerprints, clocks apart, little space.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How much the object store holds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct StoreUsage {
    /// Sealed objects.
    pub objects: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Bytes free on that file system.
    pub free: u64,
}

// ----------------------------------------------------------------------------------------------------------- peers

/// A counterpart of an agreement and how it can be reached.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// The counterpart's entity id.
    pub entity: String,
    /// Its name in the agreement.
    pub name: String,
    /// Its registered number in the agreement.
    pub number: String,
    /// The agreement with it.
    pub agreement: PeerAgreement,
    /// Whether the control lane is up.
    pub online: bool,
    /// Since when it is online or offline; absent if it never was online.
    pub since: Option<String>,
    /// Why it is not reachable and what was tried, in words; absent while online.
    pub reason: Option<String>,
    /// The groups it shows to this entity.
    pub groups: Vec<String>,
    /// The connections that are up.
    pub lanes: Vec<PeerLane>,
    /// Addresses that are dialled.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Addresses that are not dialled, each with the reason.
    #[serde(default)]
    pub addresses_ignored: Vec<String>,
    /// The peer's clock minus ours in seconds, as seen at the last contact.
    #[serde(default)]
    pub clock_difference_s: Option<i64>,
    /// When the control lane was last up.
    #[serde(default)]
    pub last_contact: Option<String>,
}

/// The agreement of a peer, in short.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PeerAgreement {
    /// Agreement id.
    pub id: String,
    /// Version of the terms.
    pub version: u32,
    /// Where the agreement is in its life.
    pub state: AgreementState,
    /// End of the terms.
    pub valid_until: String,
    /// Whether a typed fingerprint matched.
    pub verified: bool,
}

/// One connection to a peer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PeerLane {
    /// `control`, `urgent` or `bulk`.
    pub kind: String,
    /// The other end's address and port.
    pub remote: String,
    /// Whether this node dialled.
    pub dialled: bool,
    /// TCP payload bytes sent.
    pub bytes_sent: u64,
    /// TCP payload bytes received.
    pub bytes_received: u64,
}

/// Where an agreement is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgreementState {
    /// Signed by one side.
    Proposed,
    /// Signed by both and within its dates.
    Active,
    /// Held by one side.
    Suspended,
    /// Ended by one side.
    Ended,
    /// Past its end, or not accepted in time.
    Expired,
    /// Restored from a backup and not yet confirmed by the operator.
    Unconfirmed,
}

impl AgreementState {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

// ------------------------------------------------------------------------------------------------------ agreements

/// An agreement in short; entity, name, number and fingerprint are the counterpart's.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgreementSummary {
    /// Agreement id.
    pub id: String,
    /// Version of the terms.
    pub version: u32,
    /// Where it is in its life.
    pub state: AgreementState,
    /// The counterpart's entity id.
    pub entity: String,
    /// The counterpart's name.
    pub name: String,
    /// The counterpart's registered number.
    pub number: String,
    /// What may be exchanged; empty means nothing.
    pub purposes: Vec<String>,
    /// Start of the terms.
    pub valid_from: String,
    /// End of the terms.
    pub valid_until: String,
    /// The counterpart's fingerprint in words.
    pub fingerprint: String,
    /// Whether a typed fingerprint matched.
    pub verified: bool,
}

/// An agreement with both parties and all its terms.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgreementDetail {
    /// The agreement in short.
    #[serde(flatten)]
    pub summary: AgreementSummary,
    /// Who proposed it.
    pub proposer: Party,
    /// To whom it was proposed.
    #[serde(rename = "acceptor")]
    pub accepter: Party,
    /// The terms.
    pub terms: Terms,
}

/// One of the two entities of an agreement.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Party {
    /// Entity id.
    pub entity: String,
    /// Name.
    pub name: String,
    /// Registered number.
    pub number: String,
    /// Fingerprint in words.
    pub fingerprint: String,
    /// Whether its root has signed.
    pub signed: bool,
}

/// The terms of an agreement, for reading.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Terms {
    /// What may be exchanged.
    pub purposes: Vec<String>,
    /// The legal basis, as the parties wrote it.
    pub legal_basis: String,
    /// Start.
    pub valid_from: String,
    /// End.
    pub valid_until: String,
    /// After this the proposal can no longer be accepted.
    pub accept_by: String,
    /// The largest message, in bytes.
    pub max_message_bytes: u64,
    /// How long an undelivered message is held, in seconds.
    pub hold_s: u64,
    /// How long a received message may be kept, in words; empty if the terms say nothing.
    pub retention: String,
    /// The agreed rate, in words; empty if the terms say nothing.
    pub rate: String,
    /// Controls that the receiver must have.
    pub controls: Vec<String>,
    /// Whom to call when it is urgent.
    pub urgent_contact: String,
}

/// Propose an agreement to each of the entities whose cards are given.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProposeRequest {
    /// Armoured cards.
    pub cards: Vec<String>,
    /// Terms as TOML; the defaults without it.
    pub terms_toml: Option<String>,
    /// The fingerprint that the operator was told; only with one card.
    pub fingerprint: Option<String>,
}

/// A proposal that was signed and is durable.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Proposal {
    /// The agreement in short.
    #[serde(flatten)]
    pub summary: AgreementSummary,
    /// The armoured proposal.
    pub file: String,
}

/// Countersign a proposal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AcceptRequest {
    /// The armoured proposal.
    pub file: String,
    /// The fingerprint that the operator was told.
    pub fingerprint: Option<String>,
}

/// A proposal that was countersigned and is durable.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The agreement in short.
    #[serde(flatten)]
    pub summary: AgreementSummary,
    /// The armoured agreement.
    pub file: String,
    /// Whether the proposer's node has it.
    pub delivered: bool,
    /// What happened, for people: delivered, or why the file must be mailed.
    pub note: String,
}

/// Take in an agreement that both have signed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportRequest {
    /// The armoured agreement.
    pub file: String,
    /// The fingerprint that the operator was told.
    pub fingerprint: Option<String>,
}

/// An armoured record as the answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ArmouredFile {
    /// The armoured text.
    pub file: String,
}

// ---------------------------------------------------------------------------------------------------------- groups

/// A group and the counterparts that see it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// Entity ids, or the one word `all`.
    pub shown_to: Vec<String>,
}

/// Add a group.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupRequest {
    /// The group's name.
    pub name: String,
}

/// Show a group to a counterpart, or hide it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupAudience {
    /// Entity id, number or name of a counterpart, or `all`.
    pub to: String,
}

// --------------------------------------------------------------------------------------------------------- sending

/// How soon a message must arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before everything else, on its own lane.
    Urgent,
    /// In turn.
    #[default]
    Normal,
    /// When nothing else waits.
    Bulk,
}

impl Priority {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

/// A message to be sent; its content follows as a tar stream.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct NewMessage {
    /// The sending group; may be left out while there is one group.
    pub from: Option<String>,
    /// Recipients as `ENTITY/GROUP`.
    pub to: Vec<String>,
    /// Subject.
    pub subject: String,
    /// Text, may be empty.
    pub body: String,
    /// How soon.
    #[serde(default)]
    pub priority: Priority,
    /// Which purpose of the agreement this serves.
    pub purpose: Option<String>,
    /// What the walk of the tree found, so that a refusal comes before the content is read.
    #[serde(default)]
    pub bytes: Option<u64>,
}

impl fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMessage").field("recipients", &self.to.len()).finish_non_exhaustive()
    }
}

/// A message whose recipients were found and may be written to; it waits for its content.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Draft {
    /// Draft id, for `PUT /v1/drafts/{id}/content`.
    pub id: String,
}

/// A message that is sealed and durable.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Sent {
    /// Message id.
    pub message: String,
    /// One envelope per recipient entity and group.
    pub envelopes: Vec<OutboxEnvelope>,
}

/// Where an outgoing envelope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvelopeState {
    /// Durable here, waiting.
    Queued,
    /// The peer has been asked.
    Offered,
    /// Content is on its way.
    Transferring,
    /// The peer has it all, durable: tier 1.
    Delivered,
    /// Visible in the group's mailbox: tier 2.
    Released,
    /// Somebody took responsibility: tier 3.
    Taken,
    /// The peer said no, for good.
    Refused,
    /// The hold time is over and the signed envelope never left.
    Expired,
    /// The hold time is over, the signed envelope had left: it may have been delivered.
    Unconfirmed,
    /// Taken back.
    Recalled,
}

impl EnvelopeState {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Offered => "offered",
            Self::Transferring => "transferring",
            Self::Delivered => "delivered",
            Self::Released => "released",
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Unconfirmed => "unconfirmed",
            Self::Recalled => "recalled",
        }
    }

    /// The receipt tier that this state proves; 0 for none.
    pub const fn tier(self) -> u8 {
        match self {
            Self::Delivered => 1,
            Self::Released => 2,
            Self::Taken => 3,
            _ => 0,
        }
    }

    /// Whether the envelope will not get any further without its receiver.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Refused | Self::Expired | Self::Unconfirmed | Self::Recalled)
    }
}

/// One outgoing envelope: one message to one group of one entity.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OutboxEnvelope {
    /// Envelope id.
    pub id: String,
    /// The message it carries.
    pub message: String,
    /// The recipient entity.
    pub entity: String,
    /// Its name in the agreement.
    pub name: String,
    /// The recipient group.
    pub group: String,
    /// Where it is.
    pub state: EnvelopeState,
    /// Plain bytes of all files.
    pub bytes_content: u64,
    /// TCP payload so far, both directions, all lanes and attempts.
    pub bytes_on_wire: u64,
    /// Sealed bytes that the receiver must hold in the end.
    pub bytes_total: u64,
    /// Of these, bytes that the receiver has reported as durable.
    pub bytes_durable: u64,
    /// Seconds from submission to the shown state.
    pub seconds: f64,
    /// When it is tried again; absent while it moves or when it is final.
    pub next_attempt_at: Option<String>,
    /// End of the hold time.
    pub expires_at: String,
    /// Why it waits or failed, in words.
    pub reason: Option<String>,
    /// The kind of failure, so that the exit code is right; absent while there is none.
    #[serde(default)]
    pub reason_code: Option<ErrorCode>,
    /// Every state it was in.
    pub history: Vec<StateAt>,
    /// The receipts that are held.
    pub receipts: Vec<ReceiptAt>,
}

/// A state and when it began.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StateAt {
    /// The state.
    pub state: EnvelopeState,
    /// When.
    pub at: String,
}

/// A receipt that is held, and when it was signed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReceiptAt {
    /// 1 delivered, 2 released, 3 taken.
    pub tier: u8,
    /// When the receiver signed it.
    pub at: String,
}

/// An outgoing message with its envelopes; asked for by envelope id, it holds that one envelope.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct OutboxMessage {
    /// Message id.
    pub message: String,
    /// The sending group.
    pub from: String,
    /// Subject.
    pub subject: String,
    /// How soon.
    pub priority: Priority,
    /// The purpose that was named.
    pub purpose: Option<String>,
    /// When it was sealed and durable.
    pub submitted_at: String,
    /// Number of files.
    pub files: u64,
    /// Plain bytes of all files.
    pub bytes: u64,
    /// One per recipient entity and group.
    pub envelopes: Vec<OutboxEnvelope>,
}

impl fmt::Debug for OutboxMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxMessage").field("message", &self.message).finish_non_exhaustive()
    }
}

// ----------------------------------------------------------------------------------------------------------- inbox

/// What kind of inbox item this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InboxKind {
    /// A message from a counterpart.
    Message,
    /// A report of this node, such as a message that was not delivered.
    Report,
}

/// Who sent an inbox item.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Sender {
    /// Entity id.
    pub entity: String,
    /// Its name in the agreement.
    pub name: String,
    /// The sending group.
    pub group: String,
}

/// One row of the inbox.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct InboxItem {
    /// Id for `inbox show` and `inbox save`: the envelope's.
    pub id: String,
    /// Message or report.
    pub kind: InboxKind,
    /// Who sent it.
    pub from: Sender,
    /// The group it was addressed to.
    pub group: String,
    /// Subject.
    pub subject: String,
    /// When it was complete and durable here.
    pub received_at: String,
    /// How soon.
    pub priority: Priority,
    /// `delivered`, `released` or `taken`.
    pub state: EnvelopeState,
    /// Number of files.
    pub files: u64,
    /// Plain bytes of all files.
    pub bytes: u64,
}

impl fmt::Debug for InboxItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxItem").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An inbox item with text and tree.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct InboxDetail {
    /// The row of the list.
    #[serde(flatten)]
    pub item: InboxItem,
    /// The message id that the sender gave.
    pub message: String,
    /// The purpose that was named.
    pub purpose: Option<String>,
    /// Text.
    pub text: String,
    /// Every file, in the order in which it was sent.
    pub tree: Vec<TreeFile>,
    /// Every folder, empty ones included.
    #[serde(default)]
    pub folders: Vec<String>,
}

impl fmt::Debug for InboxDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxDetail").field("id", &self.item.id).finish_non_exhaustive()
    }
}

/// One file of a message.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TreeFile {
    /// Path with `/` between its components, as sent.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// BLAKE3 of the content, hex.
    pub blake3: String,
}

impl fmt::Debug for TreeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeFile").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

// -------------------------------------------------------------------------------------------------------- the rest

/// What `doctor` found about one thing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// What was looked at, in one word: `clock`, `disk`, `permissions`, `recovery`, `keystore`, `listen`, …
    pub check: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub finding: String,
    /// What to do about it; empty when it is as it should be.
    pub remedy: String,
}

/// A number that grows with every visible change; the payload of `GET /v1/events`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Counts visible changes since the node started.
    pub revision: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_its_row() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).expect("an enum serialises");
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            assert!((400..600).contains(&code.http_status()), "{json}");
            assert!((1..=7).contains(&code.exit_code()), "{json}");
        }
    }

    #[test]
    fn time_is_rfc_3339_in_utc() {
        let check = |micros: u64, text: &str| assert_eq!(time_text(Time(micros)), text);
        check(0, "1970-01-01T00:00:00Z");
        check(1_790_000_000_000_000, "2026-09-21T14:13:20Z");
        check(1_790_000_000_250_000, "2026-09-21T14:13:20.25Z");
        assert!(time_text(Time(u64::MAX)).starts_with("9999-"));
    }

    #[test]
    fn a_problem_carries_an_error_there_and_back() {
        let error = ServiceError::new(ErrorCode::NotFound, "no such group", "see `pakt peers`");
        let problem = Problem::from(error.clone());
        assert_eq!(problem.status, 404);
        assert_eq!(problem.kind, "urn:pakt:error:not_found");
        assert_eq!(ServiceError::from(problem), error);
    }

    #[test]
    fn debug_shows_no_content() {
        let message = NewMessage {
            from: None,
            to: vec!["canary".into()],
            subject: "canary".into(),
            body: "canary".into(),
            priority: Priority::Normal,
            purpose: None,
            bytes: None,
        };
        assert!(!format!("{message:?}").contains("canary"));
    }
}
