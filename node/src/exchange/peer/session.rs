//! The session: which control lane is the one, and what the session machine wants done.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pakt_protocol::agreement::CLOSED_AGAIN;
use pakt_protocol::hello::Hello;
use pakt_protocol::ids::{AgreementId, EnvelopeId};
use pakt_protocol::machine::Output;
use pakt_protocol::message::offer::{Answer, Refusal};
use pakt_protocol::message::{Message, Offer};
use pakt_protocol::policy::{self, Footing, OfferView};
use pakt_protocol::record::Signed;
use pakt_protocol::record::roster::Roster;
use pakt_protocol::session::{Event, Input, Opening, Session};
use pakt_protocol::time::Time;

use super::lanes::BRIEF;
use super::{PeerActor, Timer, now};
use crate::ambient;
use crate::book::{Agreement, BookError, Standing};
use crate::exchange::control::ControlLane;
use crate::metrics::counted;
use crate::net::{Lane, LaneBytes};

/// The control lane that is up and its machine.
pub(super) struct Live {
    pub(super) number: u64,
    pub(super) lane: ControlLane,
    pub(super) machine: Session,
    pub(super) dialer: bool,
    pub(super) remote: SocketAddr,
    pub(super) via: Option<AgreementId>,
    pub(super) bytes: Arc<LaneBytes>,
    since: Time,
}

/// Two lanes that come up within this time were dialled by both sides at once.
const TOGETHER: Duration = Duration::from_secs(5);

impl PeerActor {
    /// Takes a control lane into use, unless the one that is up is to stay.
    pub(super) async fn take_control(&mut self, lane: Lane) {
        if lane.dialer {
            self.dialled();
        }
        let known = self.agreement().map(|agreement| agreement.node.transport);
        // What is known may have changed since the lane was greeted.
        if !self.note_contact(&lane.peer.hello).await || !self.shows_current_keys(&lane) {
            tracing::info!(agreement = %self.id, peer = %self.entity, "a connection shows keys that were replaced");
            if self.live.is_none() {
                self.dial_again(BRIEF);
            }
            return;
        }
        let renewed = known != self.agreement().map(|agreement| agreement.node.transport);
        if let Some(live) = &self.live {
            // Dialled by both at once, the lane of the lower entity stays; otherwise the counterpart, or this side,
            // knows better than the old lane that it is gone.
            let lower = self.context.entity.id() < self.entity;
            let together = now().since(live.since) < TOGETHER;
            // A direct lane is better than a forwarded one, whoever dialled it.
            let stays = match (live.via, lane.via) {
                (None, Some(_)) => true,
                (Some(_), None) => false,
                _ => together && live.dialer != lane.dialer && live.dialer == lower,
            };
            if stays && !renewed {
                return;
            }
            let number = live.number;
            self.handle_lost(number, "replaced by a newer connection").await;
        }
        let Some(agreement) = self.agreement() else { return };
        self.dialled();
        self.sessions += 1;
        let opening = self.opening(&agreement, lane.agreement_version, lane.dialer).await;
        let machine = Session::new(opening, now());
        let control = ControlLane::start(lane.io, self.sessions, self.own_inbox.clone());
        tracing::info!(agreement = %self.id, peer = %self.entity, dialer = lane.dialer, "online");
        self.live = Some(Live {
            number: self.sessions,
            lane: control,
            machine,
            dialer: lane.dialer,
            remote: lane.remote,
            via: lane.via,
            bytes: lane.bytes,
            since: now(),
        });
        self.show_online();
        self.show_lanes();
        self.plan_direct_dial();
        self.pump_session().await;
    }

    /// Remembers the newest certificates and how far the clocks are apart; answers whether the certificates are right still.
    async fn note_contact(&self, hello: &[u8]) -> bool {
        let Ok(hello) = Hello::from_bytes(hello) else { return false };
        let ours = i64::try_from(ambient::now().seconds()).unwrap_or(i64::MAX);
        let theirs = i64::try_from(hello.now.seconds()).unwrap_or(i64::MAX);
        let difference = theirs.saturating_sub(ours);
        if difference.unsigned_abs() > 3600 {
            tracing::warn!(agreement = %self.id, difference_s = difference, "the counterpart's clock is more than an hour off ours");
        }
        match self.context.book.note_contact(&self.id, &hello.chain, difference).await {
            Ok(()) => true,
            Err(BookError::Hello(_)) => false,
            Err(error) => {
                tracing::error!(agreement = %self.id, %error, "the contact could not be recorded");
                true
            }
        }
    }

    async fn opening(&self, agreement: &Agreement, version: u32, dialer: bool) -> Opening {
        let view = agreement.view();
        Opening {
            standing: view.at_session(now()),
            contact: agreement.contact.clone(),
            roster: self.own_roster().await,
            shown: self.shown_at_start(agreement, version, dialer),
            in_force: agreement.in_force(now()),
            // Whoever dials after an end has something to settle.
            settling: view.is_settling(now()) && (!dialer || self.is_unsettled()),
        }
    }

    async fn own_roster(&self) -> Option<Signed<Roster>> {
        match self.context.book.own_roster(&self.id).await {
            Ok(roster) => Some(roster),
            Err(error) => {
                tracing::error!(agreement = %self.id, %error, "the own roster could not be made");
                None
            }
        }
    }

    pub(super) async fn handle_frame(&mut self, session: u64, message: Message) {
        if self.live.as_ref().is_none_or(|live| live.number != session) {
            return;
        }
        if !self.pace.allows(&message, now()) {
            return self.close_session("more records than a counterpart needs").await;
        }
        self.tell_session(Input::Message(message)).await;
        if self.live.as_ref().is_some_and(|live| live.lane.is_clogged()) {
            self.close_session("it does not read what it is told").await;
        }
    }

    /// The control lane is gone: transfers end, deliveries wait for the next one.
    pub(super) async fn handle_lost(&mut self, session: u64, why: &str) {
        if self.live.as_ref().is_none_or(|live| live.number != session) {
            return;
        }
        let lasted = self.live.take().map_or(Duration::ZERO, |live| now().since(live.since));
        self.forget_questions();
        self.end_reconciling().await;
        self.timers.clear(Timer::Session);
        self.end_content();
        self.suspend_sending().await;
        self.end_terms();
        self.forget_told();
        self.questions.lost();
        self.forget_recalls();
        tracing::info!(agreement = %self.id, peer = %self.entity, why, "offline");
        self.show_offline(why.to_owned());
        self.show_lanes();
        self.dial_again(lasted);
    }

    pub(super) async fn tick_session(&mut self) {
        self.tell_session(Input::Tick).await;
    }

    pub(super) async fn tell_session(&mut self, input: Input) {
        if let Some(live) = &mut self.live {
            live.machine.handle_input(input, now());
            // Boxed: a message may lead to an answer, which may lead to the next message.
            Box::pin(self.pump_session()).await;
        }
    }

    async fn pump_session(&mut self) {
        while let Some(output) = self.live.as_mut().and_then(|live| live.machine.poll_output()) {
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Persist(never) => match never {},
                Output::Deadline(at) => self.timers.set(Timer::Session, at),
                Output::Event(event) => self.do_for_session(event).await,
            }
        }
    }

    /// Sends a message over the control lane, if it is up.
    pub(super) fn transmit(&mut self, message: Message) {
        if let Message::Answer(Answer::Refuse { reason, .. }) = &message {
            counted().refused(*reason);
        }
        if let Some(live) = &mut self.live {
            live.lane.send(message);
        }
    }

    async fn do_for_session(&mut self, event: Event) {
        match event {
            Event::TakeContact(file) => self.take_contact(file).await,
            Event::ContactConfirmed => {
                let confirmed = self.context.book.contact_confirmed(&self.id).await;
                self.report(confirmed.err(), "the confirmation could not be recorded");
            }
            Event::TakeRoster(roster) => {
                let taken = self.context.book.take_roster(&self.id, &roster).await;
                // Receipts are told while the agreement is suspended, too.
                if taken.is_ok() {
                    self.tell_owed().await;
                }
                self.tell_session(Input::RosterTaken(taken)).await;
            }
            Event::Live => {
                self.tell_restored().await;
                self.attest().await;
                self.send_recalls().await;
                self.resume_sending().await;
                self.tell_addresses().await;
                self.begin_seeking();
                self.tell_grant().await;
                self.hand_in_listing().await;
                self.send_introductions_again();
                self.begin_reconciling().await;
            }
            Event::LookUp(offer) => self.look_up(offer).await,
            Event::Receive(offer) => self.receive(offer).await,
            Event::Incoming(envelope, message) => self.tell_receiving(envelope, message).await,
            Event::Outgoing(envelope, message) => self.tell_sending(envelope, message).await,
            Event::Take(message) => self.take_record(*message).await,
            Event::Settle => self.settle_up().await,
            Event::OpenLanes(kind, count) => self.open_lanes(kind, count),
            Event::Close(why) => self.close_session(why).await,
        }
    }

    pub(super) fn report(&self, error: Option<BookError>, what: &'static str) {
        if let Some(error) = error {
            tracing::error!(agreement = %self.id, %error, what);
        }
    }

    async fn take_contact(&mut self, file: Vec<u8>) {
        let taken = self.context.book.take_contact(&self.id, &file).await.map(|()| self.id);
        let roster = if taken.is_ok() { self.own_roster().await.map(Box::new) } else { None };
        self.tell_session(Input::ContactTaken(taken, roster)).await;
        self.follow_agreement().await;
    }

    /// Lets everything that was said leave, then ends the session.
    pub(super) async fn close_session(&mut self, why: &'static str) {
        let Some(live) = self.live.take() else { return };
        let number = live.number;
        self.tasks.spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(5), live.lane.finish()).await;
        });
        tracing::debug!(agreement = %self.id, session = number, why, "the session was closed");
        self.forget_questions();
        self.end_reconciling().await;
        self.timers.clear(Timer::Session);
        self.end_content();
        self.suspend_sending().await;
        self.end_terms();
        self.forget_told();
        self.questions.lost();
        self.forget_recalls();
        self.show_offline(why.to_owned());
        self.show_lanes();
        let wait = self.agreement().map(|it| it.view().dials_after_close(now(), || self.is_unsettled()));
        self.plan_dial(wait.unwrap_or(CLOSED_AGAIN));
    }

    pub(super) async fn handle_roster_changed(&mut self) {
        let active = self.agreement().is_some_and(|agreement| agreement.standing == Standing::Active);
        if self.live.is_none() || !active {
            return;
        }
        if let Some(roster) = self.own_roster().await {
            self.tell_session(Input::RosterChanged(Box::new(roster))).await;
        }
        // Daily at least, with the new epoch: what runs out is signed anew.
        self.hand_in_listing().await;
    }

    /// Answers what is known about an offer.
    async fn look_up(&mut self, offer: Offer) {
        self.terms.forget(now());
        let mut found = self.find(&offer);
        if matches!(found, Ok((_, None))) && self.was_purged(&offer.envelope) {
            return self.transmit(Answer::Refuse { envelope: offer.envelope, reason: Refusal::Purged }.into());
        }
        if matches!(found, Ok((_, None))) && self.is_id_taken(&offer.envelope) {
            tracing::warn!(envelope = %offer.envelope, peer = %self.entity, "it offers what another entity's message is named by");
            return self.transmit(Answer::Refuse { envelope: offer.envelope, reason: Refusal::Conflict }.into());
        }
        if let Ok((view, None)) = &found
            && lacks_only_room(view, &offer)
        {
            let promised = self.context.promised.load(std::sync::atomic::Ordering::Relaxed);
            let made = self.context.mailroom.blobs.make_room(promised.saturating_add(offer.sealed_bytes)).await;
            found = made.map_err(Into::into).and_then(|()| self.find(&offer));
        }
        match found {
            Ok((view, receipt)) => {
                if receipt.is_some() {
                    self.owe_again(offer.envelope).await;
                }
                if offer.agreement_version < view.agreement_version {
                    self.show_current();
                }
                self.tell_session(Input::Found(offer, view, receipt)).await;
            }
            Err(error) => {
                tracing::error!(agreement = %self.id, %error, "an offer could not be judged");
                self.close_session("a fault of this node").await;
            }
        }
    }

    /// Whether the ledger of a restored backup names it: it is not taken in again.
    fn was_purged(&self, envelope: &EnvelopeId) -> bool {
        self.context.mailroom.is_forgotten(&(self.entity, *envelope)).unwrap_or_else(|error| {
            tracing::error!(%envelope, %error, "the ledger's names could not be read");
            false
        })
    }

    /// Whether an id that this counterpart picked names something else here; a commit looks again.
    fn is_id_taken(&self, envelope: &EnvelopeId) -> bool {
        self.context.mailroom.is_id_taken(&(self.entity, *envelope)).unwrap_or_else(|error| {
            tracing::error!(%envelope, %error, "the names of what is here could not be read");
            false
        })
    }

    fn find(&self, offer: &Offer) -> Result<(OfferView, Option<Vec<u8>>), crate::mailroom::MailError> {
        let mailroom = &self.context.mailroom;
        let settled = mailroom.settled(&self.entity, &offer.envelope)?;
        let earlier = mailroom.incoming(&self.entity, &offer.envelope)?.map(|row| row.offer);
        let resumed = earlier.is_some_and(|row| offer.sealed_bytes <= row.sealed_bytes && offer.objects <= row.objects);
        let agreement = self.agreement();
        let promised = self.context.promised.load(std::sync::atomic::Ordering::Relaxed);
        let room = mailroom.blobs.room()?.saturating_sub(promised);
        let view = OfferView {
            footing: agreement.as_ref().map_or(Footing::None, |agreement| agreement.footing(now())),
            agreement_version: agreement.as_ref().map_or(0, |agreement| agreement.terms.version),
            message_bytes_max: agreement.as_ref().map_or(0, |agreement| agreement.terms.message_bytes_max),
            hold_seconds: agreement.as_ref().map_or(0, |agreement| agreement.terms.hold_seconds),
            group_shown: self.context.book.shown_to(&offer.group, &self.entity),
            // What was accepted before has its space already, at least in part.
            free_bytes: if resumed { u64::MAX } else { room },
            incoming: self.receiving.len(),
            incoming_objects: self.incoming_objects(&offer.envelope),
            rate_exceeded: !self.terms.may_come(&offer.envelope, self.rate_limit()),
        };
        Ok((view, settled.map(|settled| settled.receipt)))
    }

    /// Answers a withdrawal of what is not under way: with the receipt if it was committed, else by dropping it. What
    /// cannot be looked up is not answered; the sender asks again.
    pub(super) async fn look_up_withdrawn(&mut self, envelope: EnvelopeId) {
        match self.context.mailroom.settled(&self.entity, &envelope) {
            Ok(settled) => {
                let receipt = settled.map(|settled| settled.receipt);
                if receipt.is_none() {
                    self.drop_incoming(envelope).await;
                }
                self.tell_session(Input::Settled(envelope, receipt)).await;
            }
            Err(error) => tracing::error!(%error, "a withdrawn envelope could not be looked up"),
        }
    }
}

/// Whether this is an offer that what is only kept for later should make room for.
fn lacks_only_room(view: &OfferView, offer: &Offer) -> bool {
    let with_room = OfferView { free_bytes: u64::MAX, ..*view };
    offer.sealed_bytes > view.free_bytes && policy::decide(offer, &with_room).is_ok()
}
