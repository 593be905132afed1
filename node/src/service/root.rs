//! Where the root key comes from when something must be signed by it.
//!
//! **Invariant:** a root is handed out for one request, wiped afterwards, and only if it is this entity's current one.

use pakt_keys::signing::RootKey;

use super::{Answer, Node, blocking};
use crate::api::types::Signing;
use crate::root;

impl Node {
    /// The root, opened for one request.
    ///
    /// # Errors
    /// `locked` when it lies elsewhere or needs approvals and `signing` does not open it.
    pub(super) async fn root(&self, signing: &Signing) -> Answer<RootKey> {
        let (identity, signing) = (self.inner.entity.current(), signing.clone());
        let two_demanded = self.inner.config.approvals == Some(2);
        blocking(move || root::open(identity.root(), &signing, &identity.node().root, two_demanded)).await
    }
}
