//! The door of the micro-benchmarks (`benches/`): built for them only, with the feature
//! `benchmarks`.

use uuid::Uuid;

use crate::{
    key::{KeyId, KeyMaterial, OrganizationId, Provider},
    seal::{Binding, CheckedKek, Sealed, Sealer, secrets_manager::LocalKeyring},
};

const KEK: &str = "kek-1";

/// A sealer of a new vault, and the row that it seals for.
#[derive(Debug)]
pub struct Seal {
    sealer: Sealer,
    organization: OrganizationId,
    key: KeyId,
}

/// A key that was sealed.
#[derive(Debug)]
pub struct SealedKey(Sealed);

impl Seal {
    /// One whose key encryption key is wrapped by a keyring.
    ///
    /// # Errors
    ///
    /// Fails if no keyring can be written, or there is no randomness.
    pub async fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("keyring");
        LocalKeyring::create(&path)?;
        let vault = Uuid::new_v4();
        let (kek, _) = CheckedKek::create(KEK.to_owned(), vault, &LocalKeyring::load(&path)?).await?;
        let fingerprint_key = Sealer::new_fingerprint_key(vault, &kek)?;
        let sealer = Sealer::new(vault, [kek], &fingerprint_key)?;
        Ok(Self { sealer, organization: OrganizationId::try_from("acme".to_owned())?, key: KeyId::new() })
    }

    /// Seals a key.
    ///
    /// # Errors
    ///
    /// Fails if there is no randomness.
    pub fn seal(&self, material: &KeyMaterial) -> anyhow::Result<SealedKey> {
        Ok(SealedKey(self.sealer.seal(KEK, &self.binding(), material)?))
    }

    /// Opens what [`Seal::seal`] made.
    ///
    /// # Errors
    ///
    /// Fails if another has made it.
    pub fn open(&self, sealed: &SealedKey) -> anyhow::Result<KeyMaterial> {
        Ok(self.sealer.open(&self.binding(), &sealed.0)?)
    }

    fn binding(&self) -> Binding<'_> {
        Binding { organization: &self.organization, key: self.key, provider: Provider::OpenAi, version: 1 }
    }
}
