//! Nonces and data keys, which must never be used twice.

use std::collections::HashSet;

use super::*;

/// Two to three seconds of a debug build. Among so many two random nonces of 96 bits are
/// equal with a chance below 2^-60; a generator that begins anew, or draws from 32 bits, is
/// found.
const SEALS: usize = 100_000;

#[tokio::test]
async fn no_nonce_and_no_data_key_comes_twice() {
    let vault_sealer = World::new().sealer(Uuid::new_v4()).await;
    let acme = organization("acme");
    let binding = Binding { organization: &acme, key: KeyId::new(), provider: Provider::OpenAi, version: 1 };
    let text = material("sk-same");
    let aad = vault_sealer.dek_aad(&binding, "kek-1");
    let (mut payload_nonces, mut dek_nonces, mut deks) = (HashSet::new(), HashSet::new(), HashSet::new());
    for _ in 0..SEALS {
        let sealed = vault_sealer.seal("kek-1", &binding, &text).unwrap();
        let nonce = |blob: &[u8], at: usize| <[u8; 12]>::try_from(&blob[at..at + 12]).unwrap();
        payload_nonces.insert(nonce(&sealed.payload, 5));
        dek_nonces.insert(nonce(&sealed.dek, 5 + 1 + "kek-1".len()));
        let wrapped = envelope::Wrapped::parse(Layer::Dek, &sealed.dek).unwrap();
        deks.insert(*vault_sealer.keks["kek-1"].unwrap(&wrapped, &aad).unwrap());
    }
    assert_eq!((payload_nonces.len(), dek_nonces.len(), deks.len()), (SEALS, SEALS, SEALS));
    assert!(payload_nonces.is_disjoint(&dek_nonces));
}
