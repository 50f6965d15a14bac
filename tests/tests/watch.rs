//! Watchers see every change once, in order and without gaps, however often they lose their
//! stream; and a key that may no longer be used is not resolved by any replica.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use proto::{
    keyvault::{KeyChange, api_key::State, key_change::Kind},
    types::Provider,
};
use system_tests::{
    ORGANIZATION, Replicas, Setup, Storage,
    answer::Failure,
    mutation::Change,
    on_both_databases,
    replicas::{Door, eventually},
    soak,
    watcher::HEARTBEAT_MAX,
};
use tokio::task::JoinSet;

on_both_databases! {
    a_watch_begins_with_a_heartbeat_and_tells_what_changes_from_then_on,
    a_quiet_watch_has_a_heartbeat_every_five_seconds,
    a_watch_resumes_after_any_revision,
    another_epoch_and_a_revision_that_is_not_reached_are_refused,
    whoever_falls_behind_what_is_kept_is_told_to_watch_anew,
}

/// Watchers that lose their stream, and clients that change keys.
const RECONNECTING: usize = 3;
const CLIENTS: u32 = 8;

/// How many messages a watcher reads before it loses its stream, at most.
const MESSAGES_PER_STREAM: usize = 2_000;

/// The fewest changes that the vault can be told to keep.
const CHANGES_KEPT: u32 = 1_000;

async fn start(storage: Storage) -> Option<(Replicas, Door)> {
    let replicas = Replicas::start(storage, 1).await?;
    let door = replicas.door(0);
    Some((replicas, door))
}

fn creation(name: &str) -> Change {
    Change::Create {
        provider: Provider::Openai,
        name: name.to_owned(),
        material: format!("sk-{name}"),
        default: false,
        profiles: Vec::new(),
    }
}

async fn does(door: &Door, change: Change) -> proto::keyvault::ApiKey {
    let mutation = change.of(ORGANIZATION);
    mutation.send(&door.keys()).await.unwrap_or_else(|failure| panic!("{mutation:?}: {failure:?}")).key()
}

async fn a_watch_begins_with_a_heartbeat_and_tells_what_changes_from_then_on(storage: Storage) {
    let Some((_replicas, door)) = start(storage).await else { return };
    let before = does(&door, creation("before")).await;
    let mut watcher = door.watch(None, "").await.expect("a stream");
    let position = watcher.position;
    let after = does(&door, creation("after")).await;
    does(&door, Change::SetDefault(before.api_key_id.clone())).await;
    // Takes the default and says so of both.
    does(&door, Change::SetDefault(after.api_key_id.clone())).await;

    let changes = watcher.up_to(position + 3).await.expect("the changes");

    let ids = |change: &KeyChange| {
        let mut ids = change.api_key_ids.clone();
        ids.sort();
        ids
    };
    let seen: Vec<_> = changes.iter().map(|change| (change.kind(), ids(change))).collect();
    let mut both = vec![before.api_key_id.clone(), after.api_key_id.clone()];
    both.sort();
    assert_eq!(
        seen,
        [
            (Kind::Created, vec![after.api_key_id]),
            (Kind::DefaultChanged, vec![before.api_key_id]),
            (Kind::DefaultChanged, both),
        ]
    );
    for change in changes {
        assert_eq!(change.organization_id, ORGANIZATION);
        assert_eq!(change.providers, [i32::from(Provider::Openai)]);
    }
}

async fn a_quiet_watch_has_a_heartbeat_every_five_seconds(storage: Storage) {
    let Some((_replicas, door)) = start(storage).await else { return };
    does(&door, creation("quiet")).await;
    let mut watcher = door.watch(None, "").await.expect("a stream");
    for _ in 0..soak::times(3, 20) {
        assert_eq!(watcher.next().await.expect("a heartbeat"), None);
    }
    assert!(watcher.silence < HEARTBEAT_MAX, "{:?}", watcher.silence);
}

async fn a_watch_resumes_after_any_revision(storage: Storage) {
    const CHANGES: usize = 20;
    let Some((_replicas, door)) = start(storage).await else { return };
    for number in 0..CHANGES {
        does(&door, creation(&number.to_string())).await;
    }
    let now = door.watch(None, "").await.expect("a stream");
    let all = door.watch(Some(0), &now.epoch).await.expect("a stream").up_to(now.position).await.expect("changes");
    assert_eq!(all.len(), CHANGES, "0 streams all");
    for from in 0..=now.position {
        // An empty epoch is not compared.
        let epoch = if from % 2 == 0 { now.epoch.as_str() } else { "" };
        let mut watcher = door.watch(Some(from), epoch).await.expect("a stream");
        let rest = watcher.up_to(now.position).await.expect("the rest");
        let expected: Vec<_> = all.iter().filter(|change| change.revision > from).cloned().collect();
        assert_eq!(rest, expected, "after {from}");
    }
}

async fn another_epoch_and_a_revision_that_is_not_reached_are_refused(storage: Storage) {
    let Some((_replicas, door)) = start(storage).await else { return };
    does(&door, creation("one")).await;
    let now = door.watch(None, "").await.expect("a stream");
    let other = "01900000-0000-4000-8000-000000000000";
    for (from, epoch) in [
        (Some(now.position), other),
        (Some(0), other),
        (None, other),
        (Some(now.position + 1), now.epoch.as_str()),
        (Some(now.position + 1), ""),
        (Some(i64::MAX), ""),
    ] {
        let failure = door.watch(from, epoch).await.expect_err("refused");
        assert_eq!(failure.class(), "OutOfRange REVISION_COMPACTED", "{from:?} {epoch}");
        assert_eq!(
            (failure.value("revision"), failure.value("epoch")),
            (now.position.to_string().as_str(), now.epoch.as_str())
        );
    }
    let failure = door.watch(Some(-1), "").await.expect_err("refused");
    assert_eq!(
        (failure.class().as_str(), failure.fields),
        ("InvalidArgument INVALID_FIELD", vec!["from_revision".to_owned()])
    );
    // The stream that was open is not disturbed by any of it.
    assert_eq!(door.watch(Some(now.position), &now.epoch).await.expect("a stream").position, now.position);
}

async fn whoever_falls_behind_what_is_kept_is_told_to_watch_anew(storage: Storage) {
    let setup = Setup {
        folder_in_memory: true,
        vault_options: vec![format!("--changes-kept={CHANGES_KEPT}")],
        ..Setup::default()
    };
    let Some(replicas) = Replicas::with(storage, 1, setup).await else { return };
    let door = replicas.door(0);
    let first = door.watch(None, "").await.expect("a stream");
    let writing = Writing::start(&door, CHANGES_KEPT + 200).await;
    let (_, position) = writing.finish(&door).await;

    // The vault cleans up every some seconds. In the end it has what it was told to keep.
    let floor = position - i64::from(CHANGES_KEPT);
    eventually("compaction", || async { door.watch(Some(floor - 1), &first.epoch).await.err() }).await;
    let failure = door.watch(Some(first.position), &first.epoch).await.expect_err("refused");

    assert_eq!(failure.class(), "OutOfRange REVISION_COMPACTED");
    assert_eq!((failure.value("revision"), failure.value("epoch")), (position.to_string().as_str(), &*first.epoch));
    // What is kept can be had, to the last change.
    let mut watcher = door.watch(Some(floor), &first.epoch).await.expect("the oldest that is kept");
    watcher.up_to(position).await.expect("all changes, in order and without gaps");
    // Anew, as the contract says.
    let mut anew = door.watch(None, "").await.expect("a stream");
    assert_eq!(anew.position, position);
    does(&door, creation("anew")).await;
    assert_eq!(anew.up_to(position + 1).await.expect("the change").len(), 1);
}

/// Clients that change keys, each in an organization of its own.
struct Writing {
    tasks: JoinSet<(String, u32)>,
    /// The change that is the last, once all are done.
    last: Arc<AtomicI64>,
    start: Instant,
    changes: u32,
}

impl Writing {
    /// Makes `changes` changes through a replica. The cheapest there is: another name.
    async fn start(door: &Door, changes: u32) -> Self {
        let mut tasks = JoinSet::new();
        for client in 0..CLIENTS {
            let organization = format!("organization-{client}");
            let mut mutation = creation("0").of(&organization).under("");
            let key = mutation.send(&door.keys()).await.expect("created").key();
            let (keys, count) = (door.keys(), changes / CLIENTS);
            tasks.spawn(async move {
                for number in 1..count {
                    mutation.change = Change::Rename(key.api_key_id.clone(), number.to_string());
                    mutation.send(&keys).await.expect("renamed");
                }
                (organization, count)
            });
        }
        Self { tasks, last: Arc::new(AtomicI64::new(i64::MAX)), start: Instant::now(), changes }
    }

    /// Waits until all is done. Returns how many changes each organization has, and the last
    /// revision.
    async fn finish(self, door: &Door) -> (HashMap<String, u32>, i64) {
        let counts: HashMap<_, _> = self.tasks.join_all().await.into_iter().collect();
        let rate = f64::from(self.changes) / self.start.elapsed().as_secs_f64();
        let position = door.revision().await;
        self.last.store(position, Ordering::SeqCst);
        println!("{} changes, {rate:.0} in a second", self.changes);
        (counts, position)
    }
}

/// What a watcher saw of the changes of each organization. Order and gaps are its stream's.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    changes: u32,
    of: HashMap<String, u32>,
}

impl Seen {
    fn take(&mut self, change: &KeyChange) {
        self.changes += 1;
        *self.of.entry(change.organization_id.clone()).or_default() += 1;
        let expected = if self.of[&change.organization_id] == 1 { Kind::Created } else { Kind::Updated };
        assert_eq!(change.kind(), expected, "{change:?}");
    }
}

/// A watcher that loses its stream again and again, and resumes where it was, at any replica.
async fn reconnecting(doors: Vec<Door>, last: Arc<AtomicI64>, seed: u64) -> (Seen, usize, Duration) {
    let mut random = Rng::with_seed(seed);
    let (mut all, mut streams, mut silence) = (Seen::default(), 0, Duration::ZERO);
    let (mut position, mut epoch) = (0, String::new());
    while position < last.load(Ordering::SeqCst) {
        let door = &doors[random.usize(..doors.len())];
        let mut watcher = match door.watch(Some(position), &epoch).await {
            Ok(watcher) => watcher,
            Err(failure) => {
                assert_is_a_crash(&failure);
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        streams += 1;
        for _ in 0..random.usize(1..=MESSAGES_PER_STREAM) {
            match watcher.next().await {
                Ok(change) => change.iter().for_each(|change| all.take(change)),
                Err(failure) => {
                    assert_is_a_crash(&failure);
                    break;
                }
            }
            if watcher.position >= last.load(Ordering::SeqCst) {
                break;
            }
        }
        silence = silence.max(watcher.silence);
        (position, epoch) = (watcher.position, watcher.epoch);
    }
    (all, streams, silence)
}

/// The connection is gone. Nobody gives a reason then.
fn assert_is_a_crash(failure: &Failure) {
    assert!(failure.reason.is_empty(), "{failure:?}");
}

/// A watcher that does not read before `go`, and then reads what has gathered. Its own side may
/// have ended the connection by then: it resumes.
async fn slow(door: Door, last: Arc<AtomicI64>, go: Arc<AtomicBool>) -> Seen {
    let mut watcher = door.watch(Some(0), "").await.expect("a stream");
    while !go.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut all = Seen::default();
    while watcher.position < last.load(Ordering::SeqCst) {
        match watcher.next().await {
            Ok(change) => change.iter().for_each(|change| all.take(change)),
            Err(failure) => {
                assert_is_a_crash(&failure);
                watcher = door.watch(Some(watcher.position), &watcher.epoch).await.expect("a stream");
            }
        }
    }
    all
}

/// 10,000 changes in every run, since a debug build makes a few hundred in a second; 100,000 with
/// `SOAK=1`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_sees_every_change_once() {
    let changes = soak::times(10_000, 100_000);
    let (_replicas, door) = start(Storage::Sqlite).await.expect("SQLite is there");
    let writing = Writing::start(&door, changes).await;
    let go = Arc::new(AtomicBool::new(false));
    let mut keen = JoinSet::new();
    for number in 0..RECONNECTING {
        keen.spawn(reconnecting(vec![door.clone()], Arc::clone(&writing.last), number as u64));
    }
    let slow = tokio::spawn(slow(door.clone(), Arc::clone(&writing.last), Arc::clone(&go)));

    let (counts, position) = writing.finish(&door).await;
    go.store(true, Ordering::SeqCst);

    // A change that nobody asked for is none: the last ones end the streams.
    let all = Seen { changes: counts.values().sum(), of: counts };
    assert_eq!(i64::from(all.changes), position, "each answered call is one revision");
    for watcher in keen.join_all().await {
        let (seen, streams, silence) = watcher;
        assert_eq!(seen, all);
        assert!(silence < HEARTBEAT_MAX, "changes do not replace heartbeats: none for {silence:?}");
        println!("{} changes through {streams} streams; {silence:?} without a heartbeat at most", seen.changes);
    }
    assert_eq!(slow.await.expect("it ends"), all, "the one who did not read for long");
}

/// Every replica tells of every change, whichever made it, and goes on where another one ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_tells_of_every_change() {
    const CRASHES: usize = 5;
    let changes = soak::times(1_600, 50_000);
    let Some(mut replicas) = Replicas::start(Storage::Postgres, 3).await else { return };
    let doors = replicas.doors();
    let writing = Writing::start(&doors[0], changes).await;
    let mut watchers = JoinSet::new();
    // One at each replica, and one that goes on wherever it can.
    let one_each = doors.iter().map(|door| vec![door.clone()]);
    for (number, doors) in one_each.chain([doors.clone()]).enumerate() {
        watchers.spawn(reconnecting(doors, Arc::clone(&writing.last), number as u64));
    }
    for _ in 0..CRASHES {
        replicas.crash(1).await;
        replicas.crash(2).await;
    }
    let (counts, position) = writing.finish(&doors[0]).await;
    let all = Seen { changes: counts.values().sum(), of: counts };
    assert_eq!(i64::from(all.changes), position, "each answered call is one revision");
    for (seen, streams, _) in watchers.join_all().await {
        assert_eq!(seen, all);
        println!("{} changes through {streams} streams", seen.changes);
    }
}

/// After the answer to a change no replica resolves what was before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_replica_resolves_a_key_that_was_disabled_rotated_reassigned_or_forbidden() {
    let rounds = soak::times(30, 1_000);
    let Some(replicas) = Replicas::start(Storage::Postgres, 3).await else { return };
    let doors = replicas.doors();
    let one = does(&doors[0], creation("one")).await.api_key_id;
    let two = does(&doors[0], creation("two")).await.api_key_id;
    let profile = || vec!["research".to_owned()];
    let never_the_default = |allow| Change::SetPolicy { profile: None, default: Some(allow), environment: None };
    does(&doors[0], Change::Assign(one.clone(), profile())).await;
    for round in 0..rounds {
        let rotated = format!("sk-rotated-{round}");
        for (change, expected) in [
            (Change::SetState(one.clone(), State::Disabled), Err("FailedPrecondition KEY_UNUSABLE")),
            (Change::SetState(one.clone(), State::Enabled), Ok(None)),
            (Change::Rotate(one.clone(), rotated.clone(), None), Ok(Some(rotated.as_str()))),
            (Change::Assign(two.clone(), profile()), Ok(Some("sk-two"))),
            (Change::Unassign(two.clone(), profile()), Err("FailedPrecondition NO_KEY_CONFIGURED")),
            (Change::SetDefault(two.clone()), Ok(Some("sk-two"))),
            (Change::SetDefault(one.clone()), Ok(Some(rotated.as_str()))),
            (never_the_default(false), Err("FailedPrecondition NO_KEY_CONFIGURED")),
            (never_the_default(true), Ok(Some(rotated.as_str()))),
            (Change::ClearDefault(Provider::Openai), Err("FailedPrecondition NO_KEY_CONFIGURED")),
            (Change::Assign(one.clone(), profile()), Ok(Some(rotated.as_str()))),
        ] {
            let mutation = change.of(ORGANIZATION);
            mutation.send(&doors[round % doors.len()].keys()).await.expect("changed");
            for door in &doors {
                let found = door.resolve(ORGANIZATION, Some("research"), Provider::Openai).await;
                let found = found.map(|key| key.material.expect("material").api_key).map_err(|failure| failure.class());
                match expected {
                    Err(class) => assert_eq!(found, Err(class.to_owned()), "{mutation:?}"),
                    Ok(Some(material)) => assert_eq!(found.as_deref(), Ok(material), "{mutation:?}"),
                    Ok(None) => assert!(found.is_ok(), "{mutation:?}: {found:?}"),
                }
            }
        }
    }
}
