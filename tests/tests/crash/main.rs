//! Crashes in the middle of changes: what was acknowledged is there, and what was not has
//! happened whole or not at all.
//!
//! Each client changes an organization of its own, one call at a time, and writes down what it
//! was promised. After a crash it looks at everything, settles the call that it was in by
//! repeating it, and looks again.

mod ledger;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use proto::keyvault::key_change::Kind;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};
use system_tests::{
    Replicas, Setup, Storage,
    answer::Failure,
    mutation::{Done, Mutation},
    replicas::{Door, PATIENCE, eventually},
    soak,
};
use tokio::{task::JoinSet, time::sleep};
use tonic::Code;

use ledger::{Act, Entry, Ledger};

const CLIENTS: usize = 4;

/// How many calls are acknowledged between two crashes, at most.
const CALLS_BETWEEN_CRASHES: usize = 30;

/// How far into a call a crash may come. A call takes some milliseconds.
const INTO_A_CALL_MAX: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_vault_has_everything_that_it_acknowledged() {
    let cycles = soak::times(100, 1_000);
    let mut replicas = Replicas::start(Storage::Sqlite, 1).await.expect("SQLite is there");
    let clients = Clients::start(&replicas.door(0));
    let mut random = Rng::with_seed(1);

    for _ in 0..cycles {
        clients.make_progress(&mut random).await;
        replicas.crash(0).await;
    }

    let (ledgers, crashed) = clients.finish().await;
    compare_with_the_history(&replicas.door(0), &ledgers).await;
    println!("{cycles} kills in {} calls; {crashed:?}", done_in(&ledgers));
    let (log, folder) = replicas.stop().await;
    assert!(!log.contains("panicked"), "{log}");
    is_sound(&format!("sqlite:{}", folder.path().join("vault.db").display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_whose_postgresql_crashes_has_everything_that_it_acknowledged() {
    let cycles = soak::times(30, 100);
    // On a disk: a commit takes its time there, and crashes meet it.
    let Some(mut replicas) = Replicas::with(Storage::Postgres, 1, Setup::default()).await else { return };
    let clients = Clients::start(&replicas.door(0));
    let mut random = Rng::with_seed(2);

    for _ in 0..cycles {
        clients.make_progress(&mut random).await;
        replicas.postgres().stop_immediate().await.expect("PostgreSQL stops");
        replicas.postgres().start_again().await.expect("PostgreSQL starts");
    }

    let (ledgers, crashed) = clients.finish().await;
    compare_with_the_history(&replicas.door(0), &ledgers).await;
    println!("{cycles} crashes of PostgreSQL in {} calls; {crashed:?}", done_in(&ledgers));
    let (log, _folder) = replicas.stop().await;
    assert!(!log.contains("panicked"), "{log}");
}

/// Calls that a crash interrupted, by what had become of them.
#[derive(Debug, Default)]
struct Crashed {
    /// Had not happened; nobody had said so.
    lost: usize,
    /// Had happened, and only the answer was lost.
    unanswered: usize,
    /// Had not happened, as the vault said.
    refused: usize,
}

/// Clients that change keys until they are told to stop.
struct Clients {
    tasks: JoinSet<(Ledger, Crashed)>,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Clients {
    fn start(door: &Door) -> Self {
        let (acknowledged, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Client {
                door: door.clone(),
                ledger: Ledger::new(format!("organization-{number}")),
                random: Rng::with_seed(number as u64),
                crashed: Crashed::default(),
            };
            tasks.spawn(client.run(Arc::clone(&acknowledged), Arc::clone(&stop)));
        }
        Self { tasks, acknowledged, stop }
    }

    /// Waits until some more calls are acknowledged, and a random part of the next.
    async fn make_progress(&self, random: &mut Rng) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + random.usize(1..=CALLS_BETWEEN_CRASHES);
        eventually("progress", || async {
            assert!(!self.tasks.is_empty(), "a client ended");
            (self.acknowledged.load(Ordering::SeqCst) >= wanted).then_some(())
        })
        .await;
        sleep(INTO_A_CALL_MAX.mul_f64(random.f64())).await;
    }

    async fn finish(self) -> (Vec<Ledger>, Crashed) {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Crashed::default();
        let outcomes = self.tasks.join_all().await;
        let ledgers = outcomes.into_iter().map(|(ledger, crashed)| {
            all.lost += crashed.lost;
            all.unanswered += crashed.unanswered;
            all.refused += crashed.refused;
            ledger
        });
        let ledgers = ledgers.collect();
        assert!(all.lost + all.refused > 0, "crashes met calls: {all:?}");
        (ledgers, all)
    }
}

fn done_in(ledgers: &[Ledger]) -> usize {
    ledgers.iter().map(|ledger| ledger.done.len()).sum()
}

struct Client {
    door: Door,
    ledger: Ledger,
    random: Rng,
    crashed: Crashed,
}

impl Client {
    async fn run(mut self, acknowledged: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> (Ledger, Crashed) {
        while !stop.load(Ordering::SeqCst) {
            let act = self.ledger.something(&mut self.random);
            let mutation = self.ledger.change(&act).of(&self.ledger.organization);
            let done = match mutation.send(&self.door.keys()).await {
                Ok(done) => done,
                Err(failure) => self.settle(&act, &mutation, &failure).await,
            };
            self.ledger.acknowledge(&act, &mutation.change, done);
            acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        self.compare_everything().await;
        (self.ledger, self.crashed)
    }

    /// Finds out what became of a call, and sees to it that it has happened once.
    async fn settle(&mut self, act: &Act, mutation: &Mutation, failure: &Failure) -> Done {
        assert_is_a_crash(failure);
        let after = self.ledger.with(act);
        let found = self.everything().await;
        if found == self.ledger.keys {
            if failure.may_have_happened() { self.crashed.lost += 1 } else { self.crashed.refused += 1 }
        } else {
            assert_eq!(found, after.keys, "half of {act:?} has happened, or something acknowledged is gone");
            assert!(
                failure.may_have_happened(),
                "{act:?} has happened, and the vault had said that it had not: {failure:?}"
            );
            self.crashed.unanswered += 1;
        }
        let done = eventually("the answer to a repeat", || async {
            match mutation.send(&self.door.keys()).await {
                Ok(done) => Some(done),
                Err(failure) => {
                    assert_is_a_crash(&failure);
                    None
                }
            }
        })
        .await;
        let ledger = std::mem::replace(&mut self.ledger, after);
        self.compare_everything().await;
        self.ledger = ledger;
        done
    }

    /// What the vault has of this organization, once it answers.
    async fn everything(&self) -> BTreeMap<String, Entry> {
        eventually("a listing", || async {
            match self.door.list(&self.ledger.organization).await {
                Ok(keys) => Some(keys.iter().map(|key| (key.display_name.clone(), Entry::from(key))).collect()),
                Err(failure) => {
                    assert_is_a_crash(&failure);
                    None
                }
            }
        })
        .await
    }

    /// The vault has what the ledger has: every key, and every resolution's material.
    async fn compare_everything(&self) {
        let ledger = &self.ledger;
        assert_eq!(self.everything().await, ledger.keys, "something acknowledged is gone, or came back");
        for (profile, provider) in ledger.questions() {
            let profile = profile.as_deref();
            let answer = eventually("a resolution", || async {
                match self.door.resolve(&ledger.organization, profile, provider).await {
                    Ok(key) => Some(Some((key.material.expect("material").api_key, key.version))),
                    Err(failure) if failure.class() == "FailedPrecondition NO_KEY_CONFIGURED" => Some(None),
                    Err(failure) => {
                        assert_is_a_crash(&failure);
                        None
                    }
                }
            })
            .await;
            let answer = answer.as_ref().map(|(material, version)| (material.as_str(), *version));
            assert_eq!(answer, ledger.resolve(profile, provider), "{profile:?} {provider:?}");
        }
    }
}

/// The connection broke, or the vault lost its database: nothing else fails in a crash.
fn assert_is_a_crash(failure: &Failure) {
    let lost_its_database = ["Unavailable STORE_UNAVAILABLE", "Unavailable AUDIT_UNAVAILABLE"];
    let is_a_crash = failure.reason.is_empty() || lost_its_database.contains(&failure.class().as_str());
    assert!(is_a_crash && failure.code != Code::Internal, "{failure:?}");
}

/// The history of changes is what the clients were promised, each call once, without gaps.
async fn compare_with_the_history(door: &Door, ledgers: &[Ledger]) {
    let start = Instant::now();
    let changes = door.all_changes().await;
    assert!(start.elapsed() < PATIENCE);
    for ledger in ledgers {
        let of_it = changes.iter().filter(|change| change.organization_id == ledger.organization);
        let kinds: Vec<_> =
            of_it.map(proto::keyvault::KeyChange::kind).filter(|k| *k != Kind::PreviousDestroyed).collect();
        assert_eq!(kinds, ledger.done, "{}: each acknowledged call is one change", ledger.organization);
    }
}

/// The database itself says that nothing in it is broken or half there.
async fn is_sound(url: &str) {
    let database = sea_orm::Database::connect(url).await.expect("the database opens");
    assert_eq!(text(&database, "PRAGMA integrity_check").await.as_deref(), Some("ok"));
    assert_eq!(text(&database, "PRAGMA foreign_key_check").await, None);
    let without_material = "SELECT display_name FROM api_key k WHERE NOT EXISTS \
         (SELECT 1 FROM secret s WHERE s.api_key_id = k.api_key_id AND s.version = k.version)";
    assert_eq!(text(&database, without_material).await, None);
}

/// The first column of the first row, if there is one.
async fn text(database: &DatabaseConnection, query: &str) -> Option<String> {
    let statement = Statement::from_string(database.get_database_backend(), query);
    let row = database.query_one_raw(statement).await.expect("the query runs")?;
    Some(row.try_get_by_index(0).expect("a text"))
}
