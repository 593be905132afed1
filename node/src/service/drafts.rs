//! Messages whose recipients were found and that wait for their content; in memory, few, and not for long.
//!
//! **Invariant:** whatever can be refused without reading the content is refused here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pakt_protocol::content::extent::Extent;
use pakt_protocol::content::manifest::ManifestHead;
use pakt_protocol::ids::{AgreementId, EnvelopeId};
use pakt_protocol::policy::Footing;
use pakt_protocol::record::roster::RosterGroup;
use pakt_protocol::time::Time;

use super::delivery::priority_for;
use super::peers::{not_in_force, reason_of};
use super::{Answer, Node, errors, words};
use crate::ambient;
use crate::api::types::*;
use crate::book::{Agreement, FindError, GroupRow, Standing};
use crate::mailroom::rows::Earlier;

/// Drafts that wait at once.
const DRAFTS_MAX: usize = 64;
/// A draft that gets no content is forgotten after this time.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(600);
/// Recipients of one message.
const RECIPIENTS_MAX: usize = 256;

/// A recipient that was found.
#[derive(Clone)]
pub(super) struct Recipient {
    pub(super) agreement: Arc<Agreement>,
    pub(super) group: RosterGroup,
}

/// A message that waits for its content.
pub(super) struct Waiting {
    pub(super) recipients: Vec<Recipient>,
    pub(super) from: GroupRow,
    pub(super) head: ManifestHead,
    pub(super) priority: Priority,
    /// Plain bytes that every recipient's agreement allows.
    pub(super) bytes_max: u64,
    /// What a walk of the content found, if one was made.
    pub(super) extent: Option<Extent>,
    /// What it passes on or corrects.
    pub(super) earlier: Vec<Earlier>,
    since: Instant,
}

/// All drafts of a node.
#[derive(Default)]
pub(super) struct Drafts {
    waiting: Mutex<HashMap<String, Waiting>>,
    /// Those that were taken, until they are messages or nothing.
    sealing: Mutex<HashMap<String, Vec<EnvelopeId>>>,
}

/// A draft that is being sealed, for as long as this is held.
pub(super) struct Sealing<'a> {
    drafts: &'a Drafts,
    id: String,
}

impl Drop for Sealing<'_> {
    fn drop(&mut self) {
        self.drafts.lock_sealing().remove(&self.id);
    }
}

impl Drafts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_sealing(&self) -> MutexGuard<'_, HashMap<String, Vec<EnvelopeId>>> {
        self.sealing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which envelopes a draft that was taken becomes.
    pub(super) fn begin_sealing(&self, id: String, envelopes: &[EnvelopeId]) -> Sealing<'_> {
        self.lock_sealing().insert(id.clone(), envelopes.to_vec());
        Sealing { drafts: self, id }
    }

    fn add(&self, draft: Waiting) -> Answer<String> {
        let mut waiting = self.lock();
        waiting.retain(|_, draft| draft.since.elapsed() < DRAFT_AGE_MAX);
        if waiting.len() >= DRAFTS_MAX {
            let message = format!("{DRAFTS_MAX} messages are waiting for their content already");
            return Err(ServiceError::new(ErrorCode::Busy, message, "try again in a moment"));
        }
        let id = hex::encode(ambient::random::<16>());
        waiting.insert(id.clone(), draft);
        Ok(id)
    }

    pub(super) fn take(&self, id: &str) -> Answer<Waiting> {
        let taken = self.lock().remove(id).filter(|draft| draft.since.elapsed() < DRAFT_AGE_MAX);
        taken.ok_or_else(no_such_draft)
    }
}

fn no_such_draft() -> ServiceError {
    let message = "there is no such draft: it was used, or its content came too late";
    ServiceError::new(ErrorCode::NotFound, message, "begin the message again")
}

impl Node {
    /// Begins a message: finds its recipients and checks all that can be known without its content.
    ///
    /// # Errors
    /// `no_agreement`, `not_found` for an unknown or hidden group, `refused` by the terms or the policy, `usage`.
    pub async fn draft(&self, message: NewMessage) -> Answer<Draft> {
        if self.inner.stop.is_cancelled() {
            return Err(errors::stopping());
        }
        let now = ambient::service_now();
        let from = self.sending_group(message.from.as_deref())?;
        let recipients = self.recipients(&message.to, now)?;
        let earlier = self.earlier(&message).await?;
        let agreements: Vec<&Agreement> = recipients.iter().map(|recipient| &*recipient.agreement).collect();
        let purpose = purpose_of(message.purpose.as_deref(), &agreements)?;
        let bytes_max = agreements.iter().map(|agreement| agreement.terms.message_bytes_max).min().unwrap_or(0);
        if let Some(bytes) = message.bytes {
            check_size(bytes, &agreements)?;
        }
        if message.subject.chars().any(char::is_control) {
            let hint = "put the rest into the text: --body-file";
            return Err(ServiceError::new(
                ErrorCode::Usage,
                "the subject is one line without control characters",
                hint,
            ));
        }
        let head = ManifestHead {
            subject: message.subject,
            text: message.body,
            from_group: from.name.clone(),
            purpose,
            thread: None,
            written_at: ambient::now(),
        };
        head.check().map_err(|error| ServiceError::new(ErrorCode::Usage, error.to_string(), "send it as a file"))?;
        let since = Instant::now();
        let extent = match (message.files, message.folders, message.bytes) {
            (Some(files), Some(folders), Some(plain_bytes)) => Some(Extent { files, folders, plain_bytes }),
            _ => None,
        };
        let to: Vec<AgreementId> = recipients.iter().map(|recipient| recipient.agreement.id).collect();
        let draft = Waiting { recipients, from, head, priority: message.priority, bytes_max, extent, earlier, since };
        let id = self.inner.drafts.add(draft)?;
        // Lanes take some round trips, which pass while the content is being sealed.
        for agreement in to {
            self.inner.exchange.expect(&agreement, priority_for(message.priority)).await;
        }
        Ok(Draft { id })
    }

    /// How much of a message has arrived while its content is still being given.
    ///
    /// # Errors
    /// `not_found` before that, and once it is a message.
    pub fn draft_progress(&self, id: &str) -> Answer<DraftProgress> {
        let envelopes = self.inner.drafts.lock_sealing().get(id).cloned().ok_or_else(no_such_draft)?;
        let durable = |envelope| self.inner.exchange.progress(envelope).map_or(0, |progress| progress.durable_bytes);
        Ok(DraftProgress { bytes_durable: envelopes.iter().map(durable).min().unwrap_or(0) })
    }

    /// The group that was named, or the only one.
    fn sending_group(&self, named: Option<&str>) -> Answer<GroupRow> {
        let groups = self.inner.book.groups();
        let names = || words::list(groups.iter().map(|group| group.name.as_str()));
        if let Some(name) = named {
            return groups.iter().find(|group| group.name == name).cloned().ok_or_else(|| {
                let message = format!("this entity has no group {name}");
                ServiceError::new(ErrorCode::NotFound, message, format!("its groups are: {}", names()))
            });
        }
        match groups.as_slice() {
            [only] => Ok(only.clone()),
            _ => {
                let hint = format!("name the sending group with --from: {}", names());
                Err(ServiceError::new(ErrorCode::Usage, "this entity has more than one group", hint))
            }
        }
    }

    /// Every recipient once, each of an agreement that is in force and that the policy lets be written to.
    fn recipients(&self, to: &[String], now: Time) -> Answer<Vec<Recipient>> {
        if to.is_empty() || to.len() > RECIPIENTS_MAX {
            let message = format!("a message has at least one recipient and at most {RECIPIENTS_MAX}");
            return Err(ServiceError::new(ErrorCode::Usage, message, "write each as ENTITY/GROUP"));
        }
        let mut recipients: Vec<Recipient> = Vec::with_capacity(to.len());
        for text in to {
            let recipient = self.recipient(text, now)?;
            let is_same = |other: &Recipient| {
                other.agreement.id == recipient.agreement.id && other.group.id == recipient.group.id
            };
            if !recipients.iter().any(is_same) {
                recipients.push(recipient);
            }
        }
        Ok(recipients)
    }

    fn recipient(&self, text: &str, now: Time) -> Answer<Recipient> {
        // Whether there is an agreement in force goes before whether there is a group.
        if let Some(agreement) = self.entity_of(text) {
            self.check_writable(&agreement, now)?;
        }
        match self.inner.book.find_recipient(text) {
            Ok((agreement, group)) => {
                self.check_writable(&agreement, now)?;
                Ok(Recipient { agreement, group })
            }
            Err(FindError::NoRoster) => Err(match self.entity_of(text) {
                Some(agreement) => self.never_online(text, &agreement, now),
                None => not_found(text, FindError::NoRoster),
            }),
            Err(error) => Err(not_found(text, error)),
        }
    }

    /// Nothing is known of the groups yet: what keeps the counterpart away is what there is to do.
    fn never_online(&self, text: &str, agreement: &Agreement, now: Time) -> ServiceError {
        let why = reason_of(agreement, &self.inner.exchange.peer(&agreement.id), now);
        let told = not_found(text, FindError::NoRoster);
        ServiceError { message: format!("{}; nothing was queued. It is not online: {why}", told.message), ..told }
    }

    /// The counterpart in ENTITY/GROUP, by the longest beginning that names one.
    fn entity_of(&self, text: &str) -> Option<Arc<Agreement>> {
        text.rmatch_indices('/').find_map(|(at, _)| self.inner.book.find(&text[..at]).ok())
    }

    fn check_writable(&self, agreement: &Agreement, now: Time) -> Answer<()> {
        let name = &agreement.counterpart().name;
        if let Some(why) = not_in_force(agreement, now) {
            let message = format!("nothing can be sent to {name}: {why}");
            let hint = match agreement.standing {
                Standing::Proposed => {
                    "see `pakt agreement list`; wait until it is accepted, or import the file that came back"
                }
                _ if agreement.frozen_at.is_some() => "call it, then end this agreement with `pakt agreement end`",
                _ => match agreement.footing(now) {
                    Footing::Suspended => "see `pakt agreement list`; whoever suspended it resumes it",
                    Footing::Expired => "renew it with `pakt agreement renew`",
                    Footing::NotBegun => "wait until it begins, see `pakt agreement list`",
                    Footing::Unconfirmed => "look at it, then confirm it with `pakt agreement confirm`",
                    Footing::InForce | Footing::None => {
                        "see `pakt agreement list`; propose a new one with `pakt agreement propose`"
                    }
                },
            };
            return Err(ServiceError::new(ErrorCode::NoAgreement, message, hint));
        }
        if self.inner.config.require_verified && !agreement.verified {
            let message = format!("the fingerprint of {name} was never compared, and this node's policy requires it");
            let id = agreement.id;
            let hint = format!("compare it over the telephone, then `pakt agreement verify {id} --fingerprint WORDS`");
            return Err(ServiceError::new(ErrorCode::Refused, message, hint));
        }
        Ok(())
    }
}

/// A recipient that was not found. Hidden and unknown groups are one answer.
fn not_found(text: &str, error: FindError) -> ServiceError {
    let (code, message, hint) = match error {
        FindError::NoGroup => (ErrorCode::Usage, format!("{text} names no group"), "write a recipient as ENTITY/GROUP"),
        FindError::Ambiguous => (
            ErrorCode::Usage,
            format!("{text} fits more than one counterpart"),
            "name the entity id or the registered number, see `pakt peers`",
        ),
        FindError::Unknown => (
            ErrorCode::NoAgreement,
            format!("there is no agreement with the counterpart of {text}"),
            "see `pakt peers` for the counterparts; `pakt agreement propose` makes an agreement",
        ),
        FindError::UnknownGroup => (
            ErrorCode::NotFound,
            format!("{text}: the counterpart shows no such group"),
            "see `pakt peers` for its groups",
        ),
        FindError::NoRoster => (
            ErrorCode::NotFound,
            format!("{text}: not known yet: the peer has not been online since the agreement was made"),
            "ask its operator whether the node runs, see `pakt peers` and `pakt doctor`; send again once it was online",
        ),
    };
    ServiceError::new(code, message, hint)
}

/// The purpose that the message carries: one that every agreement allows.
fn purpose_of(named: Option<&str>, agreements: &[&Agreement]) -> Answer<Option<String>> {
    let agreed: Vec<(&str, &[String])> = agreements
        .iter()
        .map(|agreement| (agreement.counterpart().name.as_str(), agreement.terms.purposes.as_slice()))
        .filter(|(_, purposes)| !purposes.is_empty())
        .collect();
    pick_purpose(named, &agreed)
}

/// `agreed`: the purposes that each counterpart's agreement names, if it names any.
fn pick_purpose(named: Option<&str>, agreed: &[(&str, &[String])]) -> Answer<Option<String>> {
    let list = |purposes: &[String]| words::list(purposes.iter().map(String::as_str));
    let Some((_, first)) = agreed.first() else { return Ok(named.map(str::to_owned)) };
    let purpose = match (named, first) {
        (Some(named), _) => named,
        (None, [only]) => only,
        (None, several) => {
            let hint = format!("name one with --purpose: {}", list(several));
            return Err(ServiceError::new(ErrorCode::Usage, "the agreement names several purposes", hint));
        }
    };
    for (name, purposes) in agreed {
        if !purposes.iter().any(|agreed| agreed == purpose) {
            let message = format!("the purpose {purpose} is not agreed with {name}");
            return Err(ServiceError::new(ErrorCode::Refused, message, format!("agreed are: {}", list(purposes))));
        }
    }
    Ok(Some(purpose.to_owned()))
}

/// Refuses what an agreement is too small for, by name and size.
pub(super) fn check_size(bytes: u64, agreements: &[&Agreement]) -> Answer<()> {
    let smaller = agreements.iter().find(|agreement| bytes > agreement.terms.message_bytes_max);
    let Some(agreement) = smaller else { return Ok(()) };
    let (name, max) = (&agreement.counterpart().name, agreement.terms.message_bytes_max);
    Err(too_large(name, bytes, max))
}

fn too_large(name: &str, bytes: u64, max: u64) -> ServiceError {
    let message = format!(
        "the message has {}, the agreement with {name} allows at most {}",
        words::size(bytes),
        words::size(max)
    );
    ServiceError::new(ErrorCode::Refused, message, "send it in parts, or agree on a larger max_message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(since: Instant) -> Waiting {
        Waiting {
            recipients: vec![],
            from: GroupRow {
                id: pakt_protocol::record::roster::GroupId([0; 16]),
                name: "Reception".into(),
                shown: crate::book::Shown::All,
            },
            head: ManifestHead::default(),
            priority: Priority::Normal,
            bytes_max: 0,
            extent: None,
            earlier: vec![],
            since,
        }
    }

    #[test]
    fn drafts_are_few_used_once_and_forgotten() {
        let drafts = Drafts::default();
        let now = Instant::now();
        let first = drafts.add(waiting(now)).unwrap();
        assert!(drafts.take(&first).is_ok());
        assert_eq!(drafts.take(&first).err().map(|error| error.code), Some(ErrorCode::NotFound));
        if let Some(past) = now.checked_sub(DRAFT_AGE_MAX) {
            let old = drafts.add(waiting(past)).unwrap();
            assert!(drafts.take(&old).is_err());
            drafts.add(waiting(past)).unwrap();
        }
        for _ in 0..DRAFTS_MAX {
            drafts.add(waiting(now)).unwrap();
        }
        assert_eq!(drafts.add(waiting(now)).unwrap_err().code, ErrorCode::Busy);
    }

    #[test]
    fn a_purpose_is_one_that_all_have_agreed() {
        let (both, one) = (["billing".to_owned(), "treatment".to_owned()], ["treatment".to_owned()]);
        let check = |named: Option<&str>, agreed: &[(&str, &[String])], expected: Result<Option<&str>, u8>| {
            let picked = pick_purpose(named, agreed);
            let picked = picked.as_ref().map(Option::as_deref).map_err(|error| error.code.exit_code());
            assert_eq!(picked, expected, "{named:?}");
        };
        check(None, &[], Ok(None));
        check(Some("anything"), &[], Ok(Some("anything")));
        check(Some("billing"), &[("A", &both)], Ok(Some("billing")));
        check(None, &[("A", &one)], Ok(Some("treatment")));
        check(None, &[("A", &both)], Err(2));
        check(Some("research"), &[("A", &both)], Err(3));
        check(Some("billing"), &[("A", &both), ("B", &one)], Err(3));
        check(None, &[("A", &one), ("B", &both)], Ok(Some("treatment")));
    }

    #[test]
    fn hidden_and_unknown_groups_and_absent_peers_exit_four() {
        let check = |error: FindError, exit: u8, says: &str| {
            let told = not_found("NL:KVK:1/Reception", error);
            assert_eq!(told.code.exit_code(), exit);
            assert!(told.message.contains(says), "{told}");
        };
        check(FindError::UnknownGroup, 4, "no such group");
        check(FindError::NoRoster, 4, "not known yet: the peer has not been online");
        check(FindError::Unknown, 3, "no agreement");
        check(FindError::Ambiguous, 2, "more than one");
        check(FindError::NoGroup, 2, "no group");
    }

    #[test]
    fn a_limit_is_named_in_words() {
        let error = too_large("Sør", 3_000_000, 1_000_000);
        assert!(error.message.contains("3 MB") && error.message.contains("1 MB"), "{error}");
        assert_eq!(error.code.exit_code(), 3);
    }
}
