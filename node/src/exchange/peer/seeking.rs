//! Finding a counterpart again whose addresses all changed while this node could not hear of it: partners that both
//! have are asked for what it left there.
//!
//! ```text
//! lost actor --Seek(lost)--> actor of each partner online --Seek(tags)--> partner --Sought--> opened, taken, dialled
//! ```
//! **Invariant:** questions and answers have one shape, whatever is asked and found.
//! **Invariant:** a counterpart asks and is answered at a fixed pace, however many it has lost.

use std::collections::BTreeSet;
use std::time::Duration;

use pakt_protocol::deposit::{DEPOSIT_BYTES_LONG, SEEK_TAGS};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::deposit::{Deposit, DepositOffer, Deposited, Seek, Sought};
use pakt_protocol::time::Time;

use super::{Command, PeerActor, Timer, lock, now};
use crate::ambient;
use crate::book::random;

/// What is left at a partner is compared so soon after it is online, or after something has changed.
const OFFER_AFTER: Duration = Duration::from_secs(5);
/// And so often while it stays.
const OFFER_EVERY: Duration = Duration::from_secs(600);
/// Deposits in one message.
const ENTRIES_PER_MESSAGE: usize = 64;
/// A partner is asked no more often, and answers nothing to who asks much more often.
const SEEK_EVERY: Duration = Duration::from_secs(10);
const ANSWER_EVERY: Duration = Duration::from_secs(5);
/// A counterpart is lost after so many failed dials over so much time; then it is asked for ever more rarely.
const LOST_FAILURES: u32 = 3;
const LOST_AFTER: Duration = Duration::from_secs(60);
const SEEK_AGAIN_MAX: Duration = Duration::from_secs(3_600);

/// The looking for counterparts through this one, and for this one through others.
#[derive(Default)]
pub(super) struct Seeking {
    /// Counterparts that are to be asked for.
    wanted: BTreeSet<AgreementId>,
    /// Those of the question under way, with its number.
    asked: Option<(u32, Vec<AgreementId>)>,
    asked_at: Option<Time>,
    answered_at: Option<Time>,
    /// The set that was sent in this session.
    deposited: Option<[u8; 32]>,
    /// Since when this counterpart cannot be dialled, and when partners are asked for it next.
    lost_since: Option<Time>,
    next_at: Option<Time>,
    times: u32,
}

impl PeerActor {
    /// What this node leaves at the counterpart may have to be renewed.
    pub(super) fn plan_deposits(&mut self) {
        if self.is_live() {
            self.timers.set(Timer::Deposits, now() + OFFER_AFTER);
        }
    }

    /// A session has begun.
    pub(super) fn begin_seeking(&mut self) {
        self.seeking = Seeking { wanted: std::mem::take(&mut self.seeking.wanted), ..Seeking::default() };
        self.plan_deposits();
    }

    /// Names what this node wants to be kept.
    pub(super) fn offer_deposits(&mut self) {
        if self.is_live() {
            self.timers.set(Timer::Deposits, now() + OFFER_EVERY);
            let digest = self.context.book.deposits_digest(&self.id);
            self.transmit(DepositOffer { digest }.into());
        }
    }

    /// Answers with what is kept of this counterpart.
    pub(super) fn answer_offer(&mut self) {
        let digest = self.context.book.kept_digest(&self.id);
        self.transmit(Deposited { digest }.into());
    }

    /// The counterpart keeps something else than it should: it gets everything, once in a session.
    pub(super) async fn handle_deposited(&mut self, kept: [u8; 32]) {
        let digest = self.context.book.deposits_digest(&self.id);
        if kept == digest || self.seeking.deposited == Some(digest) {
            return;
        }
        self.seeking.deposited = Some(digest);
        let entries = match self.context.book.deposits_for(&self.id).await {
            Ok(entries) => entries,
            Err(error) => return tracing::error!(agreement = %self.id, %error, "what is to be left at a partner"),
        };
        let mut parts = entries.chunks(ENTRIES_PER_MESSAGE).peekable();
        if parts.peek().is_none() {
            self.transmit(Deposit { first: true, entries: vec![], digest: Some(digest) }.into());
        }
        let mut first = true;
        while let Some(part) = parts.next() {
            let digest = parts.peek().is_none().then_some(digest);
            self.transmit(Deposit { first, entries: part.to_vec(), digest }.into());
            first = false;
        }
    }

    /// Keeps what the counterpart leaves.
    pub(super) async fn keep_deposits(&mut self, deposit: Deposit) {
        let Deposit { first, entries, digest } = deposit;
        match self.context.book.keep_deposits(&self.id, first, entries, digest).await {
            Ok(()) if digest.is_some() => self.answer_offer(),
            Ok(()) => {}
            Err(why) => self.close_session(why).await,
        }
    }

    /// Answers a question: eight deposits, or what looks like them.
    pub(super) fn answer_seek(&mut self, seek: Seek) {
        let hurried = self.seeking.answered_at.is_some_and(|at| now().since(at) < ANSWER_EVERY);
        self.seeking.answered_at = Some(now());
        let found = self.context.book.find_deposits(&self.id, &seek.tags);
        let fill = |kept: Option<Vec<u8>>| {
            let mut kept = kept.filter(|_| !hurried).unwrap_or_default();
            kept.extend(random(DEPOSIT_BYTES_LONG.saturating_sub(kept.len())));
            kept
        };
        let found = found.into_iter().map(fill).collect();
        self.transmit(Sought { number: seek.number, found }.into());
    }

    /// For how long dials have failed.
    pub(super) fn lost_for(&self) -> Duration {
        self.seeking.lost_since.map_or(Duration::ZERO, |since| now().since(since))
    }

    /// The control lane could not be dialled: after a while partners are asked where the counterpart is now.
    pub(super) fn note_lost(&mut self, failures: u32) {
        let since = *self.seeking.lost_since.get_or_insert_with(now);
        let is_lost = failures >= LOST_FAILURES && now().since(since) > LOST_AFTER;
        if !is_lost || self.seeking.next_at.is_some_and(|at| now() < at) {
            return;
        }
        let wait = (LOST_AFTER * 2u32.pow(self.seeking.times.min(8))).min(SEEK_AGAIN_MAX);
        self.seeking.times += 1;
        self.seeking.next_at = Some(now() + wait);
        for (partner, peer) in lock(&self.context.peers).iter() {
            if *partner != self.id {
                // One that is too busy to be asked is asked the next time.
                let _ = peer.commands.try_send(Command::Seek(self.id));
            }
        }
    }

    /// Another counterpart is lost: this one may know where it is.
    pub(super) fn seek(&mut self, lost: AgreementId) {
        if self.is_live() {
            self.seeking.wanted.insert(lost);
            if !self.timers.is_set(Timer::Seek) {
                let wait = self.seeking.asked_at.map_or(Duration::ZERO, |at| (at + SEEK_EVERY).since(now()));
                self.timers.set(Timer::Seek, now() + wait);
            }
        }
    }

    /// Asks for up to eight of those that are wanted.
    pub(super) fn send_seek(&mut self) {
        if !self.is_live() {
            return;
        }
        let mut tags = [[0; 16]; SEEK_TAGS].map(|_| ambient::random());
        let mut asked = Vec::new();
        while let Some(wanted) = (asked.len() < SEEK_TAGS).then(|| self.seeking.wanted.pop_first()).flatten() {
            if let Some(tag) = self.context.book.seek_tag(&wanted, &self.entity) {
                tags[asked.len()] = tag;
                asked.push(wanted);
            }
        }
        if asked.is_empty() {
            return;
        }
        let number = u32::from_be_bytes(ambient::random());
        self.seeking.asked = Some((number, asked));
        self.seeking.asked_at = Some(now());
        if !self.seeking.wanted.is_empty() {
            self.timers.set(Timer::Seek, now() + SEEK_EVERY);
        }
        self.transmit(Seek { number, tags }.into());
    }

    /// Opens what was found, takes what is news, and has it dialled.
    pub(super) async fn handle_sought(&mut self, sought: Sought) {
        let Some((_, asked)) = self.seeking.asked.take_if(|(number, _)| *number == sought.number) else { return };
        for (wanted, found) in asked.into_iter().zip(&sought.found) {
            let Some(update) = self.context.book.open_deposit(&wanted, &self.entity, found) else { continue };
            let hint = match self.context.book.take_addresses(&wanted, &update).await {
                Ok(true) => vec![],
                Ok(false) => continue,
                // Perhaps it has replaced its keys too: who answers there shows them.
                Err(_) => self.context.book.deposit_hint(&wanted, &update),
            };
            tracing::info!(agreement = %wanted, partner = %self.id, "a partner knew where it is now");
            if let Some(peer) = lock(&self.context.peers).get(&wanted) {
                let _ = peer.commands.try_send(Command::AddressesFound { hint });
            }
        }
    }
}
