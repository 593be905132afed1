//! Records that the counterpart shows beside its messages, and questions about them: each is verified and made durable by
//! the book, and answered.

use pakt_protocol::message::Message;

use super::PeerActor;

impl PeerActor {
    /// Takes a message that the session passes on as it is ([`Message::is_for_owner`]).
    pub(super) async fn take_record(&mut self, message: Message) {
        match message {
            Message::Attestation(update) => self.take_attestation(&update.attestation).await,
            Message::WantAttestation(_) => self.attest_again().await,
            Message::LogHead(update) => self.take_head(update).await,
            Message::WantLogHead(want) => self.give_head_again(want.since).await,
            Message::RelayCall(call) => self.answer_relay_call(call.token),
            Message::DepositOffer(_) => self.answer_offer(),
            Message::Deposit(deposit) => self.keep_deposits(deposit).await,
            Message::Deposited(kept) => self.handle_deposited(kept.digest).await,
            Message::Seek(seek) => self.answer_seek(seek),
            Message::Sought(sought) => self.handle_sought(sought).await,
            Message::Addresses(news) => self.take_addresses(&news).await,
            Message::Statement(statement) => self.take_statement(statement).await,
            Message::WantStatements(want) => self.show_statements(&want.party, want.after, false),
            Message::Amend(amend) => self.take_amendment(amend).await,
            Message::Amended(amended) => self.amendment_known(&amended).await,
            Message::Grant(grant) => self.take_grant(grant).await,
            Message::Granted(granted) => self.take_granted(granted).await,
            Message::Publish(publish) => self.take_listing(publish).await,
            Message::Published(published) => self.take_published(published).await,
            Message::Query(query) => self.take_query(query),
            Message::QueryAnswer(answer) => self.take_answer(answer),
            Message::Introduction(introduction) => self.take_introduction(introduction).await,
            Message::IntroductionTaken(taken) => self.take_introduction_taken(taken).await,
            Message::Restored(message) => self.take_restored(message).await,
            Message::RestoredKnown(message) => self.take_restored_known(message).await,
            Message::ReceiptHeld(held) => self.take_receipt_held(held).await,
            Message::AskEnded(ask) => self.answer_ask(&ask).await,
            Message::Reconcile(message) => self.take_sent_statement(message).await,
            Message::Reconciled(message) => self.take_held_statement(message).await,
            Message::ReconcileGap(message) => self.take_reconcile_gap(message).await,
            Message::WantReconcile(_) => self.reconcile_now().await,
            Message::Recall(recall) => self.take_recall(recall).await,
            Message::PurgedBefore(purged) => self.take_purged_before(purged).await,
            other => {
                tracing::debug!(agreement = %self.id, kind = ?std::mem::discriminant(&other), "a record that nobody takes");
            }
        }
    }
}
