//! What opens the root key for one request; every request whose work the root must sign carries it as `signing`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::ZeroizeOnDrop;

/// How the root is opened for this one request; empty while it lies in the data directory and needs no approvals.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema, ZeroizeOnDrop)]
pub struct Signing {
    /// The armoured root file, where the root is kept elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The passphrase of that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_passphrase: Option<String>,
    /// Those who approve, where the root needs approvals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
}

/// One person's approval of this one request.
#[derive(Clone, Serialize, Deserialize, ToSchema, ZeroizeOnDrop)]
pub struct Approval {
    /// The approver's name, as in `pakt approver list`.
    pub name: String,
    /// The approver's own passphrase.
    pub passphrase: String,
}

/// A request that says nothing but how the root is opened.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct SignedRequest {
    /// How the root is opened.
    #[serde(default)]
    pub signing: Signing,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signing(root: {}, approvals: {})", self.root.is_some(), self.approvals.len())
    }
}

impl std::fmt::Debug for Approval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Approval(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_signing_shows() {
        let approval = Approval { name: "canary".into(), passphrase: "canary".into() };
        let root = Some("canary".to_owned());
        let signing = Signing { root_passphrase: root.clone(), root, approvals: vec![approval] };
        assert!(!format!("{signing:?} {:?}", signing.approvals[0]).contains("canary"));
    }

    #[test]
    fn requests_without_one_are_read() {
        let request: SignedRequest = serde_json::from_str("{}").unwrap();
        assert!(request.signing.root.is_none() && request.signing.approvals.is_empty());
    }
}
