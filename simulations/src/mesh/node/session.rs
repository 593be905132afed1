//! The session: which control lane is the one, who dials when, and what the session machine wants done.

use std::rc::Rc;
use std::time::Duration;

use pakt_protocol::machine::Output;
use pakt_protocol::message::offer::{Answer, Refusal};
use pakt_protocol::message::{Heartbeat, Message, Offer};
use pakt_protocol::owed;
use pakt_protocol::policy::OfferView;
use pakt_protocol::record::Signed;
use pakt_protocol::record::chain::CertifiedNode;
use pakt_protocol::record::roster::{Roster, RosterGroup};
use pakt_protocol::session::{Event, HEARTBEAT_EVERY, Input, Opening, Session};

use super::{Actor, Dialing, Live, Timer};
use crate::mesh::clock::Micros;
use crate::mesh::disk::{Key, Value};

/// Two lanes that come up within this time were dialled by both sides at once.
const TOGETHER: Duration = Duration::from_secs(5);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_OFTEN: Duration = Duration::from_secs(10);
const RETRY_OFTEN_FOR: Duration = Duration::from_secs(900);
const RETRY_MAX: Duration = Duration::from_secs(30);
const REDIAL: Duration = Duration::from_millis(200);
const BRIEF: Duration = Duration::from_secs(2);
const BRIEF_FREE: u32 = 3;
/// The largest message that agreements allow.
const MESSAGE_BYTES_MAX: u64 = 100_000_000_000;

impl Actor<'_> {
    // ------------------------------------------------------------------------------------------------------- dialling

    /// Dials the counterpart, if there is a reason and none is under way.
    pub(super) fn dial(&mut self) {
        if self.peer.live.is_some() || self.peer.dialing.is_under_way {
            return;
        }
        let now = self.now();
        if !self.peer.agreement.view().dials(now, || self.is_unsettled()) {
            return;
        }
        self.peer.dialing.is_under_way = true;
        let (link, side, incarnation) = (self.peer.link, self.peer.side, self.home.incarnation);
        self.shared.network.dial(link, side, incarnation, &mut self.shared.plans);
    }

    pub(crate) fn handle_dial_failed(&mut self) {
        self.peer.dialing.is_under_way = false;
        if self.peer.live.is_some() {
            return;
        }
        let now = self.now();
        let lost_since = *self.peer.dialing.lost_since.get_or_insert(now);
        let most = if now.since(lost_since) < RETRY_OFTEN_FOR { RETRY_OFTEN } else { RETRY_MAX };
        let wait = (RETRY_FIRST * 2u32.pow(self.peer.dialing.failures.min(5))).min(most);
        self.peer.dialing.failures += 1;
        self.plan_dial_about(wait);
    }

    fn plan_dial_about(&mut self, wait: Duration) {
        let percent = self.shared.chance.u32(75..=125);
        self.plan_dial(wait * percent / 100);
    }

    fn plan_dial(&mut self, wait: Duration) {
        let at = self.now() + wait;
        self.peer.timers.set(Timer::Dial, at);
    }

    fn dialled(&mut self) {
        self.peer.dialing = Dialing { brief: self.peer.dialing.brief, ..Dialing::default() };
        self.peer.timers.clear(Timer::Dial);
    }

    fn dial_again(&mut self, lasted: Duration) {
        let dialing = &mut self.peer.dialing;
        dialing.brief = if lasted < BRIEF { dialing.brief.saturating_add(1) } else { 0 };
        let doublings = dialing.brief.saturating_sub(BRIEF_FREE).min(5);
        self.plan_dial_about(REDIAL * 2u32.pow(doublings));
    }

    // ------------------------------------------------------------------------------------------------------- the lane

    /// Takes a control lane into use, unless the one that is up is to stay; `shown` are the counterpart's keys.
    pub(crate) fn take_control(&mut self, lane: u32, is_dialer: bool, shown: &Rc<CertifiedNode>) {
        if is_dialer {
            self.dialled();
        }
        if !self.peer.agreement.view().door_open(self.now()) || shown.serial < self.peer.certified.serial {
            self.drop_lane(lane);
            if self.peer.live.is_none() {
                self.dial_again(BRIEF);
            }
            return;
        }
        let is_renewed = shown.serial > self.peer.certified.serial;
        self.peer.certified = shown.clone();
        if let Some(live) = &self.peer.live {
            let is_lower = self.home.identity.entity < self.peer.entity;
            let together = self.now().since(live.since) < TOGETHER;
            let stays = together && live.dialer != is_dialer && live.dialer == is_lower;
            if stays && !is_renewed {
                return self.drop_lane(lane);
            }
            self.handle_lost("replaced by a newer connection");
        }
        self.dialled();
        let opening = self.opening(is_dialer);
        let now = self.now();
        let machine = Session::new(opening, now);
        self.peer.live = Some(Live { lane, dialer: is_dialer, machine, since: now });
        self.shared.trace.lane(self.home.index, self.peer.other, true);
        self.pump_session();
    }

    fn drop_lane(&mut self, lane: u32) {
        let after = self.shared.plans.now().max(self.peer.barrier);
        self.shared.network.close((self.peer.link, lane, self.peer.side), after, &mut self.shared.plans);
        self.shared.ill.insert(self.peer.link);
    }

    fn opening(&mut self, is_dialer: bool) -> Opening {
        let (view, now) = (self.peer.agreement.view(), self.now());
        let shown = if view.shows_statements(is_dialer) { self.shown_at_start() } else { Vec::new() };
        Opening {
            standing: view.at_session(now),
            contact: None,
            roster: Some(self.own_roster()),
            shown,
            in_force: self.peer.agreement.in_force(now),
            settling: view.is_settling(now) && (!is_dialer || self.is_unsettled()),
        }
    }

    pub(super) fn own_roster(&self) -> Signed<Roster> {
        let (own, home) = (self.home.own(), &self.home);
        let roster = Roster {
            issuer: home.identity.entity,
            reader: self.peer.entity,
            agreement: self.peer.id,
            counter: own.roster,
            groups: vec![RosterGroup { id: home.group, name: "Reception".to_owned() }],
            epoch: own.epoch,
            epoch_key: self.shared.suite.epoch_public(home.index, own.epoch),
        };
        self.shared.suite.sign(&roster, &home.identity)
    }

    /// A frame of the counterpart.
    pub(crate) fn handle_frame(&mut self, lane: u32, message: Message) {
        if self.peer.live.as_ref().is_none_or(|live| live.lane != lane) {
            return;
        }
        if !self.peer.pace.allows(&message, self.now()) {
            return self.close_session("more records than a counterpart needs");
        }
        let parties = (self.home.index, self.peer.other);
        let (own, disk_full) = (self.home.identity.entity, self.home.disk.full);
        self.shared.judge.heard(parties, &own, &message, disk_full);
        self.tell_session(Input::Message(message));
    }

    /// The other end of this lane has closed it.
    pub(crate) fn handle_lane_gone(&mut self, lane: u32) {
        self.shared.network.end(self.peer.link, lane, self.peer.side, self.shared.plans.now());
        if self.peer.live.as_ref().is_some_and(|live| live.lane == lane) {
            self.handle_lost("the connection was lost");
        }
    }

    pub(super) fn handle_lost(&mut self, _why: &'static str) {
        let Some(live) = self.peer.live.take() else { return };
        let lasted = self.now().since(live.since);
        self.drop_lane(live.lane);
        self.forget_session();
        self.dial_again(lasted);
    }

    /// Lets everything that was said leave, then ends the session.
    pub(super) fn close_session(&mut self, why: &'static str) {
        let Some(live) = self.peer.live.take() else { return };
        self.shared.trace.closed(self.home.index, self.peer.other, why);
        self.drop_lane(live.lane);
        self.forget_session();
        let wait = self.peer.agreement.view().dials_after_close(self.now(), || self.is_unsettled());
        self.plan_dial(wait);
    }

    fn forget_session(&mut self) {
        self.shared.trace.lane(self.home.index, self.peer.other, false);
        self.end_reconciling();
        self.peer.timers.clear(Timer::Session);
        self.end_content();
        self.suspend_sending();
        let now = self.now();
        self.peer.owed.handle_input(owed::Input::Lost, now);
        self.peer.questions.lost();
        self.forget_recalls();
    }

    /// This node's keys were replaced: every lane shows the old ones.
    pub(crate) fn handle_identity_changed(&mut self) {
        if self.peer.live.is_some() {
            self.handle_lost("this node's keys were replaced");
        } else {
            let now = self.now();
            self.peer.timers.set(Timer::Dial, now);
        }
    }

    pub(crate) fn handle_roster_changed(&mut self) {
        if self.peer.live.is_some() && !self.peer.agreement.row.ended {
            let roster = self.own_roster();
            self.tell_session(Input::RosterChanged(Box::new(roster)));
        }
    }

    // ---------------------------------------------------------------------------------------------------- the machine

    pub(super) fn is_live(&self) -> bool {
        self.peer.live.as_ref().is_some_and(|live| live.machine.is_live())
    }

    pub(super) fn tick_session(&mut self) {
        self.tell_session(Input::Tick);
    }

    pub(super) fn tell_session(&mut self, input: Input) {
        let now = self.now();
        if let Some(live) = &mut self.peer.live {
            live.machine.handle_input(input, now);
            self.pump_session();
        }
    }

    /// The lane may fall silent from now on: what its heart-beats would have done so far is made good, and from now on they
    /// are real.
    pub(crate) fn fall_ill(&mut self, heard_ago: Micros) {
        let now = self.now();
        if self.peer.timers.is_set(Timer::Session) {
            return;
        }
        if let Some(live) = &mut self.peer.live {
            let heard = (now - Duration::from_micros(heard_ago)).max(live.since);
            live.machine.handle_input(Input::Message(Message::Heartbeat(Heartbeat)), heard);
            self.peer.timers.set(Timer::Session, heard + HEARTBEAT_EVERY);
        }
    }

    /// Whether the session must look at the clock: its lane is ill, or it comes to its end.
    fn needs_ticks(&self) -> bool {
        let Some(live) = &self.peer.live else { return false };
        self.peer.agreement.view().is_settling(self.now()) || self.shared.network.is_ill(self.peer.link, live.lane)
    }

    fn pump_session(&mut self) {
        while let Some(output) = self.peer.live.as_mut().and_then(|live| live.machine.poll_output()) {
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Persist(never) => match never {},
                Output::Deadline(at) if self.needs_ticks() => self.peer.timers.set(Timer::Session, at),
                Output::Deadline(_) => self.peer.timers.clear(Timer::Session),
                Output::Event(event) => self.do_for_session(event),
            }
        }
    }

    fn do_for_session(&mut self, event: Event) {
        match event {
            Event::TakeContact(_) | Event::ContactConfirmed => {}
            Event::TakeRoster(roster) => {
                let taken = self.take_roster(&roster);
                if taken.is_ok() {
                    self.tell_owed();
                }
                self.tell_session(Input::RosterTaken(taken));
            }
            Event::Live => {
                self.tell_restored();
                self.send_recalls();
                self.fill_places();
                self.begin_reconciling();
            }
            Event::LookUp(offer) => self.look_up(offer),
            Event::Receive(offer) => self.receive(offer),
            Event::Incoming(envelope, message) => self.tell_receiving(envelope, message),
            Event::Outgoing(envelope, message) => self.tell_sending(envelope, message),
            Event::Take(message) => self.take_record(*message),
            Event::Settle => self.settle_up(),
            Event::OpenLanes(..) => {}
            Event::Close(why) => self.close_session(why),
        }
    }

    /// Keeps a roster of the counterpart, if it is its newest.
    pub(super) fn take_roster(&mut self, signed: &Signed<Roster>) -> Result<(), &'static str> {
        const NOT_VALID: &str = "this is not a valid roster";
        let roster = self.shared.suite.open(signed, &self.peer.certified).ok_or(NOT_VALID)?;
        if roster.issuer != self.peer.entity || roster.reader != self.home.identity.entity {
            return Err(NOT_VALID);
        }
        let key = Key::Roster(self.peer.slot);
        match self.row(&key) {
            Some(Value::Roster(known)) if known.counter > roster.counter => return Err("an older roster"),
            Some(Value::Roster(known)) if known.counter == roster.counter => return Ok(()),
            _ => {}
        }
        self.commit("roster", vec![(key, Some(Value::Roster(Rc::new(roster))))]).map_err(|_| "it could not be stored")
    }

    pub(super) fn peer_roster(&self) -> Option<Rc<Roster>> {
        match self.row(&Key::Roster(self.peer.slot)) {
            Some(Value::Roster(roster)) => Some(roster.clone()),
            _ => None,
        }
    }

    // --------------------------------------------------------------------------------------------------------- offers

    /// Answers what is known about an offer.
    fn look_up(&mut self, offer: Offer) {
        let (slot, envelope) = (self.peer.slot, offer.envelope);
        let settled = match self.row(&Key::Settled(slot, envelope)) {
            Some(Value::Settled(row)) => Some(row.first.1.to_vec()),
            _ => None,
        };
        if settled.is_some() {
            self.owe_again(envelope);
        }
        let is_resumed = self.row(&Key::Incoming(slot, envelope)).is_some();
        let others = self.peer.receiving.iter().filter(|(other, _)| **other != envelope);
        let view = OfferView {
            footing: self.peer.agreement.footing(self.now()),
            agreement_version: 1,
            message_bytes_max: MESSAGE_BYTES_MAX,
            hold_seconds: self.shared.hold_seconds(),
            group_shown: offer.group == self.home.group,
            free_bytes: if self.home.disk.full && !is_resumed { 0 } else { u64::MAX },
            incoming: self.peer.receiving.len(),
            incoming_objects: others.map(|(_, receiving)| receiving.machine.offer().objects).sum(),
            rate_exceeded: false,
        };
        self.tell_session(Input::Found(offer, view, settled));
    }

    pub(super) fn refuse(&mut self, envelope: pakt_protocol::ids::EnvelopeId, reason: Refusal) {
        self.transmit(Answer::Refuse { envelope, reason });
    }
}
