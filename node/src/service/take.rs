//! Taking responsibility for what arrived: tier 3.

use super::{Answer, Node, blocking};
use crate::api::types::*;
use crate::mailroom::receipts;
use crate::mailroom::rows::{InItem, InMessage, Stage};

impl Node {
    /// Takes responsibility for a message; its sender gets the receipt that says so. Taking it again changes nothing.
    ///
    /// # Errors
    /// `not_found`; `usage` for a report; `failed` while it is being checked, or when the check found something.
    pub async fn inbox_take(&self, id: String) -> Answer<InboxItem> {
        let node = self.clone();
        let named = blocking(move || match node.inbox_named(&id)? {
            InItem::Message(message) => Ok(message),
            InItem::Report(_) => Err(ServiceError::new(
                ErrorCode::Usage,
                "this is a report of this node: nobody waits for a receipt of it",
                "take messages, as `pakt inbox list` shows them",
            )),
        });
        let message = named.await?;
        let (own, arrived) = (self.inner.entity.current(), (message.from, message.envelope));
        let taken =
            self.inner.mailroom.store.write(move |tx| receipts::advance(tx, &own, arrived, Stage::Taken)).await?;
        let Some(taken) = taken else { return self.taken_before(message) };
        self.inner.mailroom.changed();
        self.inner.exchange.receipts_owed(&taken.agreement).await;
        // The row has no words: those are in what was named.
        Ok(self.inbox_item(&InItem::Message(InMessage { stage: taken.stage, ..message })))
    }

    /// Why a message cannot be taken, unless somebody has.
    fn taken_before(&self, named: InMessage) -> Answer<InboxItem> {
        let id = named.envelope;
        let found = self.inner.mailroom.store.read(|tx| receipts::find(tx, &(named.from, id)))?;
        let Some((_, InMessage { stage, .. })) = found else {
            let message = format!("{id} is not there any more");
            return Err(ServiceError::new(ErrorCode::NotFound, message, "see `pakt inbox list`"));
        };
        let (why, hint) = match stage {
            Stage::Taken | Stage::Released => {
                return Ok(self.inbox_item(&InItem::Message(InMessage { stage, ..named })));
            }
            Stage::Checking => ("it is still being checked", "try again in a moment"),
            Stage::Quarantined => ("its malware check found something", "ask the operator of this node"),
        };
        Err(ServiceError::new(ErrorCode::Failed, format!("{id} cannot be taken: {why}"), hint))
    }
}
