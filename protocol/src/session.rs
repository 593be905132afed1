//! One session: what two nodes say on a control lane from the moment it is up until it is lost.
//!
//! ```text
//! Awaiting --contact durable--> Active --own or other's end--> Ending
//!                                 | rosters exchanged, traffic allowed
//!                                 v  ^
//!                               live: offers both ways --suspended, expired--> not live
//! ```
//! The session routes what is about one envelope to that envelope's transfer machine, what is about the agreement itself
//! to its owner, and decides what may be said at all.
//!
//! **Invariants:** while a proposal awaits its countersignature only a [`Contact`] is taken; after an end only
//! statements, and receipts of what had left before with the questions for them; after the agreed time only these and
//! later terms; envelopes are offered only after the counterpart's roster of this session is durable, and only while the
//! owner says that the agreement is in force.

use std::time::Duration;

use crate::defect::{self, Defect};
use crate::ids::{AgreementId, EnvelopeId};
use crate::machine::{Output, Outputs};
use crate::message::contact::CONTACT_BYTES_MAX;
use crate::message::lane::LaneKind;
use crate::message::{Answer, Contact, Contacted, Heartbeat, Message, Offer, ReceiptMessage, RosterUpdate, Withdrawn};
use crate::policy::{self, OfferView};
use crate::record::Signed;
use crate::record::roster::Roster;
use crate::time::Time;

/// A lane says something at least this often.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// After an end a session lasts so long at most.
pub const SETTLING_MAX: Duration = Duration::from_secs(60);
/// A lane that says nothing for this long is lost.
pub const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Bulk lanes that a counterpart may ask for.
pub const LANES_MAX: u8 = 8;

/// How far the agreement is, on this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// This side proposed; the countersigned agreement has not come yet.
    Awaiting,
    /// In force, or at least signed by both.
    Active,
    /// Its time is over.
    Expired,
    /// One side has ended it.
    Ending,
}

/// What this side has to say when the lane comes up.
#[derive(Debug, Clone)]
pub struct Opening {
    /// How far the agreement is.
    pub standing: Standing,
    /// The countersigned agreement, until the proposer has confirmed it.
    pub contact: Option<Vec<u8>>,
    /// The newest roster for this counterpart.
    pub roster: Option<Signed<Roster>>,
    /// What this side shows about the agreement itself: statements, later versions.
    pub shown: Vec<Message>,
    /// Whether the agreement is in force, so that envelopes may be offered.
    pub in_force: bool,
    /// Whether either side may still have receipts to tell or to ask for, after an end or the agreed time.
    pub settling: bool,
}

/// What the owner tells this machine.
#[derive(Debug, Clone)]
pub enum Input {
    /// A frame arrived.
    Message(Message),
    /// The contact's file was verified and is durable; or it is not the one that is awaited.
    ContactTaken(Result<AgreementId, &'static str>, Option<Box<Signed<Roster>>>),
    /// The counterpart's roster is durable, or why it is not acceptable.
    RosterTaken(Result<(), &'static str>),
    /// This side's groups or epoch changed.
    RosterChanged(Box<Signed<Roster>>),
    /// One side has ended the agreement, durably.
    Ended,
    /// The agreement came into force, or is not any more: suspended, resumed, expired, amended.
    InForce(bool),
    /// What is known about an offer, as asked for by [`Event::LookUp`].
    Found(Offer, OfferView, Option<Vec<u8>>),
    /// What is known about a withdrawn envelope that is not under way: its receipt, if it was committed.
    Settled(EnvelopeId, Option<Vec<u8>>),
    /// Time has passed.
    Tick,
}

/// What the owner must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Verify this agreement file against the own proposal and make it durable.
    TakeContact(Vec<u8>),
    /// The proposer holds the countersigned agreement now.
    ContactConfirmed,
    /// Verify this roster and make it durable.
    TakeRoster(Box<Signed<Roster>>),
    /// Tell the receipts that are owed, also while the agreement is suspended.
    TellOwed,
    /// Both rosters are known: envelopes may be offered.
    Live,
    /// Say what is known about this offer.
    LookUp(Offer),
    /// A duplicate of this envelope was offered: its sender may lack what was stated after the first receipt, too.
    OweAgain(EnvelopeId),
    /// The counterpart goes by an older version of the terms: show it those that count.
    ShowCurrent,
    /// Start receiving.
    Receive(Offer),
    /// For the incoming transfer of this envelope; a withdrawal of one that is not under way is answered by
    /// [`Input::Settled`].
    Incoming(EnvelopeId, Message),
    /// For the outgoing transfer of this envelope.
    Outgoing(EnvelopeId, Message),
    /// Verify this record and make it durable, or answer this question about one.
    Take(Box<Message>),
    /// The agreement has ended or is over: tell the receipts that are owed, and ask for those that are lacking.
    Settle,
    /// Have this many lanes of this kind up.
    OpenLanes(LaneKind, u8),
    /// End the session: nothing more to say, or the counterpart broke a rule.
    Close(&'static str),
}

/// The machine of one session. It has nothing to make durable itself; its owner does that for its events.
#[derive(Debug)]
pub struct Session {
    standing: Standing,
    roster_taken: bool,
    live: bool,
    last_heard: Time,
    last_said: Time,
    in_force: bool,
    ending_since: Option<Time>,
    outputs: Outputs<std::convert::Infallible, Event>,
}

impl Session {
    /// Starts on a lane that has just come up.
    pub fn new(opening: Opening, now: Time) -> Session {
        let mut session = Session {
            standing: opening.standing,
            roster_taken: false,
            live: false,
            last_heard: now,
            last_said: now,
            in_force: opening.in_force,
            ending_since: (opening.standing == Standing::Ending).then_some(now),
            outputs: Outputs::default(),
        };
        if let Some(file) = opening.contact {
            session.outputs.transmit(Contact { file });
        }
        match (opening.standing, opening.roster) {
            (Standing::Ending | Standing::Expired, _) if opening.settling => session.outputs.event(Event::Settle),
            (Standing::Ending, _) if opening.shown.is_empty() => {
                session.outputs.event(Event::Close("the agreement has ended"));
            }
            (Standing::Active, Some(roster)) => session.outputs.transmit(RosterUpdate { roster }),
            (Standing::Active | Standing::Awaiting | Standing::Expired | Standing::Ending, _) => {}
        }
        for message in opening.shown {
            session.outputs.transmit(message);
        }
        session.outputs.deadline(now + HEARTBEAT_EVERY);
        session
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now: Time) {
        match input {
            Input::Message(message) => {
                self.last_heard = now;
                self.handle_message(message);
            }
            Input::ContactTaken(Ok(agreement), roster) => {
                self.standing = Standing::Active;
                self.outputs.transmit(Contacted { agreement });
                if let Some(roster) = roster {
                    self.outputs.transmit(RosterUpdate { roster: *roster });
                }
            }
            Input::RosterTaken(Ok(())) => {
                self.roster_taken = true;
                self.outputs.event(Event::TellOwed);
                self.go_live();
            }
            Input::ContactTaken(Err(why), _) | Input::RosterTaken(Err(why)) => {
                self.outputs.event(Event::Close(why));
            }
            Input::RosterChanged(roster) if self.standing == Standing::Active => {
                self.outputs.transmit(RosterUpdate { roster: *roster });
            }
            Input::RosterChanged(_) => {}
            Input::Ended => {
                if self.standing != Standing::Ending {
                    self.outputs.event(Event::Settle);
                }
                self.standing = Standing::Ending;
                self.live = false;
                self.ending_since.get_or_insert(now);
            }
            Input::InForce(in_force) => {
                self.in_force = in_force;
                self.live &= in_force;
                self.go_live();
            }
            Input::Found(offer, view, receipt) => self.handle_found(offer, &view, receipt),
            Input::Settled(envelope, Some(receipt)) => self.outputs.transmit(ReceiptMessage { envelope, receipt }),
            Input::Settled(envelope, None) => self.outputs.transmit(Withdrawn { envelope }),
            Input::Tick => self.handle_tick(now),
        }
    }

    fn handle_message(&mut self, message: Message) {
        match (self.standing, message) {
            (_, Message::Heartbeat(_)) => {}
            (Standing::Awaiting | Standing::Active, Message::Contact(contact)) => self.handle_contact(contact),
            (Standing::Awaiting, _) => self.outputs.event(Event::Close("the proposal is not countersigned yet")),
            (_, message @ (Message::Statement(_) | Message::WantStatements(_))) => {
                self.outputs.event(Event::Take(Box::new(message)));
            }
            (Standing::Expired, message @ (Message::Amend(_) | Message::Amended(_))) => {
                self.outputs.event(Event::Take(Box::new(message)));
            }
            (Standing::Expired | Standing::Ending, Message::Receipt(_)) if defect::is_on(Defect::DeafAfterEnd) => {}
            (Standing::Expired | Standing::Ending, Message::Receipt(receipt)) => {
                self.outputs.event(Event::Outgoing(receipt.envelope, receipt.into()));
            }
            (Standing::Expired | Standing::Ending, message @ (Message::ReceiptHeld(_) | Message::AskEnded(_))) => {
                self.outputs.event(Event::Take(Box::new(message)));
            }
            // For the other side the agreement is in force perhaps: it says all that it says then.
            (Standing::Expired | Standing::Ending, _) => {}
            (Standing::Active, message) => self.handle_active(message),
        }
    }

    fn handle_active(&mut self, message: Message) {
        let envelope = message.envelope();
        match (message, envelope) {
            (Message::Contacted(_), _) => self.outputs.event(Event::ContactConfirmed),
            (Message::Roster(update), _) => self.outputs.event(Event::TakeRoster(Box::new(update.roster))),
            (Message::Offer(offer), _) => self.outputs.event(Event::LookUp(offer)),
            (message @ (Message::Announce(_) | Message::Envelope(_)), Some(envelope)) => {
                self.outputs.event(Event::Incoming(envelope, message));
            }
            (message @ Message::Withdraw(_), Some(envelope)) => {
                self.outputs.event(Event::Incoming(envelope, message));
            }
            (message, Some(envelope)) => self.outputs.event(Event::Outgoing(envelope, message)),
            (Message::WantLanes(want), _) => {
                self.outputs.event(Event::OpenLanes(want.kind, want.count.min(LANES_MAX)));
            }
            (message, None) if message.is_for_owner() => self.outputs.event(Event::Take(Box::new(message))),
            (_, None) => self.outputs.event(Event::Close("a message that belongs to another place")),
        }
    }

    fn handle_contact(&mut self, contact: Contact) {
        if contact.file.len() > CONTACT_BYTES_MAX {
            self.outputs.event(Event::Close("a contact of more than 64 KiB"));
        } else {
            self.outputs.event(Event::TakeContact(contact.file));
        }
    }

    fn handle_found(&mut self, offer: Offer, view: &OfferView, receipt: Option<Vec<u8>>) {
        let (envelope, decided) = (offer.envelope, policy::decide(&offer, view));
        let receipt = receipt.filter(|_| !defect::is_on(Defect::SkipDuplicateCheck));
        if receipt.is_some() {
            self.outputs.event(Event::OweAgain(envelope));
        }
        let is_judged = receipt.is_some() || !(view.is_purged || view.is_id_taken);
        if is_judged && offer.agreement_version < view.agreement_version {
            self.outputs.event(Event::ShowCurrent);
        }
        match (receipt, decided) {
            (Some(receipt), _) => self.outputs.transmit(ReceiptMessage { envelope, receipt }),
            (None, Ok(())) => self.outputs.event(Event::Receive(offer)),
            (None, Err(reason)) => self.outputs.transmit(Answer::Refuse { envelope, reason }),
        }
    }

    fn handle_tick(&mut self, now: Time) {
        if now.since(self.last_heard) >= SILENCE_MAX {
            self.outputs.event(Event::Close("nothing was heard for 45 s"));
            return;
        }
        if self.ending_since.is_some_and(|since| now.since(since) >= SETTLING_MAX) {
            self.outputs.event(Event::Close("the agreement has ended"));
            return;
        }
        if now.since(self.last_said) >= HEARTBEAT_EVERY {
            self.last_said = now;
            self.outputs.transmit(Heartbeat);
        }
        self.outputs.deadline(self.last_said + HEARTBEAT_EVERY);
    }

    fn go_live(&mut self) {
        if !self.live && self.roster_taken && self.in_force && self.standing == Standing::Active {
            self.live = true;
            self.outputs.event(Event::Live);
        }
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output<std::convert::Infallible, Event>> {
        self.outputs.poll()
    }

    /// Whether it began after the agreed time.
    pub fn is_expired(&self) -> bool {
        self.standing == Standing::Expired
    }

    /// Whether envelopes may be offered.
    pub fn is_live(&self) -> bool {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::offer::Refusal;
    use crate::message::{Amended, AskEnded, ReceiptHeld, WantStatements};
    use crate::policy::Footing;
    use crate::record::envelope::Priority;
    use crate::record::receipt::{Tier, Verdict};
    use crate::record::roster::GroupId;
    use pakt_keys::EntityId;

    fn session(standing: Standing) -> Session {
        let opening = Opening { standing, contact: None, roster: None, shown: vec![], in_force: true, settling: false };
        let mut session = Session::new(opening, Time(0));
        outputs(&mut session);
        session
    }

    fn outputs(session: &mut Session) -> Vec<Output<std::convert::Infallible, Event>> {
        std::iter::from_fn(|| session.poll_output()).filter(|o| !matches!(o, Output::Deadline(_))).collect()
    }

    fn offer() -> Offer {
        Offer {
            envelope: EnvelopeId([1; 16]),
            group: GroupId([2; 16]),
            priority: Priority::Normal,
            agreement_version: 1,
            files: 1,
            plain_bytes: 1,
            objects: 2,
            sealed_bytes: 100,
            seconds_left: 60,
        }
    }

    fn view() -> OfferView {
        OfferView {
            footing: Footing::InForce,
            agreement_version: 1,
            message_bytes_max: 10,
            hold_seconds: 60,
            group_shown: true,
            free_bytes: 1000,
            incoming: 0,
            incoming_objects: 0,
            rate_exceeded: false,
            is_resumed: false,
            is_purged: false,
            is_id_taken: false,
        }
    }

    #[test]
    fn before_the_countersignature_only_a_contact_is_taken() {
        for message in [Message::Offer(offer()), Message::Contacted(Contacted { agreement: AgreementId([0; 32]) })] {
            let mut session = session(Standing::Awaiting);
            session.handle_input(Input::Message(message), Time(1));
            assert!(matches!(outputs(&mut session)[..], [Output::Event(Event::Close(_))]));
        }
        let mut session = session(Standing::Awaiting);
        session.handle_input(Input::Message(Message::Contact(Contact { file: vec![1] })), Time(1));
        assert_eq!(outputs(&mut session), [Output::Event(Event::TakeContact(vec![1]))]);
        let huge = Contact { file: vec![0; CONTACT_BYTES_MAX + 1] };
        session.handle_input(Input::Message(Message::Contact(huge)), Time(1));
        assert!(matches!(outputs(&mut session)[..], [Output::Event(Event::Close(_))]));
    }

    #[test]
    fn p6_after_the_agreed_time_nothing_but_later_terms_and_receipts_is_taken() {
        let mut session = session(Standing::Expired);
        assert!(session.is_expired());
        let amended = Message::Amended(Amended { terms: [1; 32] });
        session.handle_input(Input::Message(amended.clone()), Time(1));
        assert_eq!(outputs(&mut session), [Output::Event(Event::Take(Box::new(amended)))]);
        let heard = [
            Message::Offer(offer()),
            Message::Contact(Contact { file: vec![] }),
            Message::Roster(RosterUpdate { roster: Signed::from_parts(vec![], vec![]) }),
            Message::Withdraw(crate::message::Withdraw { envelope: EnvelopeId([1; 16]) }),
        ];
        for message in heard {
            session.handle_input(Input::Message(message), Time(2));
            assert_eq!(outputs(&mut session), [], "it is not answered, and the session stands");
        }
        session.handle_input(Input::InForce(true), Time(3));
        session.handle_input(Input::RosterTaken(Ok(())), Time(3));
        assert!(!session.is_live(), "traffic begins in a session of its own");
    }

    #[test]
    fn after_an_end_nothing_but_statements_is_taken() {
        let mut session = session(Standing::Ending);
        outputs(&mut session);
        for message in [Message::Offer(offer()), Message::Amended(Amended { terms: [0; 32] })] {
            session.handle_input(Input::Message(message), Time(1));
            assert_eq!(outputs(&mut session), []);
        }
        let want = Message::WantStatements(WantStatements { party: EntityId([0; 32]), after: 0 });
        session.handle_input(Input::Message(want.clone()), Time(1));
        assert_eq!(outputs(&mut session), [Output::Event(Event::Take(Box::new(want)))]);
    }

    #[test]
    fn after_an_end_receipts_are_told_asked_for_and_confirmed_for_a_while() {
        let opening = Opening {
            standing: Standing::Ending,
            contact: None,
            roster: None,
            shown: vec![],
            in_force: false,
            settling: true,
        };
        let mut ending = Session::new(opening, Time(0));
        assert_eq!(outputs(&mut ending), [Output::Event(Event::Settle)]);
        let envelope = EnvelopeId([1; 16]);
        let receipt = ReceiptMessage { envelope, receipt: vec![7] };
        ending.handle_input(Input::Message(receipt.clone().into()), Time(1));
        assert_eq!(outputs(&mut ending), [Output::Event(Event::Outgoing(envelope, receipt.into()))]);
        let held = Message::ReceiptHeld(ReceiptHeld { envelope, verdict: Verdict::Held(Tier::Taken) });
        for message in [held, Message::AskEnded(AskEnded { core: vec![1] })] {
            ending.handle_input(Input::Message(message.clone()), Time(1));
            assert_eq!(outputs(&mut ending), [Output::Event(Event::Take(Box::new(message)))]);
        }
        ending.handle_input(Input::Message(Message::Heartbeat(Heartbeat)), Time::from_seconds(59));
        ending.handle_input(Input::Tick, Time::from_seconds(60));
        assert!(matches!(outputs(&mut ending)[..], [Output::Event(Event::Close(_))]));
        let mut active = session(Standing::Active);
        active.handle_input(Input::Ended, Time(1));
        active.handle_input(Input::Ended, Time(1));
        assert_eq!(outputs(&mut active), [Output::Event(Event::Settle)], "once");
    }

    #[test]
    fn p6_only_an_agreement_in_force_is_live() {
        let opening = Opening {
            standing: Standing::Active,
            contact: None,
            roster: None,
            shown: vec![],
            in_force: false,
            settling: false,
        };
        let mut session = Session::new(opening, Time(0));
        session.handle_input(Input::RosterTaken(Ok(())), Time(1));
        assert!(!session.is_live());
        for (input, live) in [
            (Input::InForce(true), true),
            (Input::InForce(true), true),
            (Input::InForce(false), false),
            (Input::RosterTaken(Ok(())), false),
            (Input::InForce(true), true),
            (Input::Ended, false),
            (Input::InForce(true), false),
        ] {
            outputs(&mut session);
            let was = session.is_live();
            session.handle_input(input, Time(1));
            assert_eq!(session.is_live(), live);
            let told = outputs(&mut session).contains(&Output::Event(Event::Live));
            assert_eq!(told, live && !was, "going live is told once");
        }
    }

    #[test]
    fn p28_a_duplicate_offer_gets_the_receipt_again() {
        let mut session = session(Standing::Active);
        let denied = OfferView { footing: Footing::None, ..view() };
        session.handle_input(Input::Found(offer(), denied, Some(vec![7])), Time(1));
        let same = ReceiptMessage { envelope: offer().envelope, receipt: vec![7] };
        let again = Output::Event(Event::OweAgain(offer().envelope));
        assert_eq!(outputs(&mut session), [again, Output::Transmit(Message::Receipt(same))]);
        session.handle_input(Input::Found(offer(), denied, None), Time(1));
        assert!(matches!(outputs(&mut session)[..], [Output::Transmit(Message::Answer(Answer::Refuse { .. }))]));
        session.handle_input(Input::Found(offer(), view(), None), Time(1));
        assert_eq!(outputs(&mut session), [Output::Event(Event::Receive(offer()))]);
    }

    #[test]
    fn whoever_goes_by_an_older_version_is_shown_the_newer_one() {
        let mut session = session(Standing::Active);
        let newer = OfferView { agreement_version: 2, ..view() };
        let refused = |reason| Output::Transmit(Answer::Refuse { envelope: offer().envelope, reason }.into());
        session.handle_input(Input::Found(offer(), newer, None), Time(1));
        assert_eq!(outputs(&mut session), [Output::Event(Event::ShowCurrent), refused(Refusal::OtherVersion)]);
        for (view, reason) in [
            (OfferView { is_purged: true, is_id_taken: true, ..newer }, Refusal::Purged),
            (OfferView { is_id_taken: true, ..newer }, Refusal::Conflict),
        ] {
            session.handle_input(Input::Found(offer(), view, None), Time(1));
            assert_eq!(outputs(&mut session), [refused(reason)], "nothing of it is judged");
        }
    }

    #[test]
    fn silence_ends_the_session() {
        let mut session = session(Standing::Active);
        session.handle_input(Input::Tick, Time::from_seconds(15));
        assert_eq!(outputs(&mut session), [Output::Transmit(Message::Heartbeat(Heartbeat))]);
        session.handle_input(Input::Message(Message::Heartbeat(Heartbeat)), Time::from_seconds(16));
        session.handle_input(Input::Tick, Time::from_seconds(60));
        outputs(&mut session);
        session.handle_input(Input::Tick, Time::from_seconds(61));
        assert!(matches!(outputs(&mut session)[..], [Output::Event(Event::Close(_))]));
    }
}
