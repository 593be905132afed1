//! Errors of the parts below in the API's kinds, each with what to do next.

use pakt_protocol::armour::ArmourError;
use pakt_protocol::codec::CodecError;
use pakt_protocol::record::RecordError;

use crate::api::types::{ErrorCode, ServiceError};
use crate::blob::BlobError;
use crate::book::BookError;
use crate::content::{ReadManifestError, SealTreeError};
use crate::entity::EntityError;
use crate::introductions::IntroductionError;
use crate::mailroom::MailError;
use crate::slots::SlotsError;
use crate::store::StoreError;

const ASK_AGAIN: &str = "ask for the file again; it may have been cut or changed on its way";
const SEE_LOG: &str = "see the node's log";

/// Work that ended without an answer.
pub(crate) fn broken_off() -> ServiceError {
    ServiceError::new(ErrorCode::Failed, "the work was broken off", SEE_LOG)
}

/// What happens to those who come while the node ends.
pub(super) fn stopping() -> ServiceError {
    ServiceError::new(ErrorCode::NotRunning, "the node is stopping", "start it again with `pakt run`")
}

/// An error whose text says what is wrong, then a colon or semicolon and what to do.
fn split(code: ErrorCode, text: &str) -> ServiceError {
    let parts = text.split_once("; ").or_else(|| text.split_once(": "));
    let (message, hint) = parts.unwrap_or((text, ""));
    ServiceError::new(code, message, hint)
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Locked => ErrorCode::Busy,
            StoreError::Full => ErrorCode::Full,
            StoreError::Newer { .. } | StoreError::Earlier | StoreError::WrongKey | StoreError::Damaged(_) => {
                ErrorCode::Damaged
            }
            StoreError::Closed => return stopping(),
            StoreError::Io(_) | StoreError::Failed | StoreError::TooLarge { .. } | StoreError::Panicked => {
                ErrorCode::Failed
            }
        };
        split(code, &error.to_string())
    }
}

impl From<SlotsError> for ServiceError {
    fn from(error: SlotsError) -> Self {
        let code = match &error {
            SlotsError::Format(_) => ErrorCode::Damaged,
            error if error.is_transient() => ErrorCode::Full,
            SlotsError::Disk(_) | SlotsError::Failed => ErrorCode::Failed,
        };
        let mut error = split(code, &error.to_string());
        if code == ErrorCode::Damaged {
            error.message = format!("keys/slots in the data directory: {}", error.message);
        }
        error
    }
}

impl From<BlobError> for ServiceError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Store(error) => error.into(),
            BlobError::Closed => stopping(),
            BlobError::Full => split(ErrorCode::Full, &error.to_string()),
            BlobError::Missing | BlobError::Damaged(_) => split(ErrorCode::Damaged, &error.to_string()),
            BlobError::TooLarge { .. } | BlobError::Disk(_) => split(ErrorCode::Failed, &error.to_string()),
        }
    }
}

impl From<MailError> for ServiceError {
    fn from(error: MailError) -> Self {
        match error {
            MailError::Store(error) => error.into(),
            MailError::Blobs(error) => error.into(),
            MailError::Slots(error) => error.into(),
            MailError::Missing => {
                let hint = "see `pakt inbox list` and `pakt outbox list`";
                ServiceError::new(ErrorCode::NotFound, "there is no message with this id", hint)
            }
            // Only what arrives meets it, and that is answered to its sender.
            MailError::IdTaken => {
                ServiceError::new(ErrorCode::Conflict, error.to_string(), "its sender sends it under a new id")
            }
        }
    }
}

impl From<EntityError> for ServiceError {
    fn from(error: EntityError) -> Self {
        ServiceError::new(ErrorCode::Damaged, error.to_string(), "use the keystore that belongs to this data directory")
    }
}

impl From<ArmourError> for ServiceError {
    fn from(error: ArmourError) -> Self {
        match error {
            ArmourError::WrongLabel { .. } => {
                ServiceError::new(ErrorCode::Usage, error.to_string(), "name the right file")
            }
            error => ServiceError::new(ErrorCode::Damaged, error.to_string(), ASK_AGAIN),
        }
    }
}

impl From<RecordError> for ServiceError {
    fn from(error: RecordError) -> Self {
        let hint = match &error {
            RecordError::Codec(CodecError::Newer { .. }) => "it was made by a newer `pakt`: upgrade this one",
            RecordError::Parties(_) => "check that these files belong together",
            _ => ASK_AGAIN,
        };
        ServiceError::new(ErrorCode::Damaged, error.to_string(), hint)
    }
}

impl From<BookError> for ServiceError {
    fn from(error: BookError) -> Self {
        let code = match error {
            BookError::Store(error) => return error.into(),
            BookError::Slots(error) => return error.into(),
            BookError::Armour(error) => return error.into(),
            BookError::Record(error) => return error.into(),
            BookError::Unknown | BookError::NoSuchGroup => ErrorCode::NotFound,
            BookError::OwnCard
            | BookError::OwnProposal
            | BookError::NotForUs
            | BookError::AlreadySigned
            | BookError::NotCountersigned
            | BookError::NothingChanged
            | BookError::NothingToConfirm
            | BookError::NothingToWithdraw => ErrorCode::Usage,
            BookError::NothingOffered => ErrorCode::NotFound,
            BookError::Ended
            | BookError::AcceptByPassed
            | BookError::NotActive
            | BookError::Unconfirmed
            | BookError::Withdrawn => ErrorCode::NoAgreement,
            BookError::Older
            | BookError::AlreadySuspended
            | BookError::NotSuspended
            | BookError::OtherBase
            | BookError::SignedOther(_)
            | BookError::ChangedMeanwhile
            | BookError::OutdatedCard
            | BookError::SecondAgreement(_)
            | BookError::NoGrant
            | BookError::GroupExists
            | BookError::TooManyGroups
            | BookError::Hello(_) => ErrorCode::Conflict,
        };
        split(code, &error.to_string())
    }
}

impl From<IntroductionError> for ServiceError {
    fn from(error: IntroductionError) -> Self {
        let code = match error {
            IntroductionError::Book(error) => return error.into(),
            IntroductionError::Store(error) => return error.into(),
            IntroductionError::Record(error) => return error.into(),
            IntroductionError::Unknown => ErrorCode::NotFound,
            IntroductionError::Decided => ErrorCode::Conflict,
            IntroductionError::TooMany => ErrorCode::Busy,
            IntroductionError::TooLong => ErrorCode::TooLarge,
            IntroductionError::NoIntroducer => ErrorCode::NoAgreement,
        };
        split(code, &error.to_string())
    }
}

impl From<SealTreeError> for ServiceError {
    fn from(error: SealTreeError) -> Self {
        let code = match error {
            SealTreeError::Blob(error) => return error.into(),
            SealTreeError::Stopped(_) => return stopping(),
            SealTreeError::TooLarge { .. } => ErrorCode::Refused,
            SealTreeError::TooManyEntries | SealTreeError::Head(_) | SealTreeError::Malformed => ErrorCode::Usage,
            SealTreeError::Truncated
            | SealTreeError::Read(_)
            | SealTreeError::Changed
            | SealTreeError::Entry { .. }
            | SealTreeError::NotClean { .. } => ErrorCode::Failed,
        };
        // The text for the local user names the entry; it goes nowhere else.
        split(code, &error.message())
    }
}

impl From<ReadManifestError> for ServiceError {
    fn from(error: ReadManifestError) -> Self {
        match error {
            ReadManifestError::Local(error) => error.into(),
            ReadManifestError::Unopenable(_) => {
                ServiceError::new(ErrorCode::Damaged, error.to_string(), "ask the sender to send it again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_wrong_and_what_to_do() {
        let check = |error: ServiceError, exit: u8, says: &str, hints: &str| {
            assert_eq!(error.code.exit_code(), exit, "{error}");
            assert!(error.message.contains(says), "{error:?}");
            assert!(error.hint.contains(hints), "{error:?}");
        };
        check(StoreError::Locked.into(), 1, "in use by another process", "stop it");
        check(StoreError::Full.into(), 1, "disk is full", "free some space");
        check(StoreError::Newer { found: 9, supported: 1 }.into(), 6, "format 9", "upgrade");
        check(StoreError::Earlier.into(), 6, "earlier version of pakt, before 0.1's release", "begin anew");
        check(StoreError::WrongKey.into(), 6, "does not open", "keystore");
        check(StoreError::Closed.into(), 5, "stopping", "pakt run");
        check(BlobError::Full.into(), 1, "disk is full", "free some space");
        check(MailError::Missing.into(), 4, "no message", "inbox list");
        check(BookError::Unknown.into(), 4, "no such agreement", "agreement list");
        check(BookError::Ended.into(), 3, "has ended", "propose a new one");
        check(BookError::AlreadySigned.into(), 2, "signed by both", "agreement import");
        check(BookError::GroupExists.into(), 1, "exists already", "");
        check(SealTreeError::Truncated.into(), 1, "ended before", "send it again");
        check(SealTreeError::TooLarge { bytes_max: 5 }.into(), 3, "larger", "");
    }

    #[test]
    fn records_of_a_newer_program_name_the_remedy() {
        let error = ServiceError::from(RecordError::Codec(CodecError::Newer { found: 9, supported: 1 }));
        assert_eq!(error.code, ErrorCode::Damaged);
        assert!(error.hint.contains("newer"));
    }
}
