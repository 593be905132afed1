//! A control lane in hostile hands, and what the victim says on it.

use std::time::{Duration, Instant};

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::message::offer::Refusal;
use pakt_protocol::message::{Answer, Message, Offer, Withdraw};
use pakt_protocol::record::receipt::{SignedReceipt, Tier, Verdict};
use pakt_protocol::record::roster::Roster;

use crate::wire::{End, PATIENCE, Wire, frame};

/// A control lane.
pub(crate) struct Control {
    wire: Wire,
    /// What was heard while something else was waited for, offers above all.
    kept: Vec<Message>,
}

impl Control {
    /// A lane that was opened.
    pub(crate) fn new(wire: Wire) -> Control {
        Control { wire, kept: Vec::new() }
    }

    /// Says a message.
    pub(crate) fn say(&mut self, message: impl Into<Message>) {
        self.say_bytes(&frame(&message.into().to_bytes()));
    }

    /// Says anything.
    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        // Whether it arrives shows in what comes back.
        let _ = self.wire.write(bytes);
    }

    /// Says many messages in as few writes as possible; false once the victim has ended the lane or reads no more.
    pub(crate) fn say_all(&mut self, messages: &[Message]) -> bool {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(&message.to_bytes())).collect();
        bytes.chunks(64 << 10).all(|part| self.wire.write(part).is_ok())
    }

    /// Ends this side's direction.
    pub(crate) fn finish(&mut self) {
        self.wire.finish();
    }

    /// The next message.
    pub(crate) fn hear(&mut self, limit: Duration) -> Result<Message, End> {
        let bytes = self.wire.read_frame(limit)?;
        Ok(Message::from_bytes(&bytes).expect("the victim's frames are sound"))
    }

    /// The first message for which `wanted` has an answer; all others are kept.
    pub(crate) fn hear_until<T>(&mut self, wanted: impl FnMut(&Message) -> Option<T>) -> Result<T, End> {
        self.hear_within(PATIENCE, wanted)
    }

    /// The same, with less patience.
    pub(crate) fn hear_within<T>(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&Message) -> Option<T>,
    ) -> Result<T, End> {
        if let Some(found) = self.kept.iter().find_map(&mut wanted) {
            return Ok(found);
        }
        let end = Instant::now() + limit;
        loop {
            let message = self.hear(end.saturating_duration_since(Instant::now()))?;
            if let Some(found) = wanted(&message) {
                return Ok(found);
            }
            self.kept.push(message);
        }
    }

    /// The next message for which `wanted` has an answer; it is not kept.
    pub(crate) fn take_next<T>(&mut self, mut wanted: impl FnMut(&Message) -> Option<T>) -> Result<T, End> {
        if let Some(at) = self.kept.iter().position(|message| wanted(message).is_some()) {
            let taken = self.kept.remove(at);
            return wanted(&taken).ok_or(End::Late);
        }
        self.hear_until(wanted)
    }

    /// What was kept of a kind so far.
    pub(crate) fn kept(&self, wanted: impl Fn(&Message) -> bool) -> impl Iterator<Item = &Message> {
        self.kept.iter().filter(move |message| wanted(message))
    }

    /// Forgets the confirmations of statements that were heard so far.
    pub(crate) fn forget_echoes(&mut self) {
        self.kept.retain(|message| !matches!(message, Message::Statement(_)));
    }

    /// Forgets what was heard about an envelope so far.
    pub(crate) fn forget(&mut self, envelope: EnvelopeId) {
        self.kept.retain(|message| message.envelope() != Some(envelope));
    }

    /// Whether the victim ends the session.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.is_closed_within(PATIENCE)
    }

    /// Whether the victim ends the session in this time.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.wire.is_ended_within(limit)
    }

    /// Whether the session still stands: an innocent question is answered.
    pub(crate) fn stands(&mut self) -> bool {
        let envelope = EnvelopeId(pakt_node::ambient::random());
        self.say(Withdraw { envelope });
        let answered = |message: &Message| match message {
            Message::Withdrawn(withdrawn) => (withdrawn.envelope == envelope).then_some(()),
            _ => None,
        };
        self.hear_until(answered).is_ok()
    }
}

/// A session in which both rosters are known.
pub(crate) struct Session {
    /// Its lane.
    pub(crate) control: Control,
    /// The victim's groups and epoch, as shown to this partner.
    pub(crate) roster: Roster,
}

/// What came of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    /// Go on.
    Accepted,
    /// No.
    Refused(Refusal),
    /// It was committed before: the receipt's bytes.
    Receipt(Vec<u8>),
    /// The session ended instead.
    Closed,
    /// Nothing came.
    Nothing,
}

impl Session {
    /// Waits for the victim's roster.
    pub(crate) fn begin(mut control: Control) -> Option<Session> {
        let roster = control.hear_until(|message| match message {
            Message::Roster(update) => update.roster.peek().ok(),
            _ => None,
        });
        Some(Session { control, roster: roster.ok()? })
    }

    /// Offers, and waits for what is answered about this envelope.
    pub(crate) fn offer(&mut self, offer: &Offer) -> Answered {
        self.control.say(offer.clone());
        self.answer(offer.envelope)
    }

    /// Offers an envelope that was answered before; the earlier answers are forgotten.
    pub(crate) fn offer_again(&mut self, offer: &Offer) -> Answered {
        self.control.forget(offer.envelope);
        self.offer(offer)
    }

    /// The next answer about an envelope.
    pub(crate) fn answer(&mut self, envelope: EnvelopeId) -> Answered {
        let answered = self.control.hear_until(|message| match message {
            Message::Answer(Answer::Accept { envelope: of }) if *of == envelope => Some(Answered::Accepted),
            message => verdict_of(message, envelope),
        });
        answered.unwrap_or_else(Answered::from)
    }

    /// The victim's signed envelope.
    pub(crate) fn sealed(&mut self, of: EnvelopeId) -> Option<()> {
        let sealed = self.control.hear_until(|message| match message {
            Message::Envelope(sealed) => (sealed.envelope == of).then_some(()),
            _ => None,
        });
        sealed.ok()
    }

    /// What the victim offers: the message of its own that it has for this partner.
    pub(crate) fn offered(&mut self) -> Option<Offer> {
        let offered = self.control.hear_until(|message| match message {
            Message::Offer(offer) => Some(offer.clone()),
            _ => None,
        });
        offered.ok()
    }
}

/// What ends the transfer of this envelope, if the message does.
pub(crate) fn verdict_of(message: &Message, of: EnvelopeId) -> Option<Answered> {
    match message {
        Message::Answer(Answer::Refuse { envelope, reason }) if *envelope == of => Some(Answered::Refused(*reason)),
        Message::Receipt(receipt) if receipt.envelope == of => {
            // What is stated later, that it was released above all, comes whenever it is so.
            let is_first = verdict(&receipt.receipt).is_none_or(|verdict| verdict.place() <= Tier::Delivered.number());
            is_first.then(|| Answered::Receipt(receipt.receipt.clone()))
        }
        _ => None,
    }
}

/// What a receipt states.
pub(crate) fn verdict(receipt: &[u8]) -> Option<Verdict> {
    let signed: SignedReceipt = pakt_protocol::codec::decode(1, receipt, 40 << 10).ok()?;
    Some(signed.peek().ok()?.verdict)
}

impl From<End> for Answered {
    fn from(end: End) -> Answered {
        match end {
            End::Closed => Answered::Closed,
            End::Late => Answered::Nothing,
        }
    }
}
