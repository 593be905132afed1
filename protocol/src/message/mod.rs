//! Everything that two nodes say on a control lane: one file per kind of message, one row each in [`Message`].
//!
//! A frame is its length (32 bits, big-endian), then the codec bytes of one [`Message`].
//!
//! To add a kind of message: write its file here and add its row at the end of [`Message`]; the exhaustive match in
//! `node::exchange` then refuses to compile until it is handled.

pub mod address;
pub mod amend;
pub mod attestation;
pub mod contact;
pub mod deposit;
pub mod directory;
pub mod grant;
pub mod held;
pub mod introduction;
pub mod lane;
pub mod log;
pub mod offer;
pub mod progress;
pub mod recall;
pub mod reconcile;
pub mod relay;
pub mod restored;
pub mod roster;
pub mod settle;
pub mod statement;

use serde::{Deserialize, Serialize};

pub use address::AddressNews;
pub use amend::{Amend, Amended};
pub use attestation::{AttestationUpdate, WantAttestation};
pub use contact::{Contact, Contacted};
pub use deposit::{Deposit, DepositOffer, Deposited, Seek, Sought};
pub use directory::{Publish, Published, Query, QueryAnswer};
pub use grant::{Grant, Granted};
pub use held::{AskEnded, ReceiptHeld};
pub use introduction::{Introduction, IntroductionTaken};
pub use lane::{Heartbeat, LaneOpen, LaneOpened, WantLanes};
pub use log::{LogHeadUpdate, WantLogHead};
pub use offer::{Announce, Answer, Offer};
pub use progress::{Progress, Ready};
pub use recall::{PurgedBefore, Recall};
pub use reconcile::{Reconcile, ReconcileGap, Reconciled, WantReconcile};
pub use relay::{RelayAnswer, RelayAsk, RelayCall};
pub use restored::{Restored, RestoredKnown};
pub use roster::RosterUpdate;
pub use settle::{Envelope, EpochGone, ReceiptMessage, Withdraw, Withdrawn};
pub use statement::{Statement, WantStatements};

use crate::codec::{self, CodecError};
use crate::ids::EnvelopeId;

/// Bytes of one control frame, at most: the largest roster fits.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1 << 20;
const VERSION: u8 = 1;

macro_rules! registry {
    ($($name:ident($body:ty),)*) => {
        /// One message on a control lane.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum Message {
            $(#[doc = concat!("See [`", stringify!($body), "`].")] $name($body),)*
        }

        $(impl From<$body> for Message {
            fn from(body: $body) -> Message {
                Message::$name(body)
            }
        })*
    };
}

// The order is the wire's: a row's number is its place. Append only.
registry! {
    Open(LaneOpen),
    Opened(LaneOpened),
    Heartbeat(Heartbeat),
    WantLanes(WantLanes),
    Contact(Contact),
    Contacted(Contacted),
    Statement(Statement),
    Roster(RosterUpdate),
    Offer(Offer),
    Answer(Answer),
    Announce(Announce),
    Progress(Progress),
    Ready(Ready),
    Envelope(Envelope),
    EpochGone(EpochGone),
    Receipt(ReceiptMessage),
    Withdraw(Withdraw),
    Withdrawn(Withdrawn),
    Addresses(AddressNews),
    RelayAsk(RelayAsk),
    RelayAnswer(RelayAnswer),
    RelayCall(RelayCall),
    DepositOffer(DepositOffer),
    Deposit(Deposit),
    Deposited(Deposited),
    Seek(Seek),
    Sought(Sought),
    WantStatements(WantStatements),
    Amend(Amend),
    Amended(Amended),
    Attestation(AttestationUpdate),
    WantAttestation(WantAttestation),
    LogHead(LogHeadUpdate),
    WantLogHead(WantLogHead),
    Grant(Grant),
    Granted(Granted),
    Publish(Publish),
    Published(Published),
    Query(Query),
    QueryAnswer(QueryAnswer),
    Introduction(Introduction),
    IntroductionTaken(IntroductionTaken),
    Restored(Restored),
    RestoredKnown(RestoredKnown),
    ReceiptHeld(ReceiptHeld),
    AskEnded(AskEnded),
    Reconcile(Reconcile),
    Reconciled(Reconciled),
    ReconcileGap(ReconcileGap),
    WantReconcile(WantReconcile),
    Recall(Recall),
    PurgedBefore(PurgedBefore),
}

impl Message {
    /// The codec bytes, without the frame's length.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(VERSION, self)
    }

    /// Reads one frame's content.
    ///
    /// # Errors
    /// [`CodecError`] for anything that is not exactly one message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Message, CodecError> {
        codec::decode(VERSION, bytes, CONTROL_FRAME_BYTES_MAX)
    }

    /// Whether this is a record, or a question about one, that the session passes on to its owner as it is while the
    /// agreement is active.
    pub fn is_for_owner(&self) -> bool {
        self.about() == About::Agreement
    }

    /// The envelope that this message is about, if it is about one.
    pub fn envelope(&self) -> Option<EnvelopeId> {
        match self.about() {
            About::Envelope(envelope) => Some(envelope),
            About::Lane | About::Agreement => None,
        }
    }

    fn about(&self) -> About {
        match self {
            Message::Offer(m) => About::Envelope(m.envelope),
            Message::Answer(m) => About::Envelope(m.envelope()),
            Message::Announce(m) => About::Envelope(m.envelope),
            Message::Progress(m) => About::Envelope(m.envelope),
            Message::Ready(m) => About::Envelope(m.envelope),
            Message::Envelope(m) => About::Envelope(m.envelope),
            Message::EpochGone(m) => About::Envelope(m.envelope),
            Message::Receipt(m) => About::Envelope(m.envelope),
            Message::Withdraw(m) => About::Envelope(m.envelope),
            Message::Withdrawn(m) => About::Envelope(m.envelope),
            Message::Open(_)
            | Message::Opened(_)
            | Message::Heartbeat(_)
            | Message::WantLanes(_)
            | Message::Contact(_)
            | Message::Contacted(_)
            | Message::Roster(_)
            | Message::RelayAsk(_)
            | Message::RelayAnswer(_) => About::Lane,
            Message::Statement(_)
            | Message::Addresses(_)
            | Message::RelayCall(_)
            | Message::DepositOffer(_)
            | Message::Deposit(_)
            | Message::Deposited(_)
            | Message::Seek(_)
            | Message::Sought(_)
            | Message::WantStatements(_)
            | Message::Amend(_)
            | Message::Amended(_)
            | Message::Attestation(_)
            | Message::WantAttestation(_)
            | Message::LogHead(_)
            | Message::WantLogHead(_)
            | Message::Grant(_)
            | Message::Granted(_)
            | Message::Publish(_)
            | Message::Published(_)
            | Message::Query(_)
            | Message::QueryAnswer(_)
            | Message::Introduction(_)
            | Message::IntroductionTaken(_)
            | Message::Restored(_)
            | Message::RestoredKnown(_)
            | Message::ReceiptHeld(_)
            | Message::AskEnded(_)
            | Message::Reconcile(_)
            | Message::Reconciled(_)
            | Message::ReconcileGap(_)
            | Message::WantReconcile(_)
            | Message::Recall(_)
            | Message::PurgedBefore(_) => About::Agreement,
        }
    }
}

/// What a message is about, and so who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// One envelope: its transfer.
    Envelope(EnvelopeId),
    /// The lane, or how the session comes about: the session itself.
    Lane,
    /// The agreement and what belongs to it: the session's owner.
    Agreement,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn p40_hostile_frames_are_named_errors() {
        let good = Message::Heartbeat(Heartbeat).to_bytes();
        assert_eq!(Message::from_bytes(&good), Ok(Message::Heartbeat(Heartbeat)));
        let longer = [good.clone(), vec![0]].concat();
        assert_eq!(Message::from_bytes(&longer), Err(CodecError::TrailingBytes));
        assert!(matches!(Message::from_bytes(&[]), Err(CodecError::Empty)));
        assert!(matches!(Message::from_bytes(&[2, 0, 0, 0, 2]), Err(CodecError::Newer { .. })));
        assert!(matches!(Message::from_bytes(&[1, 0, 0, 0, 99]), Err(CodecError::Malformed)));
        let huge_list = [&[1, 0, 0, 0, 10][..], &[0; 16], &[0; 8], &[0xff; 8]].concat();
        assert!(Message::from_bytes(&huge_list).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn p40_any_bytes_are_survived(tag in 0u8..52, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let frame = [&[1, 0, 0, 0, tag][..], &bytes].concat();
            if let Ok(message) = Message::from_bytes(&frame) {
                prop_assert_eq!(message.to_bytes(), frame, "canonical");
            }
        }
    }
}
