//! After a restore: the counterpart is told what this node lost, in every session until it knows; and what is told here is
//! kept and shown.

use pakt_protocol::message::{Restored, RestoredKnown};

use super::PeerActor;

impl PeerActor {
    /// Tells the counterpart of a restore that it does not know of.
    pub(super) async fn tell_restored(&mut self) {
        match self.context.book.restore_notice(&self.id) {
            Ok(Some(notice)) => self.transmit(Restored { notice }.into()),
            Ok(None) => {}
            Err(error) => tracing::error!(agreement = %self.id, %error, "the restore notice could not be made"),
        }
    }

    /// The counterpart says that it was restored.
    pub(super) async fn take_restored(&mut self, message: Restored) {
        match self.context.book.take_restored(&self.id, &message.notice).await {
            Ok((generation, lost)) => {
                if let Some(envelopes) = lost {
                    tracing::warn!(
                        agreement = %self.id, peer = %self.entity, envelopes,
                        "the counterpart was restored from a backup: what it had received since is gone there"
                    );
                }
                // Before it is told that its notice is known: it comes again until then.
                self.show_purges(generation).await;
                self.transmit(RestoredKnown { generation }.into());
            }
            Err(why) => self.close_session(why).await,
        }
    }

    /// The counterpart knows.
    pub(super) async fn take_restored_known(&mut self, message: RestoredKnown) {
        let known = self.context.book.restore_known(&self.id, message.generation).await;
        self.report(known.err(), "that the counterpart knows of the restore could not be recorded");
    }
}
