//! What the malware check holds, and what the operator does with it.

use std::collections::HashSet;
use std::time::Duration;

use super::inbox::sender_of;
use super::{Answer, Node, blocking, keep, words};
use crate::ambient;
use crate::api::types::*;
use crate::mailroom::MailError;
use crate::mailroom::purge::PurgeError;
use crate::mailroom::receipts::Arrived;
use crate::mailroom::rows::{InItem, InMessage, Stage};
use crate::release::HeldBack;

/// Messages of each kind that a list shows, and that are counted.
const LISTED_MAX: usize = 1_000;
/// What could not be checked for so long needs somebody's attention.
const HELD_ALARM: Duration = Duration::from_secs(180);

impl Node {
    /// What the check holds: what it found, newest first, what it could not check, and what waits for the scanner, urgent
    /// ones and then the newest first; at most 1,000 of each.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn quarantine_list(&self) -> Answer<Vec<QuarantineItem>> {
        let node = self.clone();
        blocking(move || node.quarantine()).await
    }

    /// Lets a message out on the operator's word; it is noted in the audit log.
    ///
    /// # Errors
    /// `not_found` for what is not held.
    pub async fn quarantine_release(&self, id: String) -> Answer<()> {
        let arrived = self.quarantined(id).await?;
        let out = self.inner.mailroom.let_out(arrived).await;
        Ok(out.inspect(|()| tracing::warn!(envelope = %arrived.1, "a message was let out of the malware check"))?)
    }

    /// Deletes a message in which something was found.
    ///
    /// # Errors
    /// `not_found` for what is not in quarantine, `conflict` for what could not be checked yet, `refused` for what is on
    /// hold.
    pub async fn quarantine_delete(&self, id: String) -> Answer<()> {
        let arrived = self.quarantined(id).await?;
        let inner = &self.inner;
        match inner.mailroom.delete_quarantined(&inner.entity, arrived, ambient::service_now()).await {
            Err(PurgeError::Missing) => {
                let message = "nothing was found in this message: it could not be checked yet";
                Err(ServiceError::new(ErrorCode::Conflict, message, "see `pakt quarantine list` for the reason"))
            }
            deleted => deleted.map_err(|error| keep::refusal(error, &arrived.1.to_string())),
        }
    }

    /// The message that was named, if the check holds it: whether a list shows it or not.
    async fn quarantined(&self, typed: String) -> Answer<Arrived> {
        let node = self.clone();
        blocking(move || {
            let missing = || {
                let message = format!("the malware check holds no message with the id {typed}");
                ServiceError::new(ErrorCode::NotFound, message, "see `pakt quarantine list`")
            };
            let InItem::Message(message) = node.inbox_named(&typed)? else { return Err(missing()) };
            let arrived = (message.from, message.envelope);
            let is_held = match message.stage {
                Stage::Quarantined => true,
                Stage::Checking => node.inner.release.may_let_out(arrived)?,
                Stage::Released | Stage::Taken => false,
            };
            is_held.then_some(arrived).ok_or_else(missing)
        })
        .await
    }

    /// What was found, what is held, and what waits for the scanner: because it cannot be used, or for long.
    fn quarantine(&self) -> Answer<Vec<QuarantineItem>> {
        let (release, mailroom) = (&self.inner.release, &self.inner.mailroom);
        let mut known = HashSet::new();
        let mut items = Vec::new();
        for finding in mailroom.quarantined(LISTED_MAX)? {
            let found = self.held_message((finding.from, finding.envelope))?;
            items.extend(found.map(|message| quarantine_item(&message, QuarantineState::Found, finding.what)));
            known.insert((finding.from, finding.envelope));
        }
        for held in release.held().into_iter().take(LISTED_MAX).filter(|held| !known.contains(&held.arrived())) {
            let message = self.held_message(held.arrived())?;
            items.extend(message.map(|message| quarantine_item(&message, QuarantineState::Held, held.why.clone())));
        }
        known.extend(release.held().iter().map(HeldBack::arrived));
        let (unfit, now) = (release.unfit(), ambient::now());
        for row in release.waiting(LISTED_MAX)?.into_iter().filter(|row| !known.contains(&row.arrived())) {
            let Some(message) = self.held_message(row.arrived())? else { continue };
            if unfit.is_some() || message.received_at + HELD_ALARM <= now {
                let why = unfit.clone().unwrap_or_else(|| "it waits for its turn with the malware scanner".to_owned());
                items.push(quarantine_item(&message, QuarantineState::Held, why));
            }
        }
        Ok(items)
    }

    fn held_message(&self, (from, envelope): Arrived) -> Answer<Option<InMessage>> {
        match self.inner.mailroom.item(&envelope.0) {
            Ok(InItem::Message(message)) => Ok(Some(message).filter(|message| message.from == from)),
            Ok(InItem::Report(_)) | Err(MailError::Missing) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The scanner, as far as one is set.
    pub(super) fn scanner_status(&self) -> Option<ScannerStatus> {
        let scanner = self.inner.release.scanner()?;
        let fit = scanner.fit();
        Some(ScannerStatus {
            at: scanner.endpoint().to_string(),
            fit: fit.is_ok(),
            says: fit.unwrap_or_else(|why| why),
        })
    }

    /// Messages that wait for their check, and those in quarantine.
    pub(super) fn check_counts(&self) -> Answer<(u64, u64)> {
        let (plain, scanned) = self.inner.mailroom.waiting_for_release()?;
        Ok((plain + scanned, self.inner.mailroom.quarantined(LISTED_MAX)?.len() as u64))
    }

    /// What the operator must know about the check.
    pub(super) fn check_warnings(&self) -> Answer<Vec<String>> {
        let mut warnings = Vec::new();
        let (plain, scanned) = self.inner.mailroom.waiting_for_release()?;
        let waiting = if self.inner.config.scan.all { plain + scanned } else { scanned };
        let waits =
            (waiting > 0).then(|| format!("; {} for it", words::counted(waiting, "message waits", "messages wait")));
        let waits = waits.unwrap_or_default();
        match self.scanner_status() {
            Some(ScannerStatus { fit: false, at, says }) => {
                warnings.push(format!("the malware scanner at {at} cannot be used: {says}{waits}"));
            }
            None if waiting > 0 => warnings.push(format!("no malware scanner is set{waits}")),
            _ => {}
        }
        let held = self.inner.release.held();
        let mut long = held.iter().filter(|held| held.since.elapsed() >= HELD_ALARM);
        if let Some(first) = long.next() {
            let count = words::counted(1 + long.count() as u64, "message", "messages");
            warnings.push(format!("{count} cannot be checked: {} (`pakt quarantine list`)", first.why));
        }
        let found = self.inner.mailroom.quarantined(LISTED_MAX)?.len() as u64;
        if found > 0 {
            let count = words::counted(found, "message is", "messages are");
            warnings.push(format!("{count} in quarantine: `pakt quarantine list`"));
        }
        Ok(warnings)
    }
}

fn quarantine_item(message: &InMessage, state: QuarantineState, what: String) -> QuarantineItem {
    QuarantineItem {
        id: message.envelope.to_string(),
        from: sender_of(message),
        group: message.group_name.clone(),
        received_at: time_text(message.received_at),
        state,
        what,
    }
}
