//! Every table of the node in one place.
//!
//! A name ends in the version of its rows; a change of key or value is a new name and a step in
//! `migrate::MIGRATIONS`, never a silent change of the meaning of stored bytes.
//!
//! **Invariant:** names and keys lie on disk unsealed, values sealed: what a thief may not read belongs in the value.

use pakt_keys::EntityId;
use pakt_protocol::audit::LogHead;
use pakt_protocol::door::CounterWindow;
use pakt_protocol::ids::{AgreementId, EnvelopeId, MessageId, ObjectId};
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::Signed;
use pakt_protocol::record::address_update::AddressUpdate;
use pakt_protocol::record::roster::Roster;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::Table;
use crate::audit::AuditRow;
use crate::audit::heads::{GivenRow, HeadAlarm};
use crate::audit::pace::PaceRow;
use crate::backup::rows::{GapRow, KeptRow, LedgerRow, RestoredRow};
use crate::blob::{ObjectRow, Owner, Usage};
use crate::book::attest::{OwnAttestationRow, PeerAttestationRow};
use crate::book::rows::{AddressRow, AgreementRow, ChainRow, ContactRow, DedupRow, EpochRow, GrantRow, StoredGroup};
use crate::clock::ClockRow;
use crate::content::{KnownKey, KnownRow};
use crate::directory::{ListingRow, OwnListing};
use crate::introductions::rows::{AskedRow, CardRequestRow, OfferedRow, OutRow, ReceivedRow};
use crate::mailroom::journal::JournalDay;
use crate::mailroom::purge::{PurgedRow, PurgingRow};
use crate::mailroom::release::{Finding, Place, ToRelease};
use crate::mailroom::rows::{InItem, IncomingRow, OutEnvelope, OutMessage, SettledRow};
use crate::reconcile::rows::{ComparedRow, NumberGap, RoundRow, SentNumber};

/// What the store knows about itself.
pub(super) const META: Table<(), Meta> = Table::new("meta-1");

/// The number of the last commit, so that after a failure it can be told whether that one is in.
pub(super) const COMMITS: Table<(), u64> = Table::new("commits-1");

/// The last number given out per named counter.
pub(super) const SEQUENCES: Table<String, u64> = Table::new("sequences-1");

/// The one row of [`META`]; it also shows whether the store key is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The number of migrations that these tables have seen, plus one.
    pub(super) schema: u32,
}

/// What the clock showed last.
pub(crate) const CLOCK: Table<(), ClockRow> = Table::new("clock-1");

/// Where a sealed object lies, by the entity that it came from.
pub(crate) const OBJECTS: Table<(EntityId, ObjectId), ObjectRow> = Table::new("objects-1");

/// Who needs an object.
pub(crate) const PINS: Table<(EntityId, ObjectId, Owner), ()> = Table::new("pins-1");

/// The same rows by owner.
pub(crate) const OWNED: Table<(Owner, EntityId, ObjectId), ()> = Table::new("owned-1");

/// Owners that need nothing any more; their pins are worked off in small commits.
pub(crate) const RELEASED: Table<Owner, ()> = Table::new("released-1");

/// Files (origin, object, batch) without an index entry that are still to be removed.
pub(crate) const DOOMED: Table<(EntityId, ObjectId, u32), ()> = Table::new("doomed-1");

/// What is stored per entity that it came from.
pub(crate) const USAGE: Table<EntityId, Usage> = Table::new("usage-1");

/// Agreements.
pub(crate) const AGREEMENTS: Table<AgreementId, AgreementRow> = Table::new("agreements-1");

/// When a counterpart was last online.
pub(crate) const CONTACTS: Table<AgreementId, ContactRow> = Table::new("contacts-1");

/// Door counters accepted per agreement.
pub(crate) const DOOR_WINDOWS: Table<AgreementId, CounterWindow> = Table::new("door-windows-1");

/// The highest door counter reserved for dialling, per agreement.
pub(crate) const DIAL_COUNTERS: Table<AgreementId, u64> = Table::new("dial-counters-1");

/// The newest roster of each counterpart.
pub(crate) const PEER_ROSTERS: Table<AgreementId, Signed<Roster>> = Table::new("peer-rosters-1");

/// The newest roster that was issued to each counterpart.
pub(crate) const OWN_ROSTERS: Table<AgreementId, Signed<Roster>> = Table::new("own-rosters-1");

/// Groups, by their id on the wire.
pub(crate) const GROUPS: Table<[u8; 16], StoredGroup> = Table::new("groups-1");

/// The dedup secret of each group.
pub(crate) const DEDUP_SECRETS: Table<[u8; 16], DedupRow> = Table::new("dedup-secrets-1");

/// Epochs whose private half still exists.
pub(crate) const EPOCHS: Table<u64, EpochRow> = Table::new("epochs-1");

/// Messages submitted here.
pub(crate) const OUT_MESSAGES: Table<MessageId, OutMessage> = Table::new("out-messages-1");

/// The same by the order of submission.
pub(crate) const OUT_ORDER: Table<u64, MessageId> = Table::new("out-order-1");

/// Objects of a message that has not ended, in pages.
pub(crate) const OUT_OBJECTS: Table<(MessageId, u64), Vec<ObjectEntry>> = Table::new("out-objects-1");

/// Envelopes submitted here.
pub(crate) const OUT_ENVELOPES: Table<EnvelopeId, OutEnvelope> = Table::new("out-envelopes-1");

/// Envelopes that have not ended, per agreement in the order of submission.
pub(crate) const OPEN_ENVELOPES: Table<(AgreementId, u64), EnvelopeId> = Table::new("open-envelopes-1");

/// Envelopes that may have been offered before their message was submitted; until then nothing else speaks of them.
pub(crate) const EARLY: Table<(AgreementId, EnvelopeId), ()> = Table::new("early-1");

/// Offers that were accepted and are not settled.
pub(crate) const INCOMING: Table<(EntityId, EnvelopeId), IncomingRow> = Table::new("incoming-1");

/// What was answered to an envelope for good.
pub(crate) const SETTLED: Table<(EntityId, EnvelopeId), SettledRow> = Table::new("settled-1");

/// Receipts that were signed here and that the sender has not confirmed, by [`pakt_protocol::record::receipt::Verdict::place`].
pub(crate) const OWED: Table<(EntityId, EnvelopeId, u8), Vec<u8>> = Table::new("owed-1");

/// Messages that wait for their check before anybody sees them.
pub(crate) const TO_RELEASE: Table<Place, ToRelease> = Table::new("to-release-1");

/// What the check found, by the place in [`INBOX`].
pub(crate) const QUARANTINED: Table<u64, Finding> = Table::new("quarantined-1");

/// Manifest segments of a message that arrived.
pub(crate) const IN_SEGMENTS: Table<(EntityId, EnvelopeId), Vec<ObjectId>> = Table::new("in-segments-1");

/// Messages and reports by the order of arrival.
pub(crate) const INBOX: Table<u64, InItem> = Table::new("inbox-1");

/// The place of an item in [`INBOX`] by the id that users name it by.
pub(crate) const INBOX_IDS: Table<[u8; 16], u64> = Table::new("inbox-ids-1");

/// Content that was sealed before, by the dedup secret's tag and a keyed hash of the content.
pub(crate) const KNOWN: Table<KnownKey, KnownRow> = Table::new("known-1");

/// The same rows by the minute of their last use, with the bytes of their objects.
pub(crate) const KNOWN_BY_USE: Table<(u32, KnownKey), u32> = Table::new("known-by-use-1");

/// What they add up to.
pub(crate) const KNOWN_USAGE: Table<(), Usage> = Table::new("known-usage-1");

/// The newest addresses that a counterpart has told.
pub(crate) const PEER_ADDRESSES: Table<AgreementId, AddressRow> = Table::new("peer-addresses-1");

/// The newest addresses that were told to each counterpart.
pub(crate) const OWN_ADDRESSES: Table<AgreementId, Signed<AddressUpdate>> = Table::new("own-addresses-1");

/// What counterparts left here for others, by who left it and the tag that it is asked for by.
pub(crate) const DEPOSITS: Table<(AgreementId, [u8; 16]), Vec<u8>> = Table::new("deposits-1");

/// The same rows by tag.
pub(crate) const DEPOSIT_TAGS: Table<([u8; 16], AgreementId), ()> = Table::new("deposit-tags-1");

/// The name of the whole set that a counterpart left.
pub(crate) const DEPOSITS_WHOLE: Table<AgreementId, [u8; 32]> = Table::new("deposits-whole-1");

/// When each envelope of the last hour came (0) or went (1), per counterpart, under agreements that limit the rate.
pub(crate) const RATES: Table<(EntityId, u8, EnvelopeId), Time> = Table::new("rates-1");

/// What was attested to each counterpart last.
pub(crate) const OWN_ATTESTATIONS: Table<AgreementId, OwnAttestationRow> = Table::new("own-attestations-1");

/// The newest attestation of each counterpart.
pub(crate) const PEER_ATTESTATIONS: Table<AgreementId, PeerAttestationRow> = Table::new("peer-attestations-1");

/// The audit log: entries by their number from 0 on, each with the hashes of the subtrees that it completes.
pub(crate) const AUDIT: Table<u64, AuditRow> = Table::new("audit-1");

/// The number of its entries.
pub(crate) const AUDIT_SIZE: Table<(), u64> = Table::new("audit-size-1");

/// Heads of it that were signed, by size.
pub(crate) const OWN_HEADS: Table<u64, Signed<LogHead>> = Table::new("own-heads-1");

/// Which head each counterpart was given last.
pub(crate) const HEADS_GIVEN: Table<AgreementId, GivenRow> = Table::new("heads-given-1");

/// The newest heads of each counterpart, by size.
pub(crate) const PEER_HEADS: Table<(AgreementId, u64), Signed<LogHead>> = Table::new("peer-heads-1");

/// Counterparts whose heads contradict each other.
pub(crate) const HEAD_ALARMS: Table<AgreementId, HeadAlarm> = Table::new("head-alarms-1");

/// The hash of the configuration that the node last started with.
pub(crate) const STARTED_WITH: Table<(), [u8; 32]> = Table::new("started-with-1");
/// The newest door grant to each counterpart, where it is not the one of the agreement's file.
pub(crate) const GRANTS: Table<AgreementId, GrantRow> = Table::new("grants-1");

/// What is known of each counterpart's certificates beside the newest chain.
pub(crate) const CHAINS: Table<AgreementId, ChainRow> = Table::new("chains-1");

/// At a steward: the newest listing of each counterpart.
pub(crate) const LISTINGS: Table<EntityId, ListingRow> = Table::new("listings-1");

/// This entity's own listing at each of its stewards.
pub(crate) const OWN_LISTINGS: Table<AgreementId, OwnListing> = Table::new("own-listings-1");

/// Introduction messages that leave under an agreement, in their order.
pub(crate) const INTRODUCTIONS_OUT: Table<(AgreementId, u64), OutRow> = Table::new("introductions-out-1");

/// Cards that were asked for, by the entity asked.
pub(crate) const CARDS_ASKED: Table<EntityId, AskedRow> = Table::new("cards-asked-1");

/// Entities that ask for this entity's card.
pub(crate) const CARD_REQUESTS: Table<EntityId, CardRequestRow> = Table::new("card-requests-1");

/// Proposals that came through an introducer and are not agreements of this node.
pub(crate) const RECEIVED: Table<AgreementId, ReceivedRow> = Table::new("received-1");

/// What is known about own proposals beside the agreement itself.
pub(crate) const OFFERED: Table<AgreementId, OfferedRow> = Table::new("offered-1");

/// Root generation and serial of the keys that the node last used.
pub(crate) const KEYS_NOTED: Table<(), (u32, u64)> = Table::new("keys-noted-1");

/// The version of each agreement whose end by date is in the log.
pub(crate) const EXPIRED_NOTED: Table<AgreementId, u32> = Table::new("expired-noted-1");

/// The last backup that was kept.
pub(crate) const LAST_BACKUP: Table<(), KeptRow> = Table::new("last-backup-1");

/// That this store came out of a backup.
pub(crate) const RESTORED: Table<(), RestoredRow> = Table::new("restored-1");

/// The generation of the last restore that each counterpart knows of.
pub(crate) const RESTORE_TOLD: Table<AgreementId, u64> = Table::new("restore-told-1");

/// Counterparts that came out of a backup, and what they lost of ours.
pub(crate) const GAPS: Table<AgreementId, GapRow> = Table::new("gaps-1");

/// The highest number that was given to an envelope, per agreement.
pub(crate) const LAST_NUMBERS: Table<AgreementId, u64> = Table::new("last-numbers-1");

/// Envelopes of this node by number, and where they stand.
pub(crate) const SENT_NUMBERS: Table<(AgreementId, u64), SentNumber> = Table::new("sent-numbers-1");

/// Envelopes of counterparts by number, once they were committed.
pub(crate) const HELD_NUMBERS: Table<(AgreementId, u64), EnvelopeId> = Table::new("held-numbers-1");

/// Numbers that may have been given and were forgotten by restores of this node, first and last of each.
pub(crate) const FORGOTTEN: Table<AgreementId, Vec<(u64, u64)>> = Table::new("forgotten-numbers-1");

/// From when to when a counterpart signed receipts that a restore may have made it forget, by its own clock.
pub(crate) const PEER_RESTORES: Table<AgreementId, Vec<(Time, Time)>> = Table::new("peer-restores-1");

/// Reconciliations of what was sent (1) and received (0), per agreement.
pub(crate) const ROUNDS: Table<(AgreementId, bool), RoundRow> = Table::new("rounds-1");

/// What both sides have signed last, by the same key.
pub(crate) const COMPARED: Table<(AgreementId, bool), ComparedRow> = Table::new("compared-1");

/// Numbers that a reconciliation found something wrong with.
pub(crate) const NUMBER_GAPS: Table<(AgreementId, bool, u64), NumberGap> = Table::new("number-gaps-1");

/// Heads in a row of each counterpart that nothing proves.
pub(crate) const HEADS_UNPROVEN: Table<AgreementId, u32> = Table::new("heads-unproven-1");
/// What each counterpart has added to the audit log today.
pub(crate) const AUDIT_PACES: Table<AgreementId, PaceRow> = Table::new("audit-paces-1");

/// The fingerprints of the approvers whose naming is in the audit log.
pub(crate) const APPROVERS_NOTED: Table<(), Vec<[u8; 32]>> = Table::new("approvers-noted-1");

/// How many entries of the audit log have gone to the syslog socket.
pub(crate) const SYSLOG_SENT: Table<(), u64> = Table::new("syslog-sent-1");

/// Released messages that nobody has taken yet, by when they were released.
pub(crate) const JOURNAL_OPEN: Table<(Time, EntityId, EnvelopeId), ()> = Table::new("journal-open-1");

/// When each of them was released.
pub(crate) const JOURNAL_AT: Table<(EntityId, EnvelopeId), Time> = Table::new("journal-at-1");

/// How many messages were taken, in time and late, by the day.
pub(crate) const JOURNAL_DAYS: Table<u32, JournalDay> = Table::new("journal-days-1");

/// How many envelopes of an agreement have not ended.
pub(crate) const OPEN_COUNTS: Table<AgreementId, u64> = Table::new("open-counts-1");

/// Messages submitted here by the sending group, in the order of submission.
pub(crate) const OUT_GROUPS: Table<([u8; 16], u64), MessageId> = Table::new("out-groups-1");

/// The places in [`INBOX`] by the receiving group.
pub(crate) const INBOX_GROUPS: Table<([u8; 16], u64), ()> = Table::new("inbox-groups-1");

/// Owners that pinned objects while no message speaks of them yet: what a crash may leave behind is among them.
pub(crate) const UNSETTLED: Table<Owner, ()> = Table::new("unsettled-1");

/// Objects that were entered without an owner: those that a crash may leave without one are among them.
pub(crate) const LOOSE: Table<(EntityId, ObjectId), ()> = Table::new("loose-1");
/// The place of a message that arrived in [`INBOX`].
pub(crate) const IN_PLACES: Table<(EntityId, EnvelopeId), u64> = Table::new("in-places-1");

/// Messages that arrived by when they are due to be deleted, on the retention's clock.
pub(crate) const RETENTION: Table<(u64, EntityId, EnvelopeId), ()> = Table::new("retention-1");

/// What jumps of the clock have added up to, in microseconds.
pub(crate) const RETENTION_SHIFT: Table<(), i64> = Table::new("retention-shift-1");

/// Messages that must be kept, and since when.
pub(crate) const HOLDS: Table<(EntityId, EnvelopeId), Time> = Table::new("holds-1");

/// Messages that are being purged.
pub(crate) const PURGING: Table<(EntityId, EnvelopeId), PurgingRow> = Table::new("purging-1");

/// What is left of purged messages.
pub(crate) const PURGED: Table<(EntityId, EnvelopeId), PurgedRow> = Table::new("purged-1");

/// Purged messages that the ledger does not name yet.
pub(crate) const UNLEDGERED: Table<(EntityId, EnvelopeId), ()> = Table::new("unledgered-1");

/// Where the ledger of purges lies and how far it goes.
pub(crate) const LEDGER: Table<(), LedgerRow> = Table::new("ledger-1");

/// What the ledger named when a backup was restored: none of it is taken in again.
pub(crate) const LEDGERED: Table<[u8; 32], ()> = Table::new("ledgered-1");

/// Recalls of messages that are on hold: done once the hold is lifted.
pub(crate) const RECALL_WISHES: Table<(EntityId, EnvelopeId), ()> = Table::new("recall-wishes-1");

/// Recalls that wait for an answer.
pub(crate) const OPEN_RECALLS: Table<(AgreementId, EnvelopeId), ()> = Table::new("open-recalls-1");
