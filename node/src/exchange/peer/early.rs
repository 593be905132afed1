//! Envelopes that are offered while their content is still being read.
//!
//! ```text
//! waiting --place--> noted (durable) --> offered --accepted--> named as it becomes durable --submitted--> a delivery
//!    ^                                      |                        |
//!    +------------- session lost -----------+------------------------+
//!                            refused: left alone until it is submitted
//!                            broken off: given up --> withdrawn --> forgotten
//! ```
//! What was given up, by a failure or by a crash, is withdrawn in this session or the next one, until the counterpart
//! has said that it holds nothing of it.
//!
//! **Invariant:** nothing is offered early that a crash would leave with the counterpart for good.

use std::collections::{BTreeSet, HashMap};

use pakt_protocol::content::extent::{Extent, ExtentBounds};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::line::{EARLY_MAX, Place, early_place};
use pakt_protocol::message::{Offer, Withdraw};
use pakt_protocol::record::envelope::Priority;
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;
use pakt_protocol::transfer::outgoing::{Input, Outgoing};

use super::sending::{Content, Sending, seconds_until};
use super::{Command, PeerActor, lock};
use crate::book::Standing;
use crate::content::Follower;

/// An envelope whose message is being sealed.
pub struct EarlyOffer {
    /// Its id.
    pub envelope: EnvelopeId,
    /// Whom it is for.
    pub group: GroupId,
    /// How urgent it is.
    pub priority: Priority,
    /// What the content comes to, at most.
    pub extent: Extent,
    /// What its objects come to, at most.
    pub bounds: ExtentBounds,
    /// When the sender gives up, at the earliest.
    pub expires_at: Time,
    /// Its content objects as they become durable.
    pub objects: Follower,
}

impl EarlyOffer {
    fn to_offer(&self, agreement_version: u32, hold_seconds: u32) -> Offer {
        Offer {
            envelope: self.envelope,
            group: self.group,
            priority: self.priority,
            agreement_version,
            files: self.extent.files,
            plain_bytes: self.extent.plain_bytes,
            objects: self.bounds.objects,
            sealed_bytes: self.bounds.sealed_bytes,
            seconds_left: seconds_until(self.expires_at).min(hold_seconds),
        }
    }
}

/// Such an envelope at the actor.
struct Early {
    offer: EarlyOffer,
    place: Place,
    /// Whether it may have been offered, in this session or an earlier one.
    noted: bool,
}

/// All of them: those that are being read, and those that are to be withdrawn.
#[derive(Default)]
pub(super) struct EarlyOffers {
    reading: HashMap<EnvelopeId, Early>,
    /// Offered early, and their messages will never be submitted.
    given_up: BTreeSet<EnvelopeId>,
    count: u64,
}

impl EarlyOffers {
    pub(super) fn is_empty(&self) -> bool {
        self.reading.is_empty()
    }

    pub(super) fn contains(&self, envelope: &EnvelopeId) -> bool {
        self.reading.contains_key(envelope)
    }

    /// Where an envelope stands among those that wait.
    fn place(&self, envelope: &EnvelopeId) -> Option<Place> {
        self.reading.get(envelope).map(|early| early.place)
    }
}

impl PeerActor {
    /// What an earlier run of the node offered early and did not submit.
    pub(super) async fn load_early(&mut self) {
        match self.context.mailroom.early_offers(&self.id) {
            Ok(left) => self.early.given_up.extend(left),
            Err(error) => tracing::error!(agreement = %self.id, %error, "early offers could not be read"),
        }
        self.forget_ended().await;
    }

    /// A message is being sealed: it is offered as soon as there is a session and a place.
    pub(super) async fn handle_early(&mut self, offer: EarlyOffer) {
        let (envelope, actor, mut objects) = (offer.envelope, self.own_inbox.clone(), offer.objects.clone());
        self.tasks.spawn(async move {
            while objects.more().await {
                if actor.send(Command::EarlyObjects(envelope)).await.is_err() {
                    return;
                }
            }
            drop(objects);
            let _ = actor.send(Command::EarlyEnded(envelope)).await;
        });
        let place = early_place(offer.priority, self.early.count);
        self.early.count += 1;
        self.early.reading.insert(envelope, Early { offer, place, noted: false });
        self.wait_early(envelope);
        self.fill_places().await;
    }

    /// Lines it up for a place, if it is still being read.
    pub(super) fn wait_early(&mut self, envelope: EnvelopeId) {
        if let Some(place) = self.early.place(&envelope) {
            self.waiting.insert(place, envelope);
        }
    }

    /// Whether an envelope that waits may have a place now.
    pub(super) fn may_go(&self, envelope: &EnvelopeId) -> bool {
        let early = self.sending.values().filter(|sending| sending.is_early()).count();
        (early < EARLY_MAX || !self.early.contains(envelope)) && self.terms.may_go(envelope, self.rate_limit())
    }

    /// Offers it; that it may have been offered is durable first.
    pub(super) async fn start_early(&mut self, envelope: EnvelopeId) {
        match self.context.mailroom.note_early(self.id, envelope).await {
            Ok(true) => {}
            // It was submitted in this moment, and comes as a delivery.
            Ok(false) => return,
            Err(error) => return tracing::error!(%envelope, %error, "an early offer could not be noted"),
        }
        let hold_seconds = self.hold_seconds();
        let version = self.agreement().map_or(0, |agreement| agreement.terms.version);
        let Some(early) = self.early.reading.get_mut(&envelope) else { return };
        early.noted = true;
        let progress = lock(&self.context.progress).get(&envelope).copied().unwrap_or_default();
        let (machine, priority) = (Outgoing::new(early.offer.to_offer(version, hold_seconds)), early.offer.priority);
        let content = Content::Early(early.offer.objects.clone());
        let sending = Sending::new(machine, priority, content, progress, self.wire_total());
        self.take_up(envelope, sending).await;
    }

    /// More of its objects are durable.
    pub(super) async fn handle_early_objects(&mut self, envelope: EnvelopeId) {
        self.pump_sending(envelope).await;
    }

    /// It is early no more. Gives whether it may have been offered; none if it was not early.
    pub(super) fn end_early(&mut self, envelope: &EnvelopeId) -> Option<bool> {
        let early = self.early.reading.remove(envelope)?;
        self.waiting.remove(&early.place);
        Some(early.noted)
    }

    /// There will be no such message. Gives whether it is to be withdrawn.
    fn give_up(&mut self, envelope: EnvelopeId) -> bool {
        let noted = self.end_early(&envelope) == Some(true);
        if noted {
            self.early.given_up.insert(envelope);
        }
        noted
    }

    /// There will be no such message, unless it was submitted before.
    pub(super) async fn handle_early_ended(&mut self, envelope: EnvelopeId) {
        if !self.give_up(envelope) {
            return;
        }
        if let Some(sending) = self.sending.get_mut(&envelope) {
            // It is served until the counterpart has let go: its lanes may have asked already.
            sending.machine.handle_input(Input::Withdraw);
            self.pump_sending(envelope).await;
        } else if self.is_live() {
            self.transmit(Withdraw { envelope }.into());
        }
    }

    /// The session is live: what was given up is withdrawn first.
    pub(super) fn withdraw_given_up(&mut self) {
        for envelope in self.early.given_up.clone() {
            self.transmit(Withdraw { envelope }.into());
        }
    }

    /// The counterpart holds nothing of an envelope that was given up.
    pub(super) async fn forget_given_up(&mut self, envelope: EnvelopeId) {
        if !self.early.given_up.remove(&envelope) {
            return;
        }
        if let Err(error) = self.context.mailroom.forget_early(self.id, envelope).await {
            tracing::error!(%envelope, %error, "a withdrawn offer could not be forgotten");
        }
        lock(&self.context.progress).remove(&envelope);
    }

    /// The agreement allows nothing any more. The counterpart drops by itself what came under an agreement that ended.
    pub(super) async fn stop_early(&mut self) {
        self.sending.retain(|_, sending| !sending.is_early());
        let reading: Vec<EnvelopeId> = self.early.reading.keys().copied().collect();
        for envelope in reading {
            self.give_up(envelope);
        }
        self.forget_ended().await;
        if self.is_live() {
            self.withdraw_given_up();
        }
    }

    /// There will be no session any more in which something could be withdrawn.
    async fn forget_ended(&mut self) {
        if self.agreement().is_some_and(|agreement| agreement.standing == Standing::Ended) {
            for envelope in self.early.given_up.clone() {
                self.forget_given_up(envelope).await;
            }
        }
    }
}
