//! Where the root key comes from when something must be signed by it.
//!
//! **Invariant:** a root is handed out for one request, wiped afterwards, and only if it is this entity's current one.

use pakt_keys::signing::RootKey;

use super::{Answer, Node};
use crate::api::types::{ErrorCode, ServiceError, Signing};

impl Node {
    /// The root, opened for one request.
    ///
    /// # Errors
    /// `locked` when it lies elsewhere or is guarded and `signing` does not open it.
    pub(super) async fn root(&self, signing: &Signing) -> Answer<RootKey> {
        let identity = self.inner.entity.current();
        if signing.root.is_some() || !signing.approvals.is_empty() {
            let message = "the root lies in this data directory and needs no approvals";
            return Err(ServiceError::new(ErrorCode::Usage, message, "leave out --root and --approval"));
        }
        let root = identity.root().map(|root| RootKey::from_seed(*root.seed()));
        root.ok_or_else(|| {
            let message = "the root key is not in this data directory";
            ServiceError::new(ErrorCode::Locked, message, "name its file with --root")
        })
    }
}
