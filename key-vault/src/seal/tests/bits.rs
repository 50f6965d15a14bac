//! Sealed values of which one bit was changed, or the end is missing.

use super::*;

/// Every copy of `blob` with one bit changed.
fn one_bit_changed(blob: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..blob.len() * 8).map(|bit| {
        let mut changed = blob.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

/// Every beginning of `blob`, and `blob` with something behind it.
fn other_length(blob: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..blob.len()).map(|length| blob[..length].to_vec()).chain([[blob, &[0]].concat()])
}

#[tokio::test]
async fn no_single_bit_of_a_sealed_key_may_change() {
    let vault_sealer = World::new().sealer(Uuid::new_v4()).await;
    let acme = organization("acme");
    let binding = Binding { organization: &acme, key: KeyId::new(), provider: Provider::Anthropic, version: 3 };
    let sealed = vault_sealer.seal("kek-1", &binding, &material("sk-ant-0123456789")).unwrap();
    let mut refused = 0;
    for payload in one_bit_changed(&sealed.payload).chain(other_length(&sealed.payload)) {
        let changed = Sealed { payload, ..sealed.clone() };
        assert!(vault_sealer.open(&binding, &changed).is_err(), "payload {:x?}", changed.payload);
        refused += 1;
    }
    for dek in one_bit_changed(&sealed.dek).chain(other_length(&sealed.dek)) {
        let changed = Sealed { dek, ..sealed.clone() };
        assert!(vault_sealer.open(&binding, &changed).is_err(), "DEK {:x?}", changed.dek);
        refused += 1;
    }
    // Header, nonce, ciphertext and tag; the DEK has its KEK's id as well.
    assert_eq!((sealed.payload.len(), sealed.dek.len()), (5 + 12 + 17 + 16, 5 + 1 + 5 + 12 + 32 + 16));
    assert_eq!(refused, (50 + 71) * 9 + 2);
}

#[tokio::test]
async fn no_single_bit_of_a_kek_or_a_fingerprint_key_may_change() {
    let world = World::new();
    let vault = Uuid::new_v4();
    let (kek, record) = world.kek("kek-1", vault).await;
    let fingerprint_key = Sealer::new_fingerprint_key(vault, &kek).unwrap();
    let assert_refused = async |record: KekRecord| {
        assert!(CheckedKek::open(&record, vault, &world.managers).await.is_err(), "{record:x?}");
    };
    let mut refused = 0;
    let blob = &record.wrapped.blob;
    for blob in one_bit_changed(blob).chain(other_length(blob)) {
        assert_refused(KekRecord { wrapped: WrappedKek { blob, ..record.wrapped.clone() }, ..record.clone() }).await;
        refused += 1;
    }
    for canary in one_bit_changed(&record.canary).chain(other_length(&record.canary)) {
        assert_refused(KekRecord { canary, ..record.clone() }).await;
        refused += 1;
    }
    for check_value in one_bit_changed(&record.check_value).chain(other_length(&record.check_value)) {
        assert_refused(KekRecord { check_value, ..record.clone() }).await;
        refused += 1;
    }
    for changed in one_bit_changed(&fingerprint_key).chain(other_length(&fingerprint_key)) {
        let kek = CheckedKek::open(&record, vault, &world.managers).await.unwrap();
        assert!(Sealer::new(vault, [kek], &changed).is_err(), "fingerprint key {changed:x?}");
        refused += 1;
    }
    let bytes = blob.len() + record.canary.len() + record.check_value.len() + fingerprint_key.len();
    assert_eq!(refused, bytes * 9 + 4);
}
