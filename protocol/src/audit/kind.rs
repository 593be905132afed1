//! What sort of step an entry records, in words that do not change, and the ids that it names.
//!
//! Everything that shows the log to others (listings, FHIR, syslog) is made from here, so that a new event is classified
//! once, by matches that know no "else". The first ten kinds are those of NTA 7516, section 6.1.
//!
//! | kind of NTA 7516 | what it is here |
//! |---|---|
//! | send, receive, read | submitted; committed by the receiver; opened or saved |
//! | change | nothing that was sent can be changed: a later message that corrects it |
//! | recall | taken back by its sender |
//! | delete at sender | content and key erased at the sender, once every envelope has ended |
//! | delete | removed by the receiver |
//! | forward | a received message passed on as a new one |
//! | account life | groups, who send and receive, and approvers, who are the persons that a node knows |
//! | rights | which counterpart may write to which group |
//!
//! **Invariant:** words and ids only, each of visible ASCII: no name, subject, text or address.

use std::fmt;

use super::event::{
    AdministratorStep, AgreementStep, BackupStep, DirectoryStep, Event, IntroductionStep, KeyStep, MessageStep,
};
use crate::record::receipt::{Tier, Verdict};

/// Sorts of steps; the first ten are those of NTA 7516.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A message is sent.
    Send,
    /// It is taken back.
    Recall,
    /// It is corrected.
    Change,
    /// Its content goes at the sender.
    DeleteAtSender,
    /// A message is received.
    Receive,
    /// It is looked into.
    Read,
    /// It is removed by the receiver.
    Delete,
    /// It is passed on.
    Forward,
    /// Who takes part is added or removed.
    Account,
    /// Who may do what is changed.
    Rights,
    /// What became of a sent message.
    Delivery,
    /// The life of an agreement.
    Agreement,
    /// This entity's keys, or a counterpart's.
    Key,
    /// The store came out of a backup.
    Restore,
    /// Backups that were made.
    Backup,
    /// What both sides know of sent messages was compared.
    Reconciliation,
    /// Settings, and messages that must be kept.
    Administrator,
    /// Listings in directories.
    Directory,
    /// Introductions.
    Introduction,
    /// Receiver controls that were attested.
    Control,
    /// The log itself.
    Log,
}

impl Kind {
    /// The ten kinds that NTA 7516 asks for.
    pub const NTA_7516: [Kind; 10] = [
        Kind::Send,
        Kind::Recall,
        Kind::Change,
        Kind::DeleteAtSender,
        Kind::Receive,
        Kind::Read,
        Kind::Delete,
        Kind::Forward,
        Kind::Account,
        Kind::Rights,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Send => "send",
            Kind::Recall => "recall",
            Kind::Change => "change",
            Kind::DeleteAtSender => "delete-at-sender",
            Kind::Receive => "receive",
            Kind::Read => "read",
            Kind::Delete => "delete",
            Kind::Forward => "forward",
            Kind::Account => "account",
            Kind::Rights => "rights",
            Kind::Delivery => "delivery",
            Kind::Agreement => "agreement",
            Kind::Key => "key",
            Kind::Restore => "restore",
            Kind::Backup => "backup",
            Kind::Reconciliation => "reconciliation",
            Kind::Administrator => "administrator",
            Kind::Directory => "directory",
            Kind::Introduction => "introduction",
            Kind::Control => "control",
            Kind::Log => "log",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This node or its people.
    Own,
    /// The counterpart.
    Peer,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Fine,
    /// Somebody did not get what they wanted.
    Failed,
    /// Somebody must look at it.
    Alarm,
}

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// The sort of step.
    pub kind: Kind,
    /// The step, in one word or a few with hyphens.
    pub action: &'static str,
    /// Who did it.
    pub side: Side,
    /// How it went.
    pub outcome: Outcome,
}

const fn own(kind: Kind, action: &'static str) -> Class {
    Class { kind, action, side: Side::Own, outcome: Outcome::Fine }
}

const fn peer(kind: Kind, action: &'static str) -> Class {
    Class { side: Side::Peer, ..own(kind, action) }
}

const fn failed(class: Class) -> Class {
    Class { outcome: Outcome::Failed, ..class }
}

const fn alarm(class: Class) -> Class {
    Class { outcome: Outcome::Alarm, ..class }
}

impl Event {
    /// What it is.
    pub fn class(&self) -> Class {
        match self {
            Event::Agreement { step, .. } => of_agreement(*step),
            Event::Message { step, .. } => of_message(*step),
            Event::Key { step: KeyStep::Rotated, .. } => own(Kind::Key, "rotated"),
            Event::Key { step: KeyStep::Recovered, .. } => own(Kind::Key, "recovered"),
            Event::Administrator(step) => of_administrator(*step),
            Event::Attested { .. } => own(Kind::Control, "attested"),
            Event::PeerAttested { .. } => peer(Kind::Control, "attested-by-peer"),
            Event::Restored => alarm(own(Kind::Restore, "restored")),
            Event::Directory { step, .. } => of_directory(*step),
            Event::Introduction { step, .. } => of_introduction(*step),
            Event::LeftOut { .. } => failed(peer(Kind::Log, "left-out")),
            Event::LogExported { .. } => own(Kind::Log, "exported"),
            Event::Backup(step) => of_backup(*step),
            Event::Reconciled { gaps: 0, .. } => own(Kind::Reconciliation, "gap-closed"),
            Event::Reconciled { .. } => alarm(own(Kind::Reconciliation, "gap-found")),
        }
    }

    /// The ids and numbers that it names, with what each is; the counterpart is `entity`.
    pub fn ids(&self) -> Vec<(&'static str, String)> {
        match self {
            Event::Agreement { agreement, entity, version, .. } => {
                vec![
                    ("entity", entity.to_string()),
                    ("agreement", agreement.to_string()),
                    ("version", version.to_string()),
                ]
            }
            Event::Message { envelope, message, agreement, entity, step } => {
                let mut ids = vec![
                    ("entity", entity.to_string()),
                    ("agreement", agreement.to_string()),
                    ("envelope", envelope.to_string()),
                    ("message", message.to_string()),
                ];
                ids.extend(ids_of_message(*step));
                ids
            }
            Event::Key { root_generation, serial, .. } => {
                vec![("generation", root_generation.to_string()), ("serial", serial.to_string())]
            }
            Event::Administrator(step) => ids_of_administrator(*step),
            Event::Attested { agreement, counter } | Event::PeerAttested { agreement, counter } => {
                vec![("agreement", agreement.to_string()), ("counter", counter.to_string())]
            }
            Event::Restored => vec![],
            Event::Directory { agreement, entity, counter, .. } => {
                vec![
                    ("entity", entity.to_string()),
                    ("agreement", agreement.to_string()),
                    ("counter", counter.to_string()),
                ]
            }
            Event::Introduction { agreement, entity, .. } => {
                vec![("entity", entity.to_string()), ("agreement", agreement.to_string())]
            }
            Event::LeftOut { agreement, entity, day, count } => vec![
                ("entity", entity.to_string()),
                ("agreement", agreement.to_string()),
                ("day", day.to_string()),
                ("count", count.to_string()),
            ],
            Event::LogExported { from, to } => vec![("from", from.to_string()), ("to", to.to_string())],
            Event::Backup(_) => vec![],
            Event::Reconciled { agreement, sent, gaps } => vec![
                ("agreement", agreement.to_string()),
                ("direction", if *sent { "sent".to_owned() } else { "received".to_owned() }),
                ("gaps", gaps.to_string()),
            ],
        }
    }
}

fn of_agreement(step: AgreementStep) -> Class {
    use AgreementStep as Step;
    let own = |action| own(Kind::Agreement, action);
    let peer = |action| peer(Kind::Agreement, action);
    match step {
        Step::Proposed => own("proposed"),
        Step::Accepted => own("accepted"),
        Step::Completed => peer("completed"),
        Step::Imported => own("imported"),
        Step::Amended => own("amended"),
        Step::Renewed => own("renewed"),
        Step::Suspended => own("suspended"),
        Step::Resumed => own("resumed"),
        Step::Withdrawn => own("withdrawn"),
        Step::Ended => own("ended"),
        Step::EndedByPeer => peer("ended-by-peer"),
        Step::Expired => own("expired"),
        Step::Verified => own("fingerprint-compared"),
        Step::Confirmed => own("confirmed"),
        Step::GrantIssued => own("grant-issued"),
        Step::Offered => own("offered"),
        Step::OfferedByPeer => peer("offered-by-peer"),
        Step::SuspendedByPeer => peer("suspended-by-peer"),
        Step::ResumedByPeer => peer("resumed-by-peer"),
        Step::WithdrawnByPeer => peer("withdrawn-by-peer"),
        Step::Forked => alarm(peer("forked")),
        Step::KeysReplacedByPeer => Class { kind: Kind::Key, ..peer("replaced-by-peer") },
        Step::Frozen => alarm(peer("frozen")),
    }
}

fn of_message(step: MessageStep) -> Class {
    use MessageStep as Step;
    match step {
        Step::Sent => own(Kind::Send, "sent"),
        Step::Delivered => peer(Kind::Delivery, "delivered"),
        Step::Refused => failed(peer(Kind::Delivery, "refused")),
        Step::Expired => failed(own(Kind::Delivery, "expired")),
        Step::Received { .. } => peer(Kind::Receive, "received"),
        Step::RefusedHere { .. } => failed(own(Kind::Receive, "refused-here")),
        Step::Read => own(Kind::Read, "read"),
        Step::Saved => own(Kind::Read, "saved"),
        Step::Deleted => own(Kind::Delete, "deleted"),
        Step::Released => peer(Kind::Delivery, "released"),
        Step::Taken => peer(Kind::Delivery, "taken"),
        Step::Recalled => own(Kind::Recall, "recalled"),
        Step::Stated { verdict, .. } => of_verdict(verdict),
        Step::RecallAsked => own(Kind::Recall, "asked"),
        Step::RetentionOver => own(Kind::Delete, "retention-over"),
        Step::PurgedAgain => own(Kind::Delete, "purged-again"),
        Step::HoldSet => own(Kind::Administrator, "hold-set"),
        Step::HoldLifted => own(Kind::Administrator, "hold-lifted"),
        Step::LetOut => own(Kind::Administrator, "let-out"),
        Step::Erased => own(Kind::DeleteAtSender, "erased"),
        Step::Corrected { .. } => own(Kind::Change, "corrected"),
        Step::Forwarded { .. } => own(Kind::Forward, "forwarded"),
    }
}

/// What was stated here about a message that arrived, after the first receipt.
fn of_verdict(verdict: Verdict) -> Class {
    match verdict {
        Verdict::Held(Tier::Delivered) => own(Kind::Receive, "delivered-here"),
        Verdict::Held(Tier::Released) => own(Kind::Receive, "released-here"),
        Verdict::Held(Tier::Taken) => own(Kind::Receive, "taken-here"),
        Verdict::Unopenable | Verdict::Conflict | Verdict::PurposeNotAgreed => {
            failed(own(Kind::Receive, "refused-here"))
        }
        Verdict::Quarantined => failed(own(Kind::Receive, "quarantined-here")),
        Verdict::Recalled => peer(Kind::Recall, "purged-here"),
        Verdict::Returned => own(Kind::Delete, "returned"),
        Verdict::NotHeld => failed(own(Kind::Receive, "not-held-here")),
    }
}

fn ids_of_message(step: MessageStep) -> Option<(&'static str, String)> {
    use MessageStep as Step;
    match step {
        Step::Received { core, .. } | Step::RefusedHere { core, .. } | Step::Stated { core, .. } => {
            Some(("core", core.to_string()))
        }
        Step::Corrected { by } | Step::Forwarded { by } => Some(("by", by.to_string())),
        Step::Sent | Step::Delivered | Step::Refused | Step::Expired => None,
        Step::Released | Step::Taken | Step::Recalled | Step::RecallAsked => None,
        Step::RetentionOver | Step::PurgedAgain | Step::HoldSet | Step::HoldLifted | Step::LetOut => None,
        Step::Read | Step::Saved | Step::Deleted | Step::Erased => None,
    }
}

fn of_administrator(step: AdministratorStep) -> Class {
    use AdministratorStep as Step;
    match step {
        Step::GroupAdded(_) => own(Kind::Account, "group-added"),
        Step::GroupShown(..) => own(Kind::Rights, "group-shown"),
        Step::GroupHidden(..) => own(Kind::Rights, "group-hidden"),
        Step::AddressesSet => own(Kind::Administrator, "addresses-set"),
        Step::ConfigurationChanged(_) => own(Kind::Administrator, "configuration-changed"),
        Step::ApproverAdded(_) => own(Kind::Account, "approver-added"),
        Step::ApproverRemoved(_) => own(Kind::Account, "approver-removed"),
    }
}

fn ids_of_administrator(step: AdministratorStep) -> Vec<(&'static str, String)> {
    use AdministratorStep as Step;
    match step {
        Step::GroupAdded(group) => vec![("group", hex::encode(group.0))],
        Step::GroupShown(group, to) | Step::GroupHidden(group, to) => {
            let to = to.map_or_else(|| "all".to_owned(), |entity| entity.to_string());
            vec![("entity", to), ("group", hex::encode(group.0))]
        }
        Step::AddressesSet => vec![],
        Step::ConfigurationChanged(hash) => vec![("configuration", hex::encode(hash))],
        Step::ApproverAdded(key) | Step::ApproverRemoved(key) => vec![("approver", hex::encode(key))],
    }
}

fn of_backup(step: BackupStep) -> Class {
    match step {
        BackupStep::Begun => own(Kind::Backup, "begun"),
        BackupStep::Made => own(Kind::Backup, "made"),
        BackupStep::BrokenOff => failed(own(Kind::Backup, "broken-off")),
        BackupStep::Kept => own(Kind::Backup, "kept"),
    }
}

fn of_directory(step: DirectoryStep) -> Class {
    use DirectoryStep as Step;
    let (own, peer) = (|action| own(Kind::Directory, action), |action| peer(Kind::Directory, action));
    match step {
        Step::Published => own("published"),
        Step::Withdrawn => own("withdrawn"),
        Step::Taken => peer("taken-by-steward"),
        Step::Refused => failed(peer("refused-by-steward")),
        Step::Listed => peer("listed"),
        Step::Unlisted => peer("unlisted"),
    }
}

fn of_introduction(step: IntroductionStep) -> Class {
    use IntroductionStep as Step;
    let (own, peer) = (|action| own(Kind::Introduction, action), |action| peer(Kind::Introduction, action));
    match step {
        Step::CardAsked => own("card-asked"),
        Step::CardCame => peer("card-came"),
        Step::RequestCame => peer("request-came"),
        Step::CardGiven => own("card-given"),
        Step::CardDenied => failed(own("card-denied")),
        Step::ProposalSent => own("proposal-sent"),
        Step::ProposalCame => peer("proposal-came"),
        Step::Accepted => own("accepted"),
        Step::Declined => failed(own("declined")),
        Step::DeclinedByPeer => failed(peer("declined-by-peer")),
        Step::PassedOn => peer("passed-on"),
    }
}

#[cfg(test)]
mod tests {
    use pakt_keys::EntityId;

    use super::*;
    use crate::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};

    #[test]
    fn a_step_is_classified_and_names_ids_only() {
        let of = |step| Event::Message {
            envelope: EnvelopeId([1; 16]),
            message: MessageId([2; 16]),
            agreement: AgreementId([3; 32]),
            entity: EntityId([4; 32]),
            step,
        };
        let check = |step, text: &str, more: Option<(&str, String)>| {
            let (event, base) = (of(step), of(MessageStep::Sent).ids());
            let Class { kind, action, side, outcome } = event.class();
            assert_eq!(format!("{kind} {action} {side:?} {outcome:?}"), text);
            assert_eq!(event.ids(), base.into_iter().chain(more).collect::<Vec<_>>(), "{text}");
        };
        let (core, by) = (CoreHash([5; 32]), MessageId([6; 16]));
        check(MessageStep::Sent, "send sent Own Fine", None);
        check(MessageStep::Delivered, "delivery delivered Peer Fine", None);
        check(MessageStep::Expired, "delivery expired Own Failed", None);
        let received = MessageStep::Received { core, blinder: [7; 32] };
        check(received, "receive received Peer Fine", Some(("core", core.to_string())));
        check(MessageStep::Erased, "delete-at-sender erased Own Fine", None);
        check(MessageStep::Corrected { by }, "change corrected Own Fine", Some(("by", by.to_string())));
        check(MessageStep::Forwarded { by }, "forward forwarded Own Fine", Some(("by", by.to_string())));
    }

    #[test]
    fn a_blinder_is_no_id() {
        let blinder = [7; 32];
        let step = MessageStep::Received { core: CoreHash([5; 32]), blinder };
        assert!(!format!("{:?}", ids_of_message(step)).contains(&hex::encode(blinder)));
    }
}
