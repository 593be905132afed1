//! Records that the counterpart shows beside its messages, and questions about them: each is verified and made durable by
//! the book, and answered.

use pakt_protocol::message::Message;

use super::PeerActor;

impl PeerActor {
    /// Takes a message that the session passes on as it is ([`Message::is_for_owner`]).
    pub(super) async fn take_record(&mut self, message: Message) {
        match message {
            Message::Restored(message) => self.take_restored(message).await,
            Message::RestoredKnown(message) => self.take_restored_known(message).await,
            other => {
                tracing::debug!(agreement = %self.id, kind = ?std::mem::discriminant(&other), "a record that nobody takes");
            }
        }
    }
}
