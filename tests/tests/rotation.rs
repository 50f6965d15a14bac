//! The key encryption key is replaced while replicas serve: no call fails for it, nothing is
//! sealed that another replica could not open, and nothing stays under the old key, whoever dies.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use fastrand::Rng;
use proto::{
    keyvault::{
        GetRewrapStatusRequest, GetRewrapStatusResponse, GetSealStatusResponse, KeyEncryptionKey,
        RotateKeyEncryptionKeyRequest, get_rewrap_status_response::State as RewrapState, key_encryption_key::State,
        rotate_key_encryption_key_request::Step,
    },
    types::Provider,
};
use system_tests::{
    ORGANIZATION, Replicas, Setup, Storage,
    answer::Failure,
    mutation::Change,
    on_both_databases,
    replicas::{Door, eventually},
    soak,
};
use tokio::task::JoinSet;

on_both_databases! {
    a_rewrap_that_is_killed_again_and_again_ends_complete,
    there_is_one_pending_key_and_none_to_promote_without_it,
}

/// How many rows one transaction of a rewrap takes, and how many transactions there are in a
/// second here: slow enough to be met by kills.
const ROWS_PER_SECOND: usize = 100;

/// Clients that resolve keys all the time.
const RESOLVING: usize = 4;

/// Clients that store keys before a test begins.
const STORING: usize = 8;

async fn start(storage: Storage, count: usize, rows_per_second: usize) -> Option<Replicas> {
    let setup = Setup {
        folder_in_memory: true,
        vault_options: vec![format!("--rewrap-rows-per-second={rows_per_second}")],
        ..Setup::default()
    };
    Replicas::with(storage, count, setup).await
}

fn profile(number: usize) -> String {
    format!("profile-{number}")
}

fn material(number: usize) -> String {
    format!("sk-{number}-0123456789abcdef")
}

/// Stores a key that only its own profile has.
async fn store(door: &Door, number: usize) -> Result<(), Failure> {
    let change = Change::Create {
        provider: Provider::Openai,
        name: format!("Key {number}"),
        material: material(number),
        default: false,
        profiles: vec![profile(number)],
    };
    change.of(ORGANIZATION).send(&door.keys()).await.map(drop)
}

async fn store_all(doors: &[Door], numbers: Range<usize>) {
    let mut storing = JoinSet::new();
    for client in 0..STORING {
        let (door, numbers) = (doors[client % doors.len()].clone(), numbers.clone());
        storing.spawn(async move {
            for number in numbers.skip(client).step_by(STORING) {
                store(&door, number).await.expect("stored");
            }
        });
    }
    storing.join_all().await;
}

/// Resolves the key of a number. It is the right one, or the connection broke.
async fn resolves(door: &Door, number: usize) -> Result<(), Failure> {
    let found = door.resolve(ORGANIZATION, Some(&profile(number)), Provider::Openai).await?;
    assert_eq!(found.material.expect("material").api_key, material(number));
    Ok(())
}

async fn rotate(door: &Door, step: Step) -> Result<KeyEncryptionKey, Failure> {
    let request = RotateKeyEncryptionKeyRequest { step: step.into() };
    let response = door.admin().rotate_key_encryption_key(request).await?.into_inner();
    Ok(response.key_encryption_key.expect("a key"))
}

/// Both steps. A replica that was killed counts as alive for some seconds, and knows nothing new.
async fn rotated(door: &Door) -> String {
    let kek = eventually("the rotation", || async {
        match rotate(door, Step::Unspecified).await {
            Ok(kek) => Some(kek),
            Err(failure) => {
                let waits = failure.reason.is_empty() || failure.reason == "KEK_NOT_DISTRIBUTED";
                assert!(waits, "{failure:?}");
                None
            }
        }
    })
    .await;
    assert_eq!(kek.state(), State::Primary);
    kek.kek_id
}

async fn rewrap(door: &Door) -> Result<GetRewrapStatusResponse, Failure> {
    Ok(door.admin().get_rewrap_status(GetRewrapStatusRequest {}).await?.into_inner())
}

/// The state of a key encryption key, and how many versions need it.
fn kek<'a>(status: &'a GetSealStatusResponse, id: &str) -> &'a KeyEncryptionKey {
    status.key_encryption_keys.iter().find(|kek| kek.kek_id == id).expect("keys are never forgotten")
}

async fn primary(door: &Door) -> String {
    let status = door.status().await.expect("the status");
    let mut primaries = status.key_encryption_keys.into_iter().filter(|kek| kek.state() == State::Primary);
    let primary = primaries.next().expect("a primary");
    assert_eq!(primaries.next(), None, "exactly one seals");
    primary.kek_id
}

/// Waits until everything is under `new`, and nothing needs `old` any more.
async fn is_complete(door: &Door, old: &str, new: &str) {
    let done = eventually("the end of the rewrap", || async {
        rewrap(door).await.ok().filter(|status| status.state() == RewrapState::Done)
    })
    .await;
    assert_eq!((done.kek_id.as_str(), done.remaining_count, done.failed_count), (new, 0, 0));
    let status = eventually("the retirement of the old key", || async {
        door.status().await.ok().filter(|status| kek(status, old).state() == State::Retired)
    })
    .await;
    assert_eq!(kek(&status, old).version_count, 0);
    // Keys may have been stored meanwhile.
    assert_eq!(kek(&status, new).state(), State::Primary);
    assert!(kek(&status, new).version_count >= done.total_count);
    assert_eq!(status.undecryptable_versions, 0);
}

/// Clients that resolve keys through all replicas, and one that stores new ones through any of
/// them and resolves each through all.
struct Load {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    resolved: AtomicUsize,
    stored: AtomicUsize,
    /// Calls that met a replica that was killed.
    cut: AtomicUsize,
}

impl Load {
    fn start(doors: &[Door], count: usize) -> Self {
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(Calls::default()));
        let mut tasks = JoinSet::new();
        for seed in 0..RESOLVING as u64 {
            let (doors, stop, calls) = (doors.to_vec(), Arc::clone(&stop), Arc::clone(&calls));
            tasks.spawn(async move {
                let mut random = Rng::with_seed(seed);
                while !stop.load(Ordering::SeqCst) {
                    let door = &doors[random.usize(..doors.len())];
                    if calls.went_well(&resolves(door, random.usize(..count)).await) {
                        calls.resolved.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let (doors, stopped, counted) = (doors.to_vec(), Arc::clone(&stop), Arc::clone(&calls));
        tasks.spawn(async move {
            let mut number = count;
            while !stopped.load(Ordering::SeqCst) {
                number += 1;
                if !counted.went_well(&store(&doors[number % doors.len()], number).await) {
                    continue;
                }
                counted.stored.fetch_add(1, Ordering::SeqCst);
                for door in &doors {
                    counted.went_well(&resolves(door, number).await);
                }
            }
        });
        Self { tasks, stop, calls }
    }

    /// Ends it. Panics if anything went wrong meanwhile.
    async fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
        println!("{:?}", self.calls);
        assert!(self.calls.resolved.load(Ordering::SeqCst) > 0 && self.calls.stored.load(Ordering::SeqCst) > 0);
    }
}

impl Calls {
    /// Whether a call was answered. Nothing but the connection may fail.
    fn went_well(&self, outcome: &Result<(), Failure>) -> bool {
        if let Err(failure) = outcome {
            assert!(failure.reason.is_empty(), "no call fails for a rotation: {failure:?}");
            self.cut.fetch_add(1, Ordering::SeqCst);
        }
        outcome.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_three_replicas_fails_no_call_and_leaves_nothing_under_the_old_key() {
    let count = soak::times(2_000, 10_000);
    let Some(replicas) = start(Storage::Postgres, 3, count / 5).await else { return };
    let doors = replicas.doors();
    store_all(&doors, 0..count).await;
    let load = Load::start(&doors, count);

    let old = primary(&doors[0]).await;
    let added = rotate(&doors[0], Step::Add).await.expect("added");
    assert_eq!(added.state(), State::Pending);
    assert_eq!(primary(&doors[1]).await, old, "a key that waits seals nothing");
    let promoted = eventually("the promotion", || async {
        match rotate(&doors[1], Step::Promote).await {
            Ok(promoted) => Some(promoted),
            Err(failure) => {
                assert_eq!(failure.class(), "FailedPrecondition KEK_NOT_DISTRIBUTED");
                None
            }
        }
    })
    .await;
    assert_eq!((promoted.kek_id.as_str(), promoted.state()), (added.kek_id.as_str(), State::Primary));
    let running = rewrap(&doors[2]).await.expect("the status");
    assert_eq!((running.state(), running.kek_id.as_str()), (RewrapState::Running, added.kek_id.as_str()));
    assert!(running.total_count >= i64::try_from(count).expect("not many") && running.start_time.is_some());
    is_complete(&doors[0], &old, &added.kek_id).await;

    // Both steps in one, while the replicas are at work.
    let again = rotated(&doors[2]).await;
    is_complete(&doors[1], &added.kek_id, &again).await;
    load.finish().await;
    for number in 0..count {
        resolves(&doors[number % doors.len()], number).await.expect("a key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_replica_that_does_not_know_the_new_key_holds_its_promotion_up() {
    let Some(replicas) = start(Storage::Postgres, 3, ROWS_PER_SECOND).await else { return };
    let doors = replicas.doors();
    let hanging = doors[2].status().await.expect("the status").replica_id;
    let old = primary(&doors[0]).await;
    replicas.process(2).pause().await;

    let added = rotate(&doors[0], Step::Add).await.expect("added");
    let failure = rotate(&doors[0], Step::Promote).await.expect_err("refused");

    assert_eq!(failure.class(), "FailedPrecondition KEK_NOT_DISTRIBUTED");
    assert_eq!(failure.value("kek_id"), added.kek_id);
    assert!(failure.value("replicas").contains(&hanging), "{failure:?} names {hanging}");
    assert_eq!(primary(&doors[1]).await, old, "nothing changed");
    replicas.process(2).resume().await;
    eventually("the promotion", || async { rotate(&doors[0], Step::Promote).await.ok() }).await;
    for door in &doors {
        assert_eq!(primary(door).await, added.kek_id);
    }
    is_complete(&doors[2], &old, &added.kek_id).await;
}

/// A replica that hangs for long counts as dead, and must not hold a rotation up for ever. When it
/// goes on, it has missed the new key, and learns it before it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_slept_through_a_rotation_opens_what_others_sealed_meanwhile() {
    let Some(replicas) = start(Storage::Postgres, 3, 1_000).await else { return };
    let doors = replicas.doors();
    store_all(&doors, 0..20).await;
    let old = primary(&doors[0]).await;
    replicas.process(2).pause().await;
    eventually("the death of the replica that hangs", || async {
        let status = doors[0].status().await.expect("the status");
        (status.replicas.len() == 2).then_some(())
    })
    .await;

    let new = rotated(&doors[0]).await;
    store(&doors[0], 20).await.expect("stored under the new key");
    is_complete(&doors[1], &old, &new).await;
    replicas.process(2).resume().await;

    for number in (0..=20).rev() {
        eventually("an answer", || async {
            match resolves(&doors[2], number).await {
                Ok(()) => Some(()),
                Err(failure) => {
                    assert!(failure.reason.is_empty(), "{failure:?}");
                    None
                }
            }
        })
        .await;
    }
    // What it seals can be opened, and is under the new key.
    store(&doors[2], 21).await.expect("stored");
    resolves(&doors[0], 21).await.expect("a key");
    assert_eq!(kek(&doors[0].status().await.expect("the status"), &old).version_count, 0);
}

async fn there_is_one_pending_key_and_none_to_promote_without_it(storage: Storage) {
    let Some(replicas) = start(storage, 1, ROWS_PER_SECOND).await else { return };
    let door = replicas.door(0);
    store(&door, 0).await.expect("stored");
    let failure = rotate(&door, Step::Promote).await.expect_err("refused");
    assert_eq!(failure.class(), "FailedPrecondition NO_PENDING_KEK");
    let old = primary(&door).await;
    let status = rewrap(&door).await.expect("the status");
    assert_eq!((status.state(), status.start_time), (RewrapState::Done, None), "never promoted");

    let added = rotate(&door, Step::Add).await.expect("added").kek_id;
    assert_ne!(added, old);
    assert_eq!(rotate(&door, Step::Add).await.expect("taken up again").kek_id, added);
    // The second step alone, or both: the key that waits is taken up either way.
    assert_eq!(rotated(&door).await, added);
    is_complete(&door, &old, &added).await;
    let failure = rotate(&door, Step::Promote).await.expect_err("refused");
    assert_eq!(failure.class(), "FailedPrecondition NO_PENDING_KEK");
}

/// Whoever rewraps is killed as soon as something was rewrapped. On PostgreSQL it is one of three,
/// and all of them are killed in turn.
async fn a_rewrap_that_is_killed_again_and_again_ends_complete(storage: Storage) {
    let kills = soak::times(10, 50);
    let count = (kills + 5) * ROWS_PER_SECOND;
    let replicas = if storage == Storage::Postgres { 3 } else { 1 };
    let Some(mut replicas) = start(storage, replicas, ROWS_PER_SECOND).await else { return };
    let doors = replicas.doors();
    store_all(&doors, 0..count).await;
    let load = Load::start(&doors, count);
    let old = primary(&doors[0]).await;
    let new = rotated(&doors[0]).await;

    let mut remaining = i64::MAX;
    let mut met = 0;
    for _ in 0..kills {
        let status = eventually("progress of the rewrap", || async {
            rewrap(&doors[0]).await.ok().filter(|status| status.remaining_count < remaining)
        })
        .await;
        remaining = status.remaining_count;
        met += usize::from(status.state() == RewrapState::Running);
        for replica in 0..doors.len() {
            replicas.crash(replica).await;
        }
    }
    assert_eq!(met, kills, "each kill met a rewrap that was not complete");

    is_complete(&doors[0], &old, &new).await;
    let again = rotated(&doors[0]).await;
    load.finish().await;
    for number in 0..count {
        resolves(&doors[number % doors.len()], number).await.expect("a key");
    }
    // Begun, and not waited for: it is as slow as the first one.
    let status = rewrap(&doors[0]).await.expect("the status");
    assert!(status.kek_id == again && status.total_count >= i64::try_from(count).expect("not many"));
}
