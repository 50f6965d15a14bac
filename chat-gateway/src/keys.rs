//! Keys of chats. (Asks the vault each time.)

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    message::{Label, Provider},
    vault_client::{KeyError, ResolvedKey, VaultClient},
};

/// Keys of chats.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    vault: VaultClient,
}

/// A key.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: Arc<ResolvedKey>,
}

impl Keys {
    pub(crate) fn new(vault: VaultClient) -> Self {
        Self { vault }
    }

    pub(crate) async fn get(
        &self,
        organization: &Label,
        profile: Option<&Label>,
        provider: Provider,
        deadline: Instant,
    ) -> Result<Held, Arc<KeyError>> {
        let key = self.vault.resolve(organization, profile, provider, deadline).await?;
        Ok(Held { key: Arc::new(key) })
    }

    #[expect(clippy::unused_self, reason = "nothing is kept yet")]
    pub(crate) fn forget(&self, _refused: &Held) {}
}
