//! Introductions over this lane: what arrives is judged, kept or held for its recipient; what waits leaves a few at a time.
//!
//! **Invariant:** the counterpart is told that something was taken only when it is durable.
//! **Invariant:** nothing that arrives here is dialled.

use std::collections::HashMap;
use std::time::Duration;

use pakt_protocol::introduction::{Allowance, Course, LATER_MAX, UNDER_WAY_MAX, View, course, later};
use pakt_protocol::message::introduction::{Introduction, IntroductionFate, IntroductionId, IntroductionTaken};
use pakt_protocol::time::Time;

use super::{PeerActor, Timer, now};
use crate::ambient;
use crate::exchange::errands::Errand;
use crate::introductions::Arrival;
use crate::store::StoreError;

/// After so long is looked again for what waits.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is under way on this lane, what the counterpart has put off, and how much it may hand over.
#[derive(Default)]
pub(super) struct Passing {
    under_way: HashMap<IntroductionId, u64>,
    put_off: HashMap<u64, PutOff>,
    allowance: Allowance,
}

/// A message that is to come later.
#[derive(Clone, Copy)]
struct PutOff {
    times: u32,
    until: Time,
}

impl Passing {
    /// Notes that a message is to come later, each time after a longer while.
    fn put_off(&mut self, number: u64, now: Time) {
        let times = self.put_off.get(&number).map_or(1, |before| before.times.saturating_add(1));
        self.put_off.insert(number, PutOff { times, until: now + later(times) });
    }

    /// Whether a message is not put off.
    fn may_leave(&self, number: u64, now: Time) -> bool {
        self.put_off.get(&number).is_none_or(|put_off| put_off.until <= now)
    }
}

impl PeerActor {
    pub(super) async fn take_introduction(&mut self, message: Introduction) {
        let Some(via) = self.agreement().filter(|agreement| agreement.in_force(now())) else { return };
        let (id, own) = (message.id, self.context.entity.id());
        let other = if message.to == own { message.from } else { message.to };
        let recipient = self.context.book.by_entity(&message.to).filter(|agreement| agreement.in_force(now()));
        let view = View {
            own,
            counterpart: self.entity,
            passes_on: self.context.introductions.passes_on(),
            too_many: !self.passing.allowance.take(&other, now()),
            knows_recipient: recipient.is_some(),
        };
        let introductions = &self.context.introductions;
        let fate = match (course(&message, &view), recipient) {
            (Course::Answer(fate), _) => Ok(fate),
            (Course::Keep, _) => {
                let arrival = introductions.take(&via, message, ambient::now()).await;
                arrival.map(|arrival| self.follow_up(arrival))
            }
            (Course::PassOn, Some(recipient)) => {
                let held = introductions.pass_on(recipient.id, self.id, message, ambient::now()).await;
                let _ = self.context.errands.try_send(Errand::Introductions(recipient.id));
                held
            }
            (Course::PassOn, None) => Ok(IntroductionFate::Taken),
        };
        if !view.too_many && matches!(fate, Ok(IntroductionFate::Later)) {
            self.passing.allowance.give_back(&other);
        }
        match fate {
            Ok(fate) => self.transmit(IntroductionTaken { id, fate }.into()),
            Err(error) => self.not_stored(&error),
        }
        self.send_introductions();
    }

    /// Sees to what an arrival has led to, and gives what the counterpart is told.
    fn follow_up(&self, arrival: Arrival) -> IntroductionFate {
        if let Arrival::Completed(id) = arrival
            && self.context.errands.try_send(Errand::AgreementChanged(id)).is_err()
        {
            tracing::warn!(agreement = %id, "it was completed, but is dialled at the next start only");
        }
        match arrival {
            Arrival::Later => IntroductionFate::Later,
            Arrival::Dropped => IntroductionFate::Taken,
            Arrival::Kept | Arrival::Answered | Arrival::Completed(_) => {
                self.context.mailroom.changed();
                IntroductionFate::Taken
            }
        }
    }

    pub(super) async fn take_introduction_taken(&mut self, taken: IntroductionTaken) {
        let Some(number) = self.passing.under_way.remove(&taken.id) else { return };
        if taken.fate == IntroductionFate::Later {
            // Others may go meanwhile.
            self.passing.put_off(number, now());
            return self.send_introductions();
        }
        self.passing.put_off.remove(&number);
        if let Err(error) = self.context.introductions.left(self.id, number, taken.fate).await {
            self.not_stored(&error);
        }
        self.context.mailroom.changed();
        self.send_introductions();
    }

    /// Tries again all that was not answered.
    pub(super) fn send_introductions_again(&mut self) {
        self.passing.under_way.clear();
        // What was given up meanwhile is not remembered for ever.
        let long_ago = |put_off: &PutOff| now().since(put_off.until) >= LATER_MAX;
        self.passing.put_off.retain(|_, put_off| !long_ago(put_off));
        self.send_introductions();
    }

    /// Sends what waits, a few at a time.
    pub(super) fn send_introductions(&mut self) {
        if !self.is_live() {
            return;
        }
        let (passing, at) = (&self.passing, now());
        let skip = |number| !passing.may_leave(number, at);
        let waiting = match self.context.introductions.leaving(&self.id, UNDER_WAY_MAX, skip) {
            Ok(waiting) => waiting,
            Err(error) => return self.not_stored(&error),
        };
        for (number, message) in waiting {
            if self.passing.under_way.insert(message.id, number).is_none() {
                self.transmit(message.into());
            }
        }
        self.timers.set(Timer::Introductions, now() + LOOK_AGAIN);
    }

    fn not_stored(&self, error: &StoreError) {
        tracing::error!(agreement = %self.id, %error, "an introduction message could not be stored or read");
    }
}
