//! What a node says about itself, its groups, its peers, and its health.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AgreementState, KeptBackup, LogStatus, RootPlace, ScannerStatus};

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
    /// Messages whose records do not match those of the other side, and nobody has dealt with: see `pakt reconcile list`.
    #[serde(default)]
    pub reconciliation_gaps: u64,
    /// Whether the keystore lies on disk without a passphrase.
    pub unprotected: bool,
    /// Where the root is and what opens it.
    #[serde(default)]
    pub root: RootPlace,
    /// The object store.
    pub store: StoreUsage,
    /// What this node forwards between counterparts, since it started.
    #[serde(default)]
    pub relay: RelayStatus,
    /// The limits of the line that hold now.
    #[serde(default)]
    pub limits: LineLimits,
    /// The last backup that was kept.
    #[serde(default)]
    pub last_backup: Option<KeptBackup>,
    /// The audit log.
    #[serde(default)]
    pub log: LogStatus,
    /// Messages that are here whole and wait for their check, at most 10,000.
    #[serde(default)]
    pub checking: u64,
    /// Messages in which the check found something, at most 1,000.
    #[serde(default)]
    pub quarantined: u64,
    /// The malware scanner, if one is set.
    #[serde(default)]
    pub scanner: Option<ScannerStatus>,
    /// Sentences an operator should read: unverified fingerprints, clocks apart, little space.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Bytes per second that content may take of the line now; absent where there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineLimits {
    /// Sending, to all counterparts together.
    pub send: Option<u64>,
    /// Receiving, from all counterparts together.
    pub receive: Option<u64>,
    /// Sending, to each counterpart.
    pub send_per_peer: Option<u64>,
    /// Receiving, from each counterpart.
    pub receive_per_peer: Option<u64>,
}

/// What this node forwards between counterparts that cannot dial each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RelayStatus {
    /// Connections that are forwarded now.
    pub circuits: u64,
    /// Connections that were forwarded.
    pub forwarded: u64,
    /// Requests that came to nothing.
    pub refused: u64,
    /// Bytes, both directions together.
    pub bytes: u64,
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
    /// Bytes per second that bulk lanes to it carried lately; absent until enough was sent to tell.
    #[serde(default)]
    pub line_rate: Option<u64>,
    /// Addresses that are dialled.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Addresses that are not dialled, each with the reason.
    #[serde(default)]
    pub addresses_ignored: Vec<String>,
    /// When it told these addresses; absent while they are those of its card.
    #[serde(default)]
    pub addresses_told_at: Option<String>,
    /// The peer's clock minus ours in seconds, as seen at the last contact.
    #[serde(default)]
    pub clock_difference_s: Option<i64>,
    /// When the control lane was last up.
    #[serde(default)]
    pub last_contact: Option<String>,
    /// Why what is queued for it does not go although it is online.
    #[serde(default)]
    pub holding: Option<String>,
    /// Controls that the agreement asks for and that this node cannot attest: the peer sends nothing.
    #[serde(default)]
    pub controls_lacking: Vec<String>,
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
    /// The other end's address and port; empty where only a proxy or a partner knows it.
    pub remote: String,
    /// The name of the partner that forwards it, if one does.
    #[serde(default)]
    pub via: Option<String>,
    /// Whether this node dialled.
    pub dialled: bool,
    /// TCP payload bytes sent.
    pub bytes_sent: u64,
    /// TCP payload bytes received.
    pub bytes_received: u64,
}

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
