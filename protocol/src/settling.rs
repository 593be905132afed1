//! How envelopes ended whose signed envelope has left: asked when their time is over, and answered; also for a while after
//! the agreement has ended. And what is made of a receipt that comes late.
//!
//! ```text
//! sender:   over, not settled --AskEnded--> asked --receipt--> settled          lost: asked again in the next session
//! receiver: AskEnded --> settled? its receipt --- never came? "not held", for ever --- too many of those? no answer
//! ```
//!
//! **Invariant:** whoever was told that this side does not hold an envelope is told so for ever: the answer is settled like
//! a receipt, and a later copy of the envelope gets it again.

use std::collections::HashSet;
use std::time::Duration;

use pakt_keys::EntityId;

use crate::codec;
use crate::defect::{self, Defect};
use crate::delivery::Record;
use crate::ids::{AgreementId, CoreHash, EnvelopeId};
use crate::message::{AskEnded, ReceiptHeld};
use crate::pace::Pace;
use crate::record::envelope::{CORE_BYTES_MAX, EnvelopeCore, OpenEnvelope};
use crate::record::receipt::{Receipt, Verdict};
use crate::time::Time;

/// Questions that are open at once.
pub const ASKED_MAX: usize = 16;
/// After the end is known on both sides the counterpart is dialled this often for receipts alone.
pub const SETTLE_AGAIN: Duration = Duration::from_secs(15 * 60);

/// What was asked in this session and is not answered.
#[derive(Debug, Default)]
pub struct Questions {
    asked: HashSet<EnvelopeId>,
}

impl Questions {
    /// The question how an envelope with this core ended.
    pub fn ask(&mut self, envelope: EnvelopeId, core: Vec<u8>) -> AskEnded {
        self.asked.insert(envelope);
        AskEnded { core }
    }

    /// Whether an envelope that waits may have its turn: one that would be asked about waits while many are.
    pub fn has_turn(&self, delivery: Option<&Record>, now: Time) -> bool {
        self.asked.len() < ASKED_MAX || !delivery.is_some_and(|record| record.is_over(now))
    }

    /// Which of the open deliveries are asked about next after the end of the agreement: those whose signed envelope has
    /// left.
    pub fn next<'a>(&self, open: impl Iterator<Item = (EnvelopeId, &'a Record)>) -> Vec<EnvelopeId> {
        let unasked = open.filter(|(envelope, record)| record.left && !self.asked.contains(envelope));
        unasked.map(|(envelope, _)| envelope).take(ASKED_MAX.saturating_sub(self.asked.len())).collect()
    }

    /// An envelope has ended.
    pub fn ended(&mut self, envelope: &EnvelopeId) {
        self.asked.remove(envelope);
    }

    /// The session is over.
    pub fn lost(&mut self) {
        self.asked.clear();
    }
}

/// How an agreement came to be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// One side has ended it.
    Ended {
        /// Both know.
        confirmed: bool,
    },
    /// Its time is over.
    Expired {
        /// This side has dialled, and for receipts alone.
        dialled: bool,
    },
}

/// How a session goes on after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterEnd {
    /// There are receipts to come: ask for more of them.
    Ask,
    /// The other side may have something to say.
    Wait,
    /// Nothing is left to be said.
    Close(&'static str),
}

/// What follows once everything is written that was confirmed: `unsettled` if receipts are owed, or lacking for what has
/// left. After an end that both know, the session ends with the last receipt; after the agreed time whoever dialled for
/// receipts alone ends it.
pub fn after_end(over: Over, unsettled: bool) -> AfterEnd {
    match over {
        _ if unsettled => AfterEnd::Ask,
        Over::Ended { confirmed: true } => AfterEnd::Close("the agreement has ended"),
        Over::Expired { dialled: true } => AfterEnd::Close("the agreement has expired"),
        Over::Ended { confirmed: false } | Over::Expired { dialled: false } => AfterEnd::Wait,
    }
}

/// The envelope that a sender asks about.
///
/// # Errors
/// Why the session is closed: it is about nothing that `sender` sent to `recipient` under this agreement.
pub fn question(
    ask: &AskEnded,
    (sender, recipient): (EntityId, EntityId),
    agreement: AgreementId,
) -> Result<OpenEnvelope, &'static str> {
    let core: Option<EnvelopeCore> = codec::decode(1, &ask.core, CORE_BYTES_MAX).ok();
    let ours =
        |core: &EnvelopeCore| core.sender == sender && core.recipient == recipient && core.agreement == agreement;
    let core = core.filter(ours).ok_or("a question about what it did not send")?;
    Ok(OpenEnvelope { core, hash: EnvelopeCore::hash_of(&ask.core) })
}

/// What a question is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With the receipt that settled it; then all that was stated later.
    Receipt(Vec<u8>),
    /// With this, once it is durable, and with it that nothing of it is ever taken in.
    Settle(Verdict),
    /// Not now: the sender has asked about too many that never came, and asks again.
    Later,
}

/// How an envelope ended of which this is the receipt, if it was settled here.
pub fn answer(settled: Option<Vec<u8>>, pace: &mut Pace, now: Time) -> Answer {
    match settled {
        Some(receipt) => Answer::Receipt(receipt),
        None if defect::is_on(Defect::NeverAnswer) => Answer::Later,
        None if pace.allows_never_held(now) => Answer::Settle(Verdict::NotHeld),
        None => Answer::Later,
    }
}

/// What a sender knows of an envelope about which a receipt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Whom it was sent to.
    pub recipient: EntityId,
    /// The hash of its core.
    pub core: CoreHash,
    /// Whether this very receipt is held.
    pub is_held: bool,
}

/// What is made of a verified receipt about an envelope that is not under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// It is kept, with what follows from it.
    Keep,
    /// It is held.
    Held,
    /// There is no such envelope here: nothing to keep it with.
    Unknown,
    /// It is about another entity's envelope, or another core.
    Foreign,
}

impl Late {
    /// Judges a receipt that `from` has signed.
    pub fn judge(receipt: &Receipt, from: EntityId, sent: Option<Sent>) -> Late {
        match sent {
            None => Late::Unknown,
            Some(sent) if sent.recipient != from || sent.core != receipt.core => Late::Foreign,
            Some(sent) if sent.is_held || defect::is_on(Defect::ConfirmUnkept) => Late::Held,
            Some(_) => Late::Keep,
        }
    }

    /// What the counterpart is told once that is durable: what is unknown here need not be told again either.
    ///
    /// # Errors
    /// Why the session is closed.
    pub fn reply(self, envelope: EnvelopeId, verdict: Verdict) -> Result<ReceiptHeld, &'static str> {
        match self {
            Late::Keep | Late::Held | Late::Unknown => Ok(ReceiptHeld { envelope, verdict }),
            Late::Foreign => Err("a receipt for what this node did not send"),
        }
    }
}

/// What a receipt says about an envelope with this core; one about another core is a conflict.
pub fn stated_about(core: CoreHash, receipt: &Receipt) -> Verdict {
    if receipt.core == core { receipt.verdict } else { Verdict::Conflict }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MessageId;
    use crate::record::envelope::{Counts, Priority, SUITE};
    use crate::record::receipt::Tier;
    use crate::record::roster::GroupId;
    use crate::record::tests::Party;

    const AGREEMENT: AgreementId = AgreementId([4; 32]);

    fn envelope(n: u8) -> EnvelopeId {
        EnvelopeId([n; 16])
    }

    fn record(left: bool) -> Record {
        Record { left, ..Record::new(Priority::Normal, Duration::from_secs(60), Time(0)) }
    }

    #[test]
    fn so_many_are_asked_about_at_once() {
        let mut questions = Questions::default();
        let (left, waits) = (record(true), record(false));
        let all = || (0..40).map(|n| (envelope(n), if n % 2 == 0 { &left } else { &waits }));
        let first = questions.next(all());
        assert_eq!(first, (0..ASKED_MAX as u8).map(|n| envelope(2 * n)).collect::<Vec<_>>(), "those that have left");
        for envelope in first {
            questions.ask(envelope, vec![]);
        }
        assert_eq!(questions.next(all()), []);
        questions.ended(&envelope(6));
        assert_eq!(questions.next(all()), [envelope(6)], "it is open still, so it is asked about again");
        questions.lost();
        assert_eq!(questions.next(all()).len(), ASKED_MAX, "nothing was asked in this session");
    }

    #[test]
    fn what_would_be_asked_about_waits_while_many_are() {
        let (mut questions, over) = (Questions::default(), Time(0) + Duration::from_secs(60));
        let left = record(true);
        assert!(questions.has_turn(Some(&left), over));
        (0..ASKED_MAX as u8).for_each(|n| drop(questions.ask(envelope(n), vec![])));
        assert!(!questions.has_turn(Some(&left), over));
        assert!(questions.has_turn(Some(&left), Time(1)), "its time is not over: it is offered");
        assert!(questions.has_turn(Some(&record(false)), over), "it has not left: it expires");
        assert!(questions.has_turn(None, over), "an early offer");
    }

    fn core(sender: EntityId, recipient: EntityId) -> EnvelopeCore {
        EnvelopeCore {
            suite: SUITE,
            message: MessageId([1; 16]),
            envelope: envelope(1),
            sender,
            recipient,
            group: GroupId([2; 16]),
            priority: Priority::Normal,
            submitted_at: Time(0),
            counts: Counts::default(),
            agreement: AGREEMENT,
            agreement_version: 1,
            number: 1,
            root_hash: [3; 32],
        }
    }

    #[test]
    fn a_question_is_about_what_its_sender_sent() {
        let [a, b] = [1, 2].map(|seed| Party::new(seed).entity());
        let check = |core: Vec<u8>| question(&AskEnded { core }, (a, b), AGREEMENT);
        let right = codec::encode(1, &core(a, b));
        assert_eq!(check(right.clone()).map(|open| open.hash), Ok(EnvelopeCore::hash_of(&right)));
        assert!(check(codec::encode(1, &core(b, a))).is_err());
        assert!(check(codec::encode(1, &EnvelopeCore { agreement: AgreementId([0; 32]), ..core(a, b) })).is_err());
        assert!(check(right[1..].to_vec()).is_err());
    }

    #[test]
    fn p30_a_question_is_answered_with_what_settled_it_or_settles_it() {
        let mut pace = Pace::new(Time(0));
        assert_eq!(answer(Some(vec![7]), &mut pace, Time(0)), Answer::Receipt(vec![7]));
        let mut never = 0;
        while answer(None, &mut pace, Time(0)) == Answer::Settle(Verdict::NotHeld) {
            never += 1;
        }
        assert!(never > 0 && never < 1_000);
        assert_eq!(answer(None, &mut pace, Time(0)), Answer::Later);
        assert_eq!(answer(Some(vec![7]), &mut pace, Time(0)), Answer::Receipt(vec![7]), "that costs nothing");
    }

    #[test]
    fn p30_a_late_receipt_counts_if_it_is_about_what_was_sent() {
        let (a, b) = (Party::new(1), Party::new(2));
        let receipt = Receipt {
            verdict: Verdict::Held(Tier::Released),
            core: CoreHash([5; 32]),
            message: MessageId([1; 16]),
            envelope: envelope(1),
            sender: a.entity(),
            recipient: b.entity(),
            agreement: AGREEMENT,
            agreement_hash: [6; 32],
            counts: Counts::default(),
            offered_at: Time(1),
            at: Time(2),
            log_head: None,
            chain: b.chain.clone(),
        };
        let ours = Sent { recipient: b.entity(), core: receipt.core, is_held: false };
        let rows = [
            (None, Late::Unknown),
            (Some(ours), Late::Keep),
            (Some(Sent { is_held: true, ..ours }), Late::Held),
            (Some(Sent { recipient: a.entity(), ..ours }), Late::Foreign),
            (Some(Sent { core: CoreHash([0; 32]), is_held: true, ..ours }), Late::Foreign),
        ];
        for (sent, becomes) in rows {
            let late = Late::judge(&receipt, b.entity(), sent);
            assert_eq!(late, becomes);
            assert_eq!(late.reply(envelope(1), receipt.verdict).is_err(), becomes == Late::Foreign);
        }
        assert_eq!(stated_about(receipt.core, &receipt), receipt.verdict);
        assert_eq!(stated_about(CoreHash([0; 32]), &receipt), Verdict::Conflict);
    }

    #[test]
    fn after_the_end_a_session_lasts_until_the_last_receipt() {
        let rows = [
            (Over::Ended { confirmed: true }, AfterEnd::Close("the agreement has ended")),
            (Over::Ended { confirmed: false }, AfterEnd::Wait),
            (Over::Expired { dialled: true }, AfterEnd::Close("the agreement has expired")),
            (Over::Expired { dialled: false }, AfterEnd::Wait),
        ];
        for (over, follows) in rows {
            assert_eq!((after_end(over, true), after_end(over, false)), (AfterEnd::Ask, follows));
        }
    }
}
