use std::sync::Arc;

use super::{
    secrets_manager::{LocalKeyring, Managers},
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

    async fn sealer(&self, vault: Uuid) -> Sealer {
        let (kek, _) = CheckedKek::create("kek-1".to_owned(), vault, self.managers.configured()).await.unwrap();
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
async fn a_sealed_key_opens_nowhere_else() {
    let world = World::new();
    let vault = Uuid::new_v4();
    let vault_sealer = world.sealer(vault).await;
    let (acme, other) = (organization("acme"), organization("acm"));
    let here = Binding { organization: &acme, key: KeyId::new(), provider: Provider::OpenAi, version: 1 };
    let sealed = vault_sealer.seal("kek-1", &here, &material("sk-secret")).unwrap();
    let elsewhere = [
        Binding { organization: &other, ..here },
        Binding { key: KeyId::new(), ..here },
        Binding { provider: Provider::Gemini, ..here },
        Binding { version: 2, ..here },
    ];
    for binding in &elsewhere {
        assert_eq!(vault_sealer.open(binding, &sealed).unwrap_err(), Error::NotAuthentic, "{binding:?}");
        // Each layer is bound by itself: a row's own DEK does not open another's payload.
        let own = vault_sealer.seal("kek-1", binding, &material("sk-other")).unwrap();
        for mixed in [
            Sealed { payload: sealed.payload.clone(), ..own.clone() },
            Sealed { dek: sealed.dek.clone(), ..own.clone() },
        ] {
            assert_eq!(vault_sealer.open(binding, &mixed).unwrap_err(), Error::NotAuthentic, "{binding:?}");
        }
    }
    let foreign = world.sealer(Uuid::new_v4()).await;
    assert_eq!(foreign.open(&here, &sealed).unwrap_err(), Error::NotAuthentic);
}

#[tokio::test]
async fn no_single_bit_may_change() {
    let vault_sealer = World::new().sealer(Uuid::new_v4()).await;
    let acme = organization("acme");
    let binding = Binding { organization: &acme, key: KeyId::new(), provider: Provider::Anthropic, version: 3 };
    let sealed = vault_sealer.seal("kek-1", &binding, &material("sk-ant-0123456789")).unwrap();
    for bit in 0..sealed.payload.len() * 8 {
        let mut changed = sealed.clone();
        changed.payload[bit / 8] ^= 1 << (bit % 8);
        assert!(vault_sealer.open(&binding, &changed).is_err(), "payload bit {bit}");
    }
    for bit in 0..sealed.dek.len() * 8 {
        let mut changed = sealed.clone();
        changed.dek[bit / 8] ^= 1 << (bit % 8);
        assert!(vault_sealer.open(&binding, &changed).is_err(), "DEK bit {bit}");
    }
    for length in 0..sealed.dek.len() {
        let cut = Sealed { dek: sealed.dek[..length].to_vec(), ..sealed.clone() };
        assert!(vault_sealer.open(&binding, &cut).is_err(), "DEK cut to {length}");
    }
    for length in 0..sealed.payload.len() {
        let cut = Sealed { payload: sealed.payload[..length].to_vec(), ..sealed.clone() };
        assert!(vault_sealer.open(&binding, &cut).is_err(), "payload cut to {length}");
    }
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
    let (_, record) = CheckedKek::create("kek-1".to_owned(), vault, world.managers.configured()).await.unwrap();
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
