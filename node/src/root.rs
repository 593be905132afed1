//! Opening the root for one signature: from the keystore, from a root file, with or without the approval of two persons.
//!
//! **Invariant:** a root counts only if it is the one that the node's certificates name now.

use pakt_keys::keystore::{self, Approval, ApprovalError, Argon2Params, HeldRoot, KeystoreError, Protection};
use pakt_keys::signing::{RootKey, RootPublic};
use pakt_protocol::armour::{self, Label};
use zeroize::Zeroizing;

use crate::ambient;
use crate::api::types::{ErrorCode, ServiceError, Signing};

const NAME_ITS_FILE: &str = "name its file with --root FILE";
const NAME_BOTH: &str = "name both with --approval NAME=FILE, as `pakt approver list` shows them";

/// Opens the root: the one of the file that `signing` carries, else `held`, which lies in the keystore.
///
/// Blocks: each passphrase costs a moment.
///
/// # Errors
/// `locked` when it is not there or does not open, `refused` when two approvals are demanded and nobody can give them.
pub fn open(
    held: Option<&HeldRoot>,
    signing: &Signing,
    current: &RootPublic,
    two_demanded: bool,
) -> Result<RootKey, ServiceError> {
    let from_file = match &signing.root {
        Some(text) => Some(read_file(text, signing.root_passphrase.as_deref().map(str::as_bytes))?),
        None => None,
    };
    let held = from_file.as_ref().or(held).ok_or_else(|| {
        ServiceError::new(ErrorCode::Locked, "the root key is not in this data directory", NAME_ITS_FILE)
    })?;
    if held.public() != *current {
        let message = "this root is not the one that this entity's certificates name now";
        return Err(ServiceError::new(ErrorCode::Locked, message, "use the file that was written last"));
    }
    if two_demanded && !held.needs_approvals() {
        let message = "the settings demand two approvals, but fewer than two approvers are named";
        return Err(ServiceError::new(ErrorCode::Refused, message, "name them first: `pakt approver add`"));
    }
    open_held(held, signing)
}

/// Opens a root with the approvals that were given.
///
/// # Errors
/// `locked`, with what is missing.
pub fn open_held(held: &HeldRoot, signing: &Signing) -> Result<RootKey, ServiceError> {
    let approvals: Vec<Approval<'_>> = signing
        .approvals
        .iter()
        .map(|approval| Approval { name: &approval.name, passphrase: approval.passphrase.as_bytes() })
        .collect();
    Ok(held.key(&approvals)?)
}

/// Reads the armoured text of a root file.
///
/// # Errors
/// `locked` for a missing or wrong passphrase, `damaged` or `usage` for another file.
pub fn read_file(text: &str, passphrase: Option<&[u8]>) -> Result<HeldRoot, ServiceError> {
    let bytes = Zeroizing::new(armour::decode(Label::Root, text.as_bytes())?);
    let protection = passphrase.map_or(Protection::None, Protection::Passphrase);
    keystore::unlock_root(&bytes, protection).map_err(file_error)
}

/// Whether a root file needs a passphrase.
///
/// # Errors
/// `damaged` or `usage` for another file.
pub fn is_protected(text: &str) -> Result<bool, ServiceError> {
    let bytes = Zeroizing::new(armour::decode(Label::Root, text.as_bytes())?);
    keystore::is_root_protected(&bytes).map_err(file_error)
}

/// The armoured text of a root file.
///
/// # Errors
/// `locked` for an empty passphrase.
pub fn file_text(held: &HeldRoot, passphrase: Option<&[u8]>) -> Result<Zeroizing<String>, ServiceError> {
    let protection = passphrase.map_or(Protection::None, Protection::Passphrase);
    let bytes = keystore::lock_root(held, protection, Argon2Params::default(), &mut ambient::rng());
    let bytes = Zeroizing::new(bytes.map_err(file_error)?);
    Ok(Zeroizing::new(armour::encode(Label::Root, &bytes)))
}

fn file_error(error: KeystoreError) -> ServiceError {
    let (code, message, hint) = match error {
        KeystoreError::Locked => {
            (ErrorCode::Locked, "the root file needs its passphrase", "name its file with --root-passphrase-file FILE")
        }
        KeystoreError::WrongPassphrase => {
            (ErrorCode::Locked, "the passphrase does not open the root file", "it has one of its own")
        }
        KeystoreError::EmptyPassphrase => (ErrorCode::Locked, "the passphrase of the root file is empty", "choose one"),
        KeystoreError::Newer { .. } => {
            (ErrorCode::Damaged, "a newer program wrote the root file", "use the newer `pakt` that wrote it")
        }
        KeystoreError::OutOfMemory => {
            (ErrorCode::Failed, "there is not enough memory to check the passphrase", "free some memory and try again")
        }
        KeystoreError::Damaged | KeystoreError::BadParameters | KeystoreError::ChainTooLong => {
            (ErrorCode::Damaged, "the root file is damaged", "take another copy of it")
        }
    };
    ServiceError::new(code, message, hint)
}

impl From<ApprovalError> for ServiceError {
    fn from(error: ApprovalError) -> ServiceError {
        let (code, hint) = match &error {
            ApprovalError::NotTwo(_) | ApprovalError::SamePerson(_) => (ErrorCode::Locked, NAME_BOTH),
            ApprovalError::Unknown(_) => (ErrorCode::Locked, "see `pakt approver list`"),
            ApprovalError::WrongPassphrase(_) | ApprovalError::EmptyPassphrase(_) => {
                (ErrorCode::Locked, "each approver has a passphrase of their own")
            }
            ApprovalError::Exists(_) | ApprovalError::TooMany => (ErrorCode::Conflict, "see `pakt approver list`"),
            ApprovalError::Name => (ErrorCode::Usage, "choose another name"),
            ApprovalError::OtherRoot => (ErrorCode::Locked, NAME_ITS_FILE),
            ApprovalError::Damaged => (ErrorCode::Damaged, "restore the file from where it was kept"),
            ApprovalError::OutOfMemory => (ErrorCode::Failed, "free some memory and try again"),
        };
        ServiceError::new(code, error.to_string(), hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types;

    fn approver(name: &str) -> keystore::Approver {
        let cheap = Argon2Params::new(8, 1, 1).unwrap();
        keystore::Approver::create(name, name.as_bytes(), cheap, &mut ambient::rng()).unwrap()
    }

    fn signing(names: &[&str]) -> Signing {
        let approve = |name: &&str| types::Approval { name: (*name).to_owned(), passphrase: (*name).to_owned() };
        Signing { root: None, root_passphrase: None, approvals: names.iter().map(approve).collect() }
    }

    #[test]
    fn a_root_opens_where_it_lies_and_as_it_must() {
        let root = RootKey::from_seed([3; 32]);
        let open_root = HeldRoot::open(RootKey::from_seed([3; 32]));
        let rng = &mut ambient::rng();
        let one = open_root.with_approver(&root, approver("Anna"), rng).unwrap();
        let two = one.with_approver(&root, approver("Ole"), rng).unwrap();
        let check = |held: Option<&HeldRoot>, signing: &Signing, two_demanded: bool, error: Option<(u8, &str)>| {
            let outcome = open(held, signing, &root.public(), two_demanded);
            let told = outcome.as_ref().err().map(|e| (e.code.exit_code(), e.message.as_str()));
            assert_eq!(told.map(|(code, _)| code), error.map(|(code, _)| code), "{told:?}");
            let (told, wanted) = (told.map_or("", |(_, text)| text), error.map_or("", |(_, text)| text));
            assert!(told.contains(wanted), "{told}");
            assert!(outcome.is_err() || outcome.unwrap().public() == root.public());
        };
        check(Some(&open_root), &Signing::default(), false, None);
        check(Some(&open_root), &Signing::default(), true, Some((3, "two approvals")));
        check(None, &Signing::default(), false, Some((6, "not in this data directory")));
        check(Some(&two), &signing(&["Ole", "Anna"]), true, None);
        check(Some(&two), &Signing::default(), false, Some((6, "0 approved")));
        check(Some(&two), &signing(&["Anna"]), false, Some((6, "1 approved")));
        check(Some(&two), &signing(&["Anna", "Anna"]), false, Some((6, "same person, Anna")));
        check(Some(&two), &signing(&["Anna", "Eva"]), false, Some((6, "no approver named Eva")));
        let file = file_text(&two, Some(b"word")).unwrap().to_string();
        let of_file = |passphrase: Option<&str>, root: &str| {
            let mut signing = signing(&["Anna", "Ole"]);
            signing.root = Some(root.to_owned());
            signing.root_passphrase = passphrase.map(str::to_owned);
            signing
        };
        check(None, &of_file(Some("word"), &file), true, None);
        check(None, &of_file(Some("Word"), &file), true, Some((6, "does not open the root file")));
        check(None, &of_file(None, &file), true, Some((6, "needs its passphrase")));
        let foreign = file_text(&HeldRoot::open(RootKey::from_seed([4; 32])), None).unwrap();
        check(Some(&open_root), &of_file(None, &foreign), false, Some((6, "not the one")));
        assert!(is_protected(&file).unwrap() && !is_protected(&foreign).unwrap());
    }
}
