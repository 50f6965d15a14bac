//! The database takes no records: no key is released, every caller is told in time, and soon
//! after the repair everything works again.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};
use system_tests::{Postgres, Process, Replicas, Setup, Storage, postgres, replicas::Door, skip_without, start_vault};
use tokio::{task::JoinSet, time::sleep};

use super::{default_key, released, resolve, verify};

const CALLERS: usize = 8;
const TRACE: &str = "4af7651916cd43dd8448eb211c80319c";

/// How long each fault lasts: several times as long as a caller waits for its record.
const FAULT: Duration = Duration::from_secs(7);

/// How soon after the repair a key is released again.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// How long a caller waits while only records cannot be written: 2 s, and what a busy machine
/// takes.
const RECORD_MAX: Duration = Duration::from_secs(3);

/// How long a caller waits while the database does not answer at all.
const STORE_MAX: Duration = Duration::from_secs(16);

/// One call: when it began and ended, and the profile that got its key, or why none was got.
#[derive(Clone, Debug)]
struct Call {
    began: Instant,
    ended: Instant,
    outcome: Result<String, String>,
}

/// Callers that ask without a pause, each time for a profile of its own.
struct Callers {
    tasks: JoinSet<()>,
    calls: Arc<Mutex<Vec<Call>>>,
    stop: Arc<AtomicBool>,
}

impl Callers {
    fn start(door: &Door) -> Self {
        let (calls, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for caller in 0..CALLERS {
            let (door, calls, stop) = (door.clone(), Arc::clone(&calls), Arc::clone(&stop));
            tasks.spawn(call(caller, door, calls, stop));
        }
        Self { tasks, calls, stop }
    }

    /// Waits until a call that begins from now on gets a key.
    async fn released_after(&self, moment: Instant) -> Duration {
        loop {
            let found = self.calls.lock().expect("no panic").iter().any(|c| c.began >= moment && c.outcome.is_ok());
            if found {
                return moment.elapsed();
            }
            assert!(moment.elapsed() < Duration::from_secs(30), "no key is released again");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn finish(self) -> Vec<Call> {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.join_all().await;
        self.calls.lock().expect("no panic").clone()
    }
}

async fn call(caller: usize, door: Door, calls: Arc<Mutex<Vec<Call>>>, stop: Arc<AtomicBool>) {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let profile = format!("caller-{caller}-{number}");
        let began = Instant::now();
        let outcome = resolve(&door, &profile, TRACE).await;
        let outcome = outcome.map(|_| profile).map_err(|failure| failure.class());
        if outcome.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        calls.lock().expect("no panic").push(Call { began, ended: Instant::now(), outcome });
    }
}

/// Holds a vault to it, through one fault.
async fn nothing_is_released_unrecorded(
    door: &Door,
    reasons: &[&str],
    call_max: Duration,
    break_it: impl AsyncFnOnce(),
    repair: impl AsyncFnOnce(),
) {
    default_key(door).await;
    let callers = Callers::start(door);
    callers.released_after(Instant::now()).await;

    break_it().await;
    let broken = Instant::now();
    sleep(FAULT).await;
    let repairing = Instant::now();
    repair().await;
    let recovery = callers.released_after(Instant::now()).await;

    let calls = callers.finish().await;
    let (mut refused, mut slowest) = (0, Duration::ZERO);
    for call in &calls {
        slowest = slowest.max(call.ended - call.began);
        if call.ended < broken || call.ended > repairing {
            continue;
        }
        match &call.outcome {
            // Its record may have been written just before.
            Ok(_) => assert!(call.began < broken, "no key is released while it is broken"),
            Err(reason) => {
                assert!(reasons.contains(&reason.as_str()), "{reason}");
                refused += 1;
            }
        }
    }
    println!("{refused} refused, the slowest after {slowest:?}; recovered after {recovery:?}");
    assert!(refused > 0, "no call met the fault");
    assert!(slowest < call_max, "{slowest:?}");
    assert!(recovery < RECOVERY_MAX, "{recovery:?}");
    let recorded: HashSet<String> = released(door).await.into_iter().collect();
    let unrecorded: Vec<_> =
        calls.iter().filter_map(|c| c.outcome.as_ref().ok()).filter(|p| !recorded.contains(*p)).collect();
    assert!(unrecorded.is_empty(), "{unrecorded:?}");
    let verified = verify(door).await;
    assert!(verified.valid, "{verified:?}");
}

const NOT_RECORDED: &str = "Unavailable AUDIT_UNAVAILABLE";
const NOT_READ: &str = "Unavailable STORE_UNAVAILABLE";

/// The caller's own limit, which ends before that of a vault that cannot read its database.
const OUT_OF_PATIENCE: [&str; 2] = ["DeadlineExceeded ", "Cancelled "];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else { return skip_without("the right to mount a small disk") };
    let setup = Setup { database: Storage::Sqlite, ..Setup::default() };
    let vault = start_vault(&disk.0, &setup).await.expect("the vault starts");
    let ballast = disk.0.join("ballast");
    nothing_is_released_unrecorded(
        &Door::to(&vault.url()),
        &[NOT_RECORDED],
        RECORD_MAX,
        async || {
            // As much as there is room for: the write of the last part fails.
            let _ = fs::write(&ballast, vec![1; SmallDisk::BYTES]);
            // What SQLite already has room for is taken by records.
            until_refused(&Door::to(&vault.url())).await;
        },
        async || fs::remove_file(&ballast).expect("the ballast goes"),
    )
    .await;
    says_it_once(vault).await;
}

/// Waits until every record is refused: what the database has room for already is taken first.
async fn until_refused(door: &Door) {
    let mut in_a_row = 0;
    while in_a_row < 100 {
        in_a_row = if resolve(door, "until-it-is-full", TRACE).await.is_ok() { 0 } else { in_a_row + 1 };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_another_process_holds_the_file() {
    let replicas = Replicas::start(Storage::Sqlite, 1).await.expect("SQLite is there");
    let url = format!("sqlite:{}", replicas.folder().join("vault.db").display());
    let database = Database::connect(single(url)).await.expect("the database opens");
    nothing_is_released_unrecorded(
        &replicas.door(0),
        &[NOT_RECORDED],
        RECORD_MAX,
        async || run(&database, "BEGIN IMMEDIATE").await,
        async || run(&database, "ROLLBACK").await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_another_session_holds_the_table() {
    let Some(mut replicas) = Replicas::start(Storage::Postgres, 1).await else { return };
    let (door, database) = (replicas.door(0), replicas.postgres().connect("vault_0").await.expect("a connection"));
    nothing_is_released_unrecorded(
        &door,
        &[NOT_RECORDED],
        RECORD_MAX,
        async || run(&database, "BEGIN; LOCK TABLE audit_event IN SHARE MODE").await,
        async || run(&database, "ROLLBACK").await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_takes_no_writes() {
    let Some(mut replicas) = Replicas::start(Storage::Postgres, 1).await else { return };
    let (door, database) = (replicas.door(0), replicas.postgres().connect("vault_0").await.expect("a connection"));
    let read_only = async |value: &str| {
        // Neither may be in a transaction, as two statements at once are.
        run(&database, &format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).await;
        run(&database, "SELECT pg_reload_conf()").await;
    };
    nothing_is_released_unrecorded(
        &door,
        &[NOT_RECORDED, NOT_READ, OUT_OF_PATIENCE[0], OUT_OF_PATIENCE[1]],
        STORE_MAX,
        async || {
            read_only("on").await;
            // The server takes it up a moment later.
            while resolve(&door, "until-it-is-read-only", TRACE).await.is_ok() {}
        },
        async || read_only("off").await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_hangs() {
    let Some(mut replicas) = Replicas::start(Storage::Postgres, 1).await else { return };
    let door = replicas.door(0);
    let server = replicas.postgres();
    nothing_is_released_unrecorded(
        &door,
        &[NOT_RECORDED, NOT_READ, OUT_OF_PATIENCE[0], OUT_OF_PATIENCE[1]],
        STORE_MAX,
        async || signal(server, "STOP"),
        async || signal(server, "CONT"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_of_the_server_is_full() {
    let Some(disk) = SmallDisk::mount() else { return skip_without("the right to mount a small disk") };
    let settings = postgres::Settings { in_memory: true, ..postgres::Settings::default() };
    let Some(server) = Postgres::with(settings).await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let option = format!("--database-url={}", server.create_database().await);
    let setup = Setup { vault_options: vec![option], database: Storage::Postgres, ..Setup::default() };
    let vault = start_vault(folder.path(), &setup).await.expect("the vault starts");
    let space = disk.0.join("space");
    fs::create_dir(&space).expect("a folder");
    own_like(&space, &server.data());
    let database = server.connect("vault_0").await.expect("a connection");
    run(&database, &format!("CREATE TABLESPACE small LOCATION '{}'", space.display())).await;
    run(&database, "ALTER TABLE audit_event SET TABLESPACE small").await;
    let ballast = disk.0.join("ballast");
    nothing_is_released_unrecorded(
        &Door::to(&vault.url()),
        &[NOT_RECORDED],
        RECORD_MAX,
        async || {
            let _ = fs::write(&ballast, vec![1; SmallDisk::BYTES]);
            until_refused(&Door::to(&vault.url())).await;
        },
        async || fs::remove_file(&ballast).expect("the ballast goes"),
    )
    .await;
    says_it_once(vault).await;
    drop(server);
}

/// The log has one line for the fault, and one for its end, however many calls are refused. A
/// disk that fills up may take a record or two in between.
async fn says_it_once(vault: Process) {
    const TURNS_MAX: usize = 3;
    let (_, log) = vault.stop().await;
    let [begins, ends] =
        ["the audit log cannot be written", "the audit log is written again"].map(|line| log.matches(line).count());
    assert!(begins == ends && (1..=TURNS_MAX).contains(&begins), "{begins} beginnings, {ends} ends:\n{log}");
}

async fn run(database: &DatabaseConnection, sql: &str) {
    database.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn single(url: String) -> sea_orm::ConnectOptions {
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1);
    options
}

/// Stops every process of a server where it is, or lets it go on.
fn signal(server: &Postgres, name: &str) {
    let file = fs::read_to_string(server.data().join("postmaster.pid")).expect("it runs");
    let main = file.lines().next().expect("its id").trim().to_owned();
    let mut ids = vec![main.clone()];
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == format!("PPid:\t{main}")) {
            ids.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let sent = Command::new("kill").arg(format!("-{name}")).args(&ids).status().expect("kill runs");
    assert!(sent.success() && ids.len() > 1, "{ids:?}");
}

fn own_like(path: &Path, other: &Path) {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let owner = fs::metadata(other).expect("it is there");
    chown(path, Some(owner.uid()), Some(owner.gid())).expect("it is given away");
}

/// A disk with little room, which goes when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    const BYTES: usize = 24 * 1024 * 1024;

    /// `None` if this user may not mount one.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let size = format!("size={},mode=755", Self::BYTES);
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&folder).status();
        if mounted.is_ok_and(|status| status.success()) { Some(Self(folder)) } else { None }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file there ends with the test.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
