//! From a database and a secrets manager to a vault that can seal: at every start.
//!
//! A new database gets its identity and its first KEK. An old one is only served with
//! the keys it was sealed with; nothing here ever replaces a key that rows need.

use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    seal::{
        self, Binding, CheckedKek, KekError, Sealer,
        secrets_manager::{Managers, SecretsManager},
    },
    store::{self, Meta, Store},
};

/// How many sealed versions are checked before the vault serves. More are checked in
/// the background of later versions; ten thousand take less than a second.
const CHECKED_AT_START: u64 = 10_000;

/// How many of them are read at once.
const CHECK_PAGE: u64 = 500;

/// Why the vault does not serve. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnsealError {
    /// The database does not answer.
    #[error("the database cannot be read")]
    Store(#[from] store::Error),
    /// A KEK cannot be used.
    #[error("the keys of this database cannot be opened: bring back the keyring it was set up with")]
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

/// Sets up a new database, or opens the KEKs of an old one and checks them.
pub(crate) async fn unseal(store: &Store, managers: &Managers) -> Result<Sealer, UnsealError> {
    let meta = match store.meta().await? {
        Some(meta) => meta,
        None => initialize(store, managers.configured()).await?,
    };
    let mut keks = Vec::new();
    let mut primaries = Vec::new();
    for kek in store.keks().await? {
        if kek.primary {
            primaries.push(kek.record.id.clone());
        }
        keks.push(CheckedKek::open(&kek.record, meta.vault, managers).await?);
    }
    for (kek_id, count) in store.kek_references().await? {
        if !keks.iter().any(|kek| kek.id() == kek_id) {
            return Err(UnsealError::MissingKek { kek_id, count });
        }
    }
    let [primary] = primaries.as_slice() else { return Err(UnsealError::Primaries(primaries.len())) };
    let sealer =
        Sealer::new(meta.vault, keks, primary.clone(), &meta.fingerprint_key).map_err(UnsealError::FingerprintKey)?;
    check_versions(store, &sealer).await?;
    Ok(sealer)
}

async fn initialize(store: &Store, manager: &dyn SecretsManager) -> Result<Meta, UnsealError> {
    let vault = Uuid::new_v4();
    // Ids are never reused, across vaults neither: a keyring may serve several.
    let kek_id = format!("kek-{}", Uuid::now_v7().as_hyphenated());
    let (kek, record) = CheckedKek::create(kek_id, vault, manager).await?;
    let fingerprint_key = Sealer::new_fingerprint_key(vault, &kek).map_err(UnsealError::FingerprintKey)?;
    let meta = Meta { vault, fingerprint_key };
    let tx = store.begin().await?;
    if tx.initialize(&meta, &record).await? {
        tx.commit().await?;
        info!(vault.id = %vault, "a new vault was set up");
        return Ok(meta);
    }
    drop(tx);
    // Another replica was first; its vault is the one.
    store.meta().await?.ok_or(UnsealError::Store(store::Error::Damaged("vault_meta")))
}

/// Opens stored versions once. One that does not open harms its own key only.
async fn check_versions(store: &Store, sealer: &Sealer) -> Result<(), UnsealError> {
    let (mut checked, mut after) = (0, None);
    let mut broken = Vec::new();
    while checked < CHECKED_AT_START {
        let page = store.sealed_versions(after, CHECK_PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.id, last.version));
        checked += page.len() as u64;
        for row in &page {
            let binding =
                Binding { organization: &row.organization, key: row.id, provider: row.provider, version: row.version };
            if let Err(error) = sealer.open(&binding, &row.sealed) {
                warn!(key.id = %row.id, org.id = %row.organization, %error, "a stored key does not open");
                broken.push(row.id);
            }
        }
    }
    info!(checked, undecryptable = broken.len(), "stored keys checked");
    Ok(())
}
