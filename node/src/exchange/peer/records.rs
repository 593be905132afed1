//! Records that the counterpart shows beside its messages, and questions about them: each is verified and made durable by
//! the book, and answered.

use pakt_protocol::message::Message;

use super::PeerActor;

impl PeerActor {
    /// Takes a message that the session passes on as it is ([`Message::is_for_owner`]).
    pub(super) async fn take_record(&mut self, message: Message) {
        match message {
            Message::Publish(publish) => self.take_listing(publish).await,
            Message::Published(published) => self.take_published(published).await,
            Message::Query(query) => self.take_query(query),
            Message::QueryAnswer(answer) => self.take_answer(answer),
            Message::Introduction(introduction) => self.take_introduction(introduction).await,
            Message::IntroductionTaken(taken) => self.take_introduction_taken(taken).await,
            other => {
                tracing::debug!(agreement = %self.id, kind = ?std::mem::discriminant(&other), "a record that nobody takes");
            }
        }
    }
}
