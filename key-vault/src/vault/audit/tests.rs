//! The log over a real database: what is counted, what is kept, and what is looked at in parts.

use std::sync::Arc;

use chrono::TimeDelta;
use service_runtime::readiness::Readiness;
use tempfile::TempDir;
use tokio::{select, time::Instant};

use super::*;
use crate::{
    environment::Environment,
    limits::Rates,
    seal::secrets_manager::{LocalKeyring, Managers},
    store::{Place as Database, Pooler, Store},
    vault::{Condition, Upkeep},
};

const KEPT_FOR: Duration = Duration::from_hours(24);

async fn vault() -> (Vault, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let keyring = folder.path().join("keyring");
    LocalKeyring::create(&keyring).unwrap();
    let managers = Managers::new(Arc::new(LocalKeyring::at(&keyring)), Vec::new());
    let url = format!("sqlite:{}", folder.path().join("vault.db").display());
    let place = Database { url, pooler: Pooler::None, migration_url: None };
    let store = Store::connect(&place).await.unwrap();
    let upkeep = Upkeep {
        changes_kept: 1_000,
        rewrap_rows_per_second: 1,
        audit_kept_for: Some(KEPT_FOR),
        usage_retention: TimeDelta::days(400),
        records_resolutions: true,
    };
    let rates = Rates { resolves_per_second: 0, mutations_per_second: 0, distinct_keys_per_minute: 0 };
    let vault =
        Vault::new(store, managers, Environment::default(), upkeep, rates, Condition::new(&Readiness::default()));
    vault.unseal().await.unwrap();
    (vault, folder)
}

impl Vault {
    /// Writes events of one time, many in a transaction.
    async fn write_at(&self, chain: &mut Chain, time: DateTime<Utc>, count: usize) {
        let sealer = self.sealer().unwrap();
        for start in (0..count).step_by(1_000) {
            let events: Vec<_> = (start..count.min(start + 1_000)).map(|_| event_at(time)).collect();
            let tx = self.store.begin_audit().await.unwrap();
            let (after, macs) = chain.extended(sealer.audit_key(), &events);
            assert!(tx.audit().replace_chain(chain, &after).await.unwrap());
            tx.audit().insert(chain, &events, macs).await.unwrap();
            tx.commit().await.unwrap();
            *chain = after;
        }
    }

    async fn new_chain(&self) -> Chain {
        let sealer = self.sealer().unwrap();
        let tx = self.store.begin_audit().await.unwrap();
        let log = tx.audit().lock_chain(sealer.vault()).await.unwrap().unwrap();
        let grown = log.with_another(sealer.audit_key());
        let chain = Chain::new(Uuid::now_v7(), grown.others).sealed(sealer.audit_key());
        assert!(tx.audit().replace_chain(&log, &grown).await.unwrap());
        tx.audit().insert_chain(&chain).await.unwrap();
        tx.commit().await.unwrap();
        chain
    }

    async fn all_events(&self) -> Vec<Record> {
        self.audit_events(&Filter::default(), Order::OldestFirst, None, 100_000).await.unwrap().events
    }
}

fn event_at(time: DateTime<Utc>) -> Event {
    let event = event(&Caller::upkeep("ResolveKey"));
    let milliseconds = u64::try_from(time.timestamp_millis()).unwrap().to_be_bytes();
    let mut id = event.id.into_bytes();
    id[..6].copy_from_slice(&milliseconds[2..]);
    Event { id: Uuid::from_bytes(id), time: time.trunc_subsecs(6), ..event }
}

#[tokio::test]
async fn what_is_old_goes_and_the_rest_is_still_proven() {
    let (vault, _folder) = vault().await;
    let (mut one, mut other) = (vault.new_chain().await, vault.new_chain().await);
    let old = Utc::now() - TimeDelta::hours(25);
    // More than one step of the cleaning takes.
    vault.write_at(&mut one, old, 10_500).await;
    vault.write_at(&mut one, Utc::now(), 20).await;
    vault.write_at(&mut other, old, 30).await;

    vault.purge_audit().await.unwrap();

    assert_eq!(vault.all_events().await.len(), 20);
    let verified = vault.verify_audit(Cursor::default()).await.unwrap();
    assert_eq!((verified.problems.as_slice(), verified.done, verified.cursor.events), ([].as_slice(), true, 20));
    let kept = vault.store.audit_chain(one.id).await.unwrap().unwrap();
    assert_eq!((kept.floor_sequence, kept.sequence), (10_500, 10_520));
    // What follows is in its place, whoever wrote it.
    let mut kept = kept;
    vault.write_at(&mut kept, Utc::now(), 5).await;
    vault.purge_audit().await.unwrap();
    assert_eq!(vault.verify_audit(Cursor::default()).await.unwrap().cursor.events, 25);
}

/// Whoever can write to the database cannot have the vault remove what is young.
#[tokio::test]
async fn an_event_that_was_made_to_look_old_takes_nothing_with_it() {
    let (vault, _folder) = vault().await;
    let mut chain = vault.new_chain().await;
    vault.write_at(&mut chain, Utc::now(), 20).await;
    let old = event_at(Utc::now() - TimeDelta::hours(25));
    let tx = vault.store.begin_audit().await.unwrap();
    tx.audit().insert(&chain, &[old], vec![chain.mac.clone()]).await.unwrap();
    tx.commit().await.unwrap();

    vault.purge_audit().await.unwrap();

    assert_eq!(vault.all_events().await.len(), 21);
    let found = vault.verify_audit(Cursor::default()).await.unwrap();
    assert_eq!((found.problems[0].kind, found.problems[0].sequence), (ProblemKind::Altered, 21));
}

#[tokio::test]
async fn a_long_log_is_verified_in_parts() {
    let (vault, _folder) = vault().await;
    let mut chain = vault.new_chain().await;
    vault.write_at(&mut chain, Utc::now(), 60_000).await;

    let first = vault.verify_audit(Cursor::default()).await.unwrap();
    let place = first.cursor.place.clone().expect("it is not done");
    assert_eq!((first.done, first.cursor.events, first.problems.len()), (false, place.sequence, 0));
    assert!((1..=50_000).contains(&place.sequence), "{place:?}");
    let mut last = vault.verify_audit(first.cursor.clone()).await.unwrap();
    while !last.done {
        last = vault.verify_audit(last.cursor).await.unwrap();
    }
    assert_eq!((last.cursor.events, last.cursor.chains, last.cursor.invalid), (60_000, 2, false));
    // It goes on behind what was found as it was written, and behind nothing else.
    let elsewhere = Cursor { place: Some(Place { mac: vec![0; 32], ..place.clone() }), ..first.cursor };
    let found = vault.verify_audit(elsewhere).await.unwrap();
    assert_eq!(found.problems[0].sequence, place.sequence + 1);
}

#[tokio::test]
async fn refusals_of_one_kind_in_one_second_are_two_events() {
    let (vault, _folder) = vault().await;
    let caller = Caller::unknown("ResolveKey", "nothing_presented", None, String::new());
    let refused = async {
        for _ in 0..100 {
            vault.record_refusal(&caller, Some("acme"), "CALLER_UNAUTHENTICATED").await.unwrap();
        }
        vault.record_refusal(&caller, Some("no id\n"), "CALLER_UNAUTHENTICATED").await.unwrap();
        loop {
            let events = vault.all_events().await;
            let total: i64 = events.iter().map(|record| record.event.count).sum();
            if total >= 101 {
                return events;
            }
        }
    };
    let events = select! {
        events = refused => events,
        () = vault.recording() => unreachable!("it never ends"),
    };
    assert!((3..=5).contains(&events.len()), "{events:?}");
    for Record { event, .. } in &events {
        assert_eq!((event.decision.as_ref(), event.reason.as_ref()), ("denied", "CALLER_UNAUTHENTICATED"));
        assert_eq!((event.principal.as_ref(), event.authentication.as_str()), ("", "none:nothing_presented"));
        assert!(["acme", ""].contains(&event.organization.as_str()), "no text of the caller's choice");
    }
}

#[tokio::test]
async fn nobody_waits_for_long_and_no_queue_grows() {
    let (vault, _folder) = vault().await;
    // Nobody writes.
    let start = Instant::now();
    let refused = vault.audit.record(event(&Caller::upkeep("ResolveKey"))).await;
    assert!(matches!(refused, Err(Error::NotRecorded { .. })), "{refused:?}");
    assert!((RECORD_MAX..RECORD_MAX * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    while vault.audit.queue.capacity() > 0 {
        let (recorded, _) = oneshot::channel();
        vault.audit.queue.try_send(Pending { event: event(&Caller::upkeep("ResolveKey")), recorded }).unwrap();
    }
    let start = Instant::now();
    assert!(vault.audit.record(event(&Caller::upkeep("ResolveKey"))).await.is_err());
    assert!(start.elapsed() < RECORD_MAX / 2, "at once");
}
