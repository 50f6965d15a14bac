//! A vault that is killed at any moment: every key that a caller got has a record.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use system_tests::{
    Replicas, Setup, Storage, on_both_databases,
    replicas::{Door, eventually},
};
use tokio::{task::JoinSet, time::sleep};

use super::{default_key, released, resolve, verify};

on_both_databases! {
    every_key_that_was_received_before_a_kill_has_a_record,
}

const KILLS: usize = 100;
const CALLERS: usize = 8;
const TRACE: &str = "2af7651916cd43dd8448eb211c80319c";

/// How many keys are received between two kills, at most.
const RECEIPTS_BETWEEN_KILLS: usize = 60;

/// How far into a call a kill may come. A call takes some milliseconds.
const INTO_A_CALL_MAX: Duration = Duration::from_millis(10);

async fn every_key_that_was_received_before_a_kill_has_a_record(storage: Storage) {
    // On a disk: a commit takes its time there, and kills meet it.
    let Some(mut replicas) = Replicas::with(storage, 1, Setup::default()).await else { return };
    let door = replicas.door(0);
    default_key(&door).await;
    let (received, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call(caller, door.clone(), Arc::clone(&received), Arc::clone(&stop)));
    }
    let mut random = Rng::with_seed(4);

    for _ in 0..KILLS {
        let wanted = received.load(Ordering::SeqCst) + random.usize(1..=RECEIPTS_BETWEEN_KILLS);
        eventually("receipts", || async { (received.load(Ordering::SeqCst) >= wanted).then_some(()) }).await;
        sleep(INTO_A_CALL_MAX.mul_f64(random.f64())).await;
        replicas.crash(0).await;
    }

    stop.store(true, Ordering::SeqCst);
    let receipts: Vec<String> = callers.join_all().await.into_iter().flatten().collect();
    let records = released(&door).await;
    println!("{KILLS} kills, {} receipts, {} records", receipts.len(), records.len());
    assert!(records.len() >= receipts.len());
    let recorded: HashSet<_> = records.iter().collect();
    let missing: Vec<_> = receipts.iter().filter(|receipt| !recorded.contains(receipt)).collect();
    assert!(missing.is_empty(), "released without a record: {missing:?}");
    let verified = verify(&door).await;
    assert!(verified.valid, "{verified:?}");
}

/// Asks for keys until it is told to stop, each for a profile of its own. Returns those that
/// it got.
async fn call(caller: usize, door: Door, received: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut receipts = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let profile = format!("caller-{caller}-{number}");
        match resolve(&door, &profile, TRACE).await {
            Ok(_) => {
                received.fetch_add(1, Ordering::SeqCst);
                receipts.push(profile);
            }
            // It is being started again.
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
    receipts
}
