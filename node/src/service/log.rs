//! The audit log: its head, heads held of counterparts, and whether it is what it was.

use pakt_keys::EntityId;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::audit::head;
use pakt_protocol::record::receipt::{RECEIPT_FILE_BYTES_MAX, SignedReceipt};

use super::{Answer, Node, blocking};
use crate::api::types::*;
use crate::audit::heads::AlarmKind;
use crate::audit::verify::{Held, verify};
use crate::book::Agreement;
use crate::store::Store;

impl Node {
    /// The signed head of this node's log as it is now, or the newest one held of a counterpart's, armoured.
    ///
    /// # Errors
    /// `not_found` for an unknown counterpart, or one that has given none yet.
    pub async fn log_head(&self, of: Option<String>) -> Answer<ArmouredFile> {
        let log = self.inner.exchange.log();
        let signed = match of {
            None => log.head().await?,
            Some(name) => {
                let agreement =
                    self.inner.book.find(&name).map_err(|error| {
                        ServiceError::new(ErrorCode::NotFound, error.to_string(), "see `pakt peers`")
                    })?;
                log.held(&agreement.id)?.ok_or_else(|| {
                    let message = format!("{} has given no head of its log yet", agreement.counterpart().name);
                    ServiceError::new(ErrorCode::NotFound, message, "it does so once it is online")
                })?
            }
        };
        Ok(ArmouredFile { file: armour::encode(Label::LogHead, &head::head_bytes(&signed)) })
    }

    /// Reads the whole log again and compares it with heads and receipts that others hold.
    ///
    /// # Errors
    /// `damaged` when the log is not what it was; what is wrong with a file that was given.
    pub async fn log_verify(&self, held: Vec<String>) -> Answer<LogVerified> {
        let (store, own) = (self.inner.exchange.log().store().clone(), self.inner.entity.id());
        blocking(move || verify_log(&store, &own, &held)).await
    }

    /// What the operator must know about a counterpart's log.
    pub(super) fn log_warning(&self, agreement: &Agreement) -> Option<String> {
        let alarm = self.inner.exchange.log().alarm(&agreement.id).ok().flatten()?;
        Some(peer_log_warning(&agreement.counterpart().name, alarm.kind, alarm.restored))
    }
}

/// What is said of a counterpart's log: an alarm, unless its restore explains it.
fn peer_log_warning(name: &str, kind: AlarmKind, restored: bool) -> String {
    if restored {
        return format!(
            "the audit log of {name} begins anew since its restore: ask its operator, then `pakt backup gaps --seen {name}`"
        );
    }
    let what = match kind {
        AlarmKind::Shorter => "is shorter than it was",
        AlarmKind::Rewritten => "was rewritten",
        AlarmKind::Unproven => "grows without a proof that it is the same",
    };
    format!("ALARM: the audit log of {name} {what}: keep `pakt log head --of`, and ask its operator")
}

/// Reads the log in `store` again and compares it with what others hold: armoured heads, and receipts that `own` gave.
///
/// # Errors
/// `damaged` when the log is not what it was; what is wrong with a file that was given.
pub fn verify_log(store: &Store, own: &EntityId, held: &[String]) -> Answer<LogVerified> {
    let held: Vec<Held> = held.iter().map(|text| read_held(text, own)).collect::<Answer<_>>()?;
    match store.read(|tx| verify(tx, &held))? {
        Ok(verified) => Ok(LogVerified {
            entries: verified.entries,
            root: hex::encode(verified.root),
            compared: u64::try_from(verified.compared).unwrap_or(u64::MAX),
        }),
        Err(tampered) => {
            let hint = "keep this data directory as it is, and the head that shows it";
            Err(ServiceError::new(ErrorCode::Damaged, tampered.to_string(), hint))
        }
    }
}

fn read_held(text: &str, own: &EntityId) -> Answer<Held> {
    let foreign = |owner: &EntityId| {
        let message = format!("this is about the audit log of {owner}, not of this entity");
        let hint = "that entity compares it; here give a head of this node's log that a counterpart holds, or a receipt that \
                    this node gave";
        ServiceError::new(ErrorCode::Failed, message, hint)
    };
    let (label, bytes) = armour::decode_any(text.as_bytes())?;
    if label == Label::Receipt {
        let signed: SignedReceipt = pakt_protocol::codec::decode(1, &bytes, RECEIPT_FILE_BYTES_MAX)
            .map_err(|error| ServiceError::from(pakt_protocol::record::RecordError::from(error)))?;
        let signer = signed.peek()?.chain.verify().map_err(pakt_protocol::record::RecordError::from)?;
        let receipt = signer.open_statement(&signed)?;
        if receipt.recipient != *own || signer.entity != *own {
            return Err(foreign(&signer.entity));
        }
        let (envelope, core) = (receipt.envelope, receipt.core);
        let without =
            || ServiceError::new(ErrorCode::Failed, "this receipt holds no head of a log", "give another one");
        return Ok(Held::Receipt { envelope, core, blinded: receipt.log_head.ok_or_else(without)? });
    }
    let bytes = if label == Label::LogHead { bytes } else { armour::decode(Label::LogHead, text.as_bytes())? };
    let (head, _) = head::verify(&head::read_head(&bytes)?)?;
    if head.entity != *own {
        return Err(foreign(&head.entity));
    }
    Ok(Held::from(&head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::health::alarms;

    #[test]
    fn a_counterparts_log_is_an_alarm_unless_its_restore_explains_it() {
        for kind in [AlarmKind::Shorter, AlarmKind::Rewritten, AlarmKind::Unproven] {
            for restored in [false, true] {
                let warning = peer_log_warning("Zuid", kind, restored);
                assert_eq!(alarms(std::slice::from_ref(&warning)), usize::from(!restored), "{warning}");
            }
        }
    }
}
