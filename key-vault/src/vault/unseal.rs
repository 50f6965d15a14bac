//! From a database and a secrets manager to a vault that can seal: at every start.
//!
//! A new database gets its identity and its first KEK. An old one is only served with
//! the keys it was sealed with; nothing here ever replaces a key that rows need.

use std::sync::Arc;

use tracing::{info, warn};
use uuid::Uuid;

use super::{Vault, keks};
use crate::{
    seal::{self, CheckedKek, KekError, KekState, Sealer},
    store::{self, Meta},
};

/// How many sealed versions are checked before the vault serves. The rest is checked once a
/// day; ten thousand take less than a second.
const CHECKED_AT_START: u64 = 10_000;

/// How many of them are read at once.
const CHECK_PAGE: u64 = 500;

/// Why the vault does not serve. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnsealError {
    /// The database does not answer.
    #[error("the database cannot be read")]
    Store(#[from] store::Error),
    /// A new database cannot be set up.
    #[error(
        "this new database cannot be set up: it needs a keyring (`key-vault keyring init` makes one) or a secrets manager that answers"
    )]
    FirstKek(#[source] KekError),
    /// A KEK cannot be used.
    #[error(
        "the keys of this database cannot be opened: it needs the keyring or the secrets manager that it was set up with"
    )]
    Kek(#[from] KekError),
    /// Sealed keys need a KEK that the database does not have.
    #[error("{count} sealed keys need key encryption key {kek_id:?}, which the database does not have")]
    MissingKek {
        /// Which.
        kek_id: String,
        /// How many versions need it.
        count: i64,
    },
    /// No KEK, or several, are marked as the one that seals.
    #[error("the database has {0} primary key encryption keys instead of one")]
    Primaries(usize),
    /// The key of the fingerprints does not open.
    #[error("the fingerprint key of this database does not open")]
    FingerprintKey(#[source] seal::Error),
}

impl Vault {
    /// Sets up a new database, or opens the KEKs of an old one and checks them; then this
    /// replica serves.
    pub(super) async fn unseal(&self) -> Result<(), UnsealError> {
        let meta = match self.store.meta().await? {
            Some(meta) => meta,
            None => self.set_up().await?,
        };
        let mut opened = Vec::new();
        let mut primaries = 0;
        for kek in self.store.keks().await? {
            primaries += usize::from(kek.state == KekState::Primary);
            if kek.state != KekState::Retired {
                opened.push(CheckedKek::open(&kek.record, meta.vault, &self.managers).await?);
            }
        }
        for (kek_id, count) in self.store.kek_references().await? {
            if !opened.iter().any(|kek| kek.id() == kek_id) {
                return Err(UnsealError::MissingKek { kek_id, count });
            }
        }
        if primaries != 1 {
            return Err(UnsealError::Primaries(primaries));
        }
        let sealer = Sealer::new(meta.vault, opened, &meta.fingerprint_key).map_err(UnsealError::FingerprintKey)?;
        self.begin_audit_log(sealer.audit_key()).await?;
        self.sealer.store(Some(Arc::new(sealer)));
        // Known to the others before it serves: nobody promotes a key past it.
        if let Err(super::Error::Store(error)) = self.report().await {
            self.sealer.store(None);
            return Err(error.into());
        }
        self.check_versions(Some(CHECKED_AT_START)).await?;
        self.condition.unsealed();
        self.metrics.sealed(false);
        info!(vault.id = %meta.vault, replica.id = %self.replica, "the vault is unsealed");
        Ok(())
    }

    async fn set_up(&self) -> Result<Meta, UnsealError> {
        let vault = Uuid::new_v4();
        // Ids are never reused, across vaults neither: a keyring may serve several.
        let kek_id = format!("kek-{}", Uuid::now_v7().as_hyphenated());
        let made = CheckedKek::create(kek_id, vault, self.managers.configured()).await;
        let (kek, record) = made.map_err(UnsealError::FirstKek)?;
        let fingerprint_key = Sealer::new_fingerprint_key(vault, &kek).map_err(UnsealError::FingerprintKey)?;
        let meta = Meta { vault, fingerprint_key };
        let tx = self.store.begin_keks().await?;
        if tx.initialize(&meta, &record).await? {
            tx.commit().await?;
            info!(vault.id = %vault, "a new vault was set up");
            return Ok(meta);
        }
        drop(tx);
        // Another replica was first; its vault is the one.
        self.store.meta().await?.ok_or(UnsealError::Store(store::Error::NotSetUp))
    }

    /// Opens stored versions once, the first `limit` or all. One that does not open harms its
    /// own key only.
    pub(super) async fn check_versions(&self, limit: Option<u64>) -> Result<(), store::Error> {
        let (mut checked, mut after, mut broken) = (0, None, 0);
        while limit.is_none_or(|limit| checked < limit) {
            let Some(sealer) = self.sealer.load_full() else { return Ok(()) };
            let page = self.store.sealed_versions(after, CHECK_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.id, last.version));
            checked += page.len() as u64;
            for row in &page {
                // A version under a key that was added meanwhile is not broken.
                if sealer.knows(&row.sealed.kek_id)
                    && let Err(error) = sealer.open(&keks::binding(row), &row.sealed)
                {
                    warn!(key.id = %row.id, org.id = %row.organization, %error, "a stored key does not open");
                    broken += 1;
                }
            }
        }
        self.condition.undecryptable(broken);
        self.metrics.decrypt_failures(broken);
        info!(checked, undecryptable = broken, "stored keys checked");
        Ok(())
    }
}
