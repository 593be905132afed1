//! Records that the counterpart shows beside its messages, and questions about them: each is verified and made durable by
//! the book, and answered.

use pakt_protocol::message::Message;

use super::PeerActor;

impl PeerActor {
    /// Takes a message that the session passes on as it is ([`Message::is_for_owner`]).
    pub(super) async fn take_record(&mut self, message: Message) {
        match message {
            Message::Grant(message) => self.take_grant(message).await,
            Message::Granted(message) => self.take_granted(message).await,
            _ => self.close_session("a message that belongs to another place").await,
        }
    }
}
