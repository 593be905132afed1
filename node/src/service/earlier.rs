//! What a new message says of earlier ones: it passes a received one on, or corrects one that was sent.
//!
//! **Invariant:** only a message that is here can be named, and naming it is an entry of the audit log, in the commit of the
//! new message.

use super::{Answer, Node, blocking};
use crate::api::types::{ErrorCode, NewMessage, ServiceError};
use crate::mailroom::rows::{Earlier, InItem, InMessage, OutEnvelope};

impl Node {
    /// The messages that a new one passes on or corrects.
    ///
    /// # Errors
    /// `not_found`; `usage` for a report, which no counterpart sent.
    pub(super) async fn earlier(&self, message: &NewMessage) -> Answer<Vec<Earlier>> {
        let (forwards, corrects) = (message.forwards.clone(), message.corrects.clone());
        if forwards.is_none() && corrects.is_none() {
            return Ok(Vec::new());
        }
        let node = self.clone();
        blocking(move || {
            let mut earlier = Vec::new();
            if let Some(id) = forwards {
                match node.inbox_named(&id)? {
                    InItem::Message(message) => earlier.push(received(&message)),
                    InItem::Report(_) => {
                        let message = "a report of this node is no message that can be passed on";
                        return Err(ServiceError::new(ErrorCode::Usage, message, "see `pakt inbox list`"));
                    }
                }
            }
            if let Some(id) = corrects {
                earlier.extend(node.named(&id)?.1.iter().map(sent));
            }
            Ok(earlier)
        })
        .await
    }
}

fn received(&InMessage { envelope, message, agreement, from: entity, .. }: &InMessage) -> Earlier {
    Earlier { is_received: true, envelope, message, agreement, entity }
}

fn sent(&OutEnvelope { id: envelope, message, agreement, entity, .. }: &OutEnvelope) -> Earlier {
    Earlier { is_received: false, envelope, message, agreement, entity }
}
