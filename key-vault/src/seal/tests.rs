//! What sealed values are held to: the ordinary cases here, the exhaustive ones below.

mod bits;
mod swaps;
mod uniqueness;
mod vectors;

use std::sync::Arc;

use super::{
    secrets_manager::{Context, LocalKeyring, Managers, WrappedKek},
    *,
};

struct World {
    _folder: tempfile::TempDir,
    managers: Managers,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyring");
        LocalKeyring::create(&path).unwrap();
        let keyring = LocalKeyring::load(&path).unwrap();
        Self { _folder: folder, managers: Managers::new(Arc::new(keyring), Vec::new()) }
    }

    async fn kek(&self, id: &str, vault: Uuid) -> (CheckedKek, KekRecord) {
        CheckedKek::create(id.to_owned(), vault, self.managers.configured()).await.unwrap()
    }

    async fn sealer(&self, vault: Uuid) -> Sealer {
        let (kek, _) = self.kek("kek-1", vault).await;
        let fingerprint_key = Sealer::new_fingerprint_key(vault, &kek).unwrap();
        Sealer::new(vault, [kek], &fingerprint_key).unwrap()
    }
}

fn material(text: &str) -> KeyMaterial {
    KeyMaterial::try_from(text.to_owned()).unwrap()
}

fn organization(name: &str) -> OrganizationId {
    OrganizationId::try_from(name.to_owned()).unwrap()
}

#[tokio::test]
async fn a_sealed_key_opens_where_it_belongs() {
    let vault_sealer = World::new().sealer(Uuid::new_v4()).await;
    let acme = organization("acme");
    let binding = Binding { organization: &acme, key: KeyId::new(), provider: Provider::OpenAi, version: 1 };
    let sealed = vault_sealer.seal("kek-1", &binding, &material("sk-secret")).unwrap();
    assert_eq!(vault_sealer.open(&binding, &sealed).unwrap().expose(), "sk-secret");
    assert!(!sealed.payload.windows(9).any(|window| window == b"sk-secret"));
}

#[tokio::test]
async fn equal_keys_are_sealed_differently_and_have_equal_fingerprints() {
    let vault_sealer = World::new().sealer(Uuid::new_v4()).await;
    let (acme, other) = (organization("acme"), organization("other"));
    let binding = Binding { organization: &acme, key: KeyId::new(), provider: Provider::OpenAi, version: 1 };
    let (a, b) = (material("sk-same"), material("sk-same"));
    let (first, second) =
        (vault_sealer.seal("kek-1", &binding, &a).unwrap(), vault_sealer.seal("kek-1", &binding, &b).unwrap());
    assert!(first.payload != second.payload && first.dek != second.dek);

    let of = |organization, text| vault_sealer.fingerprint(organization, Provider::OpenAi, &material(text));
    assert_eq!(of(&acme, "sk-same"), of(&acme, "sk-same"));
    assert_ne!(of(&acme, "sk-same"), of(&acme, "sk-other"));
    assert_ne!(of(&acme, "sk-same"), of(&other, "sk-same"));
}

#[tokio::test]
async fn a_wrong_kek_is_told_from_a_wrong_canary_and_a_wrong_keyring() {
    let world = World::new();
    let vault = Uuid::new_v4();
    let (_, record) = world.kek("kek-1", vault).await;
    assert!(CheckedKek::open(&record, vault, &world.managers).await.is_ok());

    let other_bytes = KekRecord { check_value: vec![0; 8], ..record.clone() };
    let error = CheckedKek::open(&other_bytes, vault, &world.managers).await.unwrap_err();
    assert!(matches!(error, KekError::WrongBytes { .. }), "{error:?}");

    let mut changed = record.clone();
    *changed.canary.last_mut().unwrap() ^= 1;
    let error = CheckedKek::open(&changed, vault, &world.managers).await.unwrap_err();
    assert!(matches!(error, KekError::WrongCanary { .. }), "{error:?}");

    let elsewhere = World::new();
    let error = CheckedKek::open(&record, vault, &elsewhere.managers).await.unwrap_err();
    assert!(matches!(error, KekError::NotUnwrapped { .. }), "{error:?}");

    let error = CheckedKek::open(&record, Uuid::new_v4(), &world.managers).await.unwrap_err();
    assert!(matches!(error, KekError::NotUnwrapped { .. }), "{error:?}");
}
