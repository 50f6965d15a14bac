//! Sealed values in rows that they were not made for.

use super::*;

/// A row: what it is bound to, what is in it, and which of the two vaults it is of.
struct Row {
    vault: usize,
    organization: OrganizationId,
    key: KeyId,
    provider: Provider,
    version: i64,
    sealed: Sealed,
}

impl Row {
    fn binding(&self) -> Binding<'_> {
        Binding { organization: &self.organization, key: self.key, provider: self.provider, version: self.version }
    }
}

/// Two vaults with the same KEKs, so that only what a value is bound to keeps them apart,
/// and a row for each of 2 vaults, organizations, keys, providers and versions.
async fn rows() -> ([Sealer; 2], Vec<Row>) {
    let world = World::new();
    let vault = Uuid::new_v4();
    let (first, first_record) = world.kek("kek-1", vault).await;
    let (_, second_record) = world.kek("kek-2", vault).await;
    let fingerprint_key = Sealer::new_fingerprint_key(vault, &first).unwrap();
    let sealer = async || {
        let mut keks = Vec::new();
        for record in [&first_record, &second_record] {
            keks.push(CheckedKek::open(record, vault, &world.managers).await.unwrap());
        }
        Sealer::new(vault, keks, &fingerprint_key).unwrap()
    };
    let mut sealers = [sealer().await, sealer().await];
    sealers[1].vault = Uuid::new_v4();

    let keys = [KeyId::new(), KeyId::new()];
    let mut rows = Vec::new();
    for n in 0..32_usize {
        let bit = |position: usize| (n >> position) & 1;
        let mut row = Row {
            vault: bit(0),
            // One is the beginning of the other.
            organization: organization(["acme", "acm"][bit(1)]),
            key: keys[bit(2)],
            provider: [Provider::OpenAi, Provider::Anthropic][bit(3)],
            version: [1, 256][bit(4)],
            sealed: Sealed { payload: Vec::new(), dek: Vec::new(), kek_id: String::new() },
        };
        row.sealed = sealers[row.vault].seal("kek-1", &row.binding(), &material(&format!("sk-row-{n}"))).unwrap();
        rows.push(row);
    }
    (sealers, rows)
}

#[tokio::test]
async fn a_sealed_key_opens_in_its_own_row_and_in_no_other() {
    let (sealers, rows) = rows().await;
    let mut refused = 0;
    for (n, here) in rows.iter().enumerate() {
        let sealer = &sealers[here.vault];
        assert_eq!(sealer.open(&here.binding(), &here.sealed).unwrap().expose(), format!("sk-row-{n}"));

        for (m, there) in rows.iter().enumerate().filter(|(m, _)| *m != n) {
            let moved = [
                ("the whole row", there.sealed.clone()),
                ("the payload", Sealed { payload: there.sealed.payload.clone(), ..here.sealed.clone() }),
                ("the DEK", Sealed { dek: there.sealed.dek.clone(), ..here.sealed.clone() }),
                // Whoever has the KEK can bind a DEK to another row. The payload is bound by itself.
                ("the payload with its DEK wrapped for here", wrapped_for(here, &sealers[here.vault], there, &sealers)),
            ];
            for (what, sealed) in moved {
                let outcome = sealer.open(&here.binding(), &sealed).map(|_| ());
                assert_eq!(outcome, Err(Error::NotAuthentic), "{what} of row {m} in row {n}");
                refused += 1;
            }
            // `open` fails at the payload if the DEK is let through, so each DEK is tried alone.
            assert!(!dek_opens(sealer, there, &here.binding(), "kek-1"), "the DEK of row {m} in row {n}");
            refused += 1;
        }
        assert!(dek_opens(sealer, here, &here.binding(), "kek-1"));
        assert!(!dek_opens(sealer, here, &here.binding(), "kek-2"), "the DEK of row {n} for another KEK");
        refused += 1;

        // The KEK of a row: in its column, in the blob, in both.
        let mut renamed = here.sealed.dek.clone();
        let at = renamed.windows(5).position(|window| window == b"kek-1").unwrap();
        renamed[at..at + 5].copy_from_slice(b"kek-2");
        let other = "kek-2".to_owned();
        for sealed in [
            Sealed { kek_id: other.clone(), ..here.sealed.clone() },
            Sealed { dek: renamed.clone(), ..here.sealed.clone() },
            Sealed { dek: renamed, kek_id: other, ..here.sealed.clone() },
        ] {
            let outcome = sealer.open(&here.binding(), &sealed).map(|_| ());
            assert_eq!(outcome, Err(Error::NotAuthentic), "another KEK in row {n}");
            refused += 1;
        }
    }
    assert_eq!(refused, 32 * 31 * 5 + 32 * 4);
}

/// Whether the right KEK unwraps the DEK of a row for another place, or under another name.
fn dek_opens(sealer: &Sealer, row: &Row, binding: &Binding<'_>, kek_id: &str) -> bool {
    let wrapped = envelope::Wrapped::parse(Layer::Dek, &row.sealed.dek).unwrap();
    sealer.keks["kek-1"].unwrap(&wrapped, &sealer.dek_aad(binding, kek_id)).is_ok()
}

/// The payload of `there` with its own DEK, which is wrapped as if it were one of `here`.
fn wrapped_for(here: &Row, sealer: &Sealer, there: &Row, sealers: &[Sealer; 2]) -> Sealed {
    let kek = &sealer.keks["kek-1"];
    let wrapped = envelope::Wrapped::parse(Layer::Dek, &there.sealed.dek).unwrap();
    let dek = kek.unwrap(&wrapped, &sealers[there.vault].dek_aad(&there.binding(), "kek-1")).unwrap();
    let dek = kek.wrap(&SystemRandom::new(), &dek, &sealer.dek_aad(&here.binding(), "kek-1")).unwrap();
    Sealed { payload: there.sealed.payload.clone(), dek, kek_id: "kek-1".to_owned() }
}

#[tokio::test]
async fn a_kek_and_a_fingerprint_key_open_in_their_own_row_only() {
    let world = World::new();
    let (vault, other_vault) = (Uuid::new_v4(), Uuid::new_v4());
    let (first, first_record) = world.kek("kek-1", vault).await;
    let (_, second_record) = world.kek("kek-2", vault).await;
    let (_, foreign_record) = world.kek("kek-1", other_vault).await;

    for (record, vault) in [
        // The wrapped KEK of another row, of another vault, and under another name.
        (KekRecord { wrapped: second_record.wrapped.clone(), ..first_record.clone() }, vault),
        (KekRecord { wrapped: foreign_record.wrapped.clone(), ..first_record.clone() }, vault),
        (KekRecord { id: "kek-2".to_owned(), ..first_record.clone() }, vault),
        (first_record.clone(), other_vault),
        // Its check value and its canary.
        (KekRecord { check_value: second_record.check_value.clone(), ..first_record.clone() }, vault),
        (KekRecord { canary: second_record.canary.clone(), ..first_record.clone() }, vault),
        (KekRecord { canary: foreign_record.canary.clone(), ..first_record.clone() }, vault),
    ] {
        assert!(CheckedKek::open(&record, vault, &world.managers).await.is_err(), "{record:?}");
    }

    let fingerprint_key = Sealer::new_fingerprint_key(vault, &first).unwrap();
    let elsewhere = Sealer::new(other_vault, [first], &fingerprint_key).unwrap_err();
    assert_eq!(elsewhere, Error::NotAuthentic);
    // A canary is wrapped by the same KEK and is not a fingerprint key.
    let kek = CheckedKek::open(&first_record, vault, &world.managers).await.unwrap();
    let canary = Sealer::new(vault, [kek], &first_record.canary).unwrap_err();
    assert_eq!(canary, Error::NotAuthentic);
}
