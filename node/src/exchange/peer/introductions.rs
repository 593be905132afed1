//! Introductions over this lane: what arrives is judged, kept or held for its recipient; what waits leaves a few at a time.
//!
//! **Invariant:** the counterpart is told that something was taken only when it is durable.
//! **Invariant:** nothing that arrives here is dialled.

use std::collections::HashMap;
use std::time::Duration;

use pakt_protocol::introduction::{Course, PER_DAY, UNDER_WAY_MAX, View, course};
use pakt_protocol::message::introduction::{Introduction, IntroductionFate, IntroductionId, IntroductionTaken};
use pakt_protocol::quota::Quota;

use super::{PeerActor, Timer, now};
use crate::ambient;
use crate::exchange::errands::Errand;
use crate::introductions::Arrival;
use crate::store::StoreError;

/// After so long is looked again for what waits, and tried again what was put off.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is under way on this lane, and how much the counterpart may hand over.
pub(super) struct Passing {
    under_way: HashMap<IntroductionId, u64>,
    allowance: Quota,
}

impl Default for Passing {
    fn default() -> Passing {
        Passing { under_way: HashMap::new(), allowance: Quota::new(PER_DAY, Duration::from_secs(86_400)) }
    }
}

impl PeerActor {
    pub(super) async fn take_introduction(&mut self, message: Introduction) {
        let Some(via) = self.agreement().filter(|agreement| agreement.in_force(now())) else { return };
        let id = message.id;
        let recipient = self.context.book.by_entity(&message.to).filter(|agreement| agreement.in_force(now()));
        let view = View {
            own: self.context.entity.id(),
            counterpart: self.entity,
            passes_on: self.context.introductions.passes_on(),
            too_many: !self.passing.allowance.take(now()),
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
            // It keeps its place; the timer tries again.
            self.passing.under_way.insert(taken.id, number);
            return;
        }
        if let Err(error) = self.context.introductions.left(self.id, number, taken.fate).await {
            self.not_stored(&error);
        }
        self.context.mailroom.changed();
        self.send_introductions();
    }

    /// Tries again all that was not taken.
    pub(super) fn send_introductions_again(&mut self) {
        self.passing.under_way.clear();
        self.send_introductions();
    }

    /// Sends what waits, a few at a time.
    pub(super) fn send_introductions(&mut self) {
        if !self.is_live() {
            return;
        }
        let waiting = match self.context.introductions.leaving(&self.id, UNDER_WAY_MAX) {
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
