//! The vault on PostgreSQL: replicas that start at once, poolers, TLS, and servers that go
//! away, come back, or are not what they were.

mod forwarder;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use proto::{
    keyvault::{
        ApiKey, AssignProfilesRequest, CreateApiKeyRequest, DeleteApiKeyRequest, GetApiKeyRequest, KeyMaterial,
        ListApiKeysRequest, ResolveKeyRequest, RotateApiKeyRequest, api_key_service_client::ApiKeyServiceClient,
        key_resolution_service_client::KeyResolutionServiceClient,
    },
    types::Provider,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sea_orm::ConnectionTrait as _;
use system_tests::{
    ORGANIZATION, PgBouncer, Postgres, Process, Setup,
    answer::Failure,
    command,
    postgres::{Auth, PASSWORD, Settings, Stop, Tls, USER},
    start_vault,
};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

use forwarder::Forwarder;

/// How soon a vault must serve again after its database does.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// The vault's limit for a connection, and what a busy machine adds.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);

const UNAVAILABLE: &str = "Unavailable STORE_UNAVAILABLE";

/// The database did not answer, or did not take the record of a resolution.
fn assert_unavailable(status: Status) {
    let failure = Failure::from(status);
    assert!([UNAVAILABLE, "Unavailable AUDIT_UNAVAILABLE"].contains(&failure.class().as_str()), "{failure:?}");
}

const LOG_OF_MIGRATION: &str = "the schema of the database was brought up to date";

/// The number that the vault locks while it changes the schema.
const LOCK_OF_SCHEMA: i64 = i64::from_be_bytes(*b"akv_migr");

/// A vault, and clients of it.
struct Vault {
    process: Process,
    keys: ApiKeyServiceClient<Channel>,
    resolution: KeyResolutionServiceClient<Channel>,
}

/// A folder with a keyring.
async fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let made = command("key-vault").args(["keyring", "init"]).arg(folder.path().join("keyring")).output().await;
    assert!(made.expect("it runs").status.success(), "a keyring is made");
    folder
}

fn setup(options: &[&str]) -> Setup {
    Setup { vault_options: options.iter().map(ToString::to_string).collect(), ..Setup::default() }
}

async fn try_vault(folder: &Path, url: &str, options: &[&str]) -> anyhow::Result<Vault> {
    let url = format!("--database-url={url}");
    let process = start_vault(folder, &setup(&[&[url.as_str()], options].concat())).await?;
    let channel = Channel::from_shared(process.url())?.connect_lazy();
    let keys = ApiKeyServiceClient::new(channel.clone());
    Ok(Vault { process, keys, resolution: KeyResolutionServiceClient::new(channel) })
}

async fn vault(folder: &Path, url: &str) -> Vault {
    try_vault(folder, url, &[]).await.expect("the vault serves")
}

/// Why a vault does not serve. Never with a password.
async fn refusal(folder: &Path, url: &str, options: &[&str]) -> String {
    let Err(problem) = try_vault(folder, url, options).await else { panic!("{url} is served") };
    let problem = problem.to_string();
    assert!(!problem.contains(PASSWORD), "{problem}");
    problem
}

impl Vault {
    /// Stores a key, and gives it to a profile of the same name.
    async fn add(&self, name: &str) -> Result<ApiKey, Status> {
        let request = CreateApiKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            provider: Provider::Openai.into(),
            display_name: name.to_owned(),
            material: Some(KeyMaterial { api_key: format!("sk-{name}") }),
            profile_ids: vec![name.to_owned()],
            ..Default::default()
        };
        Ok(self.keys.clone().create_api_key(request).await?.into_inner().api_key.expect("a key"))
    }

    /// What a profile's call of the provider uses.
    async fn resolve(&self, profile: &str) -> Result<String, Status> {
        let request = ResolveKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            profile_id: Some(profile.to_owned()),
            provider: Provider::Openai.into(),
        };
        let key = self.resolution.clone().resolve_key(request).await?.into_inner();
        Ok(key.material.expect("material").api_key)
    }

    /// Resolves until that works again, and fails if it does not soon.
    async fn recovers(&self, profile: &str) -> Duration {
        let since = Instant::now();
        loop {
            match self.resolve(profile).await {
                Ok(material) => {
                    assert_eq!(material, format!("sk-{profile}"));
                    break;
                }
                Err(status) => assert_unavailable(status),
            }
            assert!(since.elapsed() < RECOVERY_MAX, "it does not resolve:\n{}", self.process.log());
        }
        while let Err(status) = self.add("after").await {
            assert_unavailable(status);
            assert!(since.elapsed() < RECOVERY_MAX, "it does not write:\n{}", self.process.log());
        }
        since.elapsed()
    }
}

#[tokio::test]
async fn of_replicas_that_start_at_once_one_changes_the_schema_and_all_serve_one_vault() {
    const ROUNDS: usize = 10;
    const REPLICAS: usize = 8;
    let Some(server) = Postgres::start().await else { return };
    for round in 0..ROUNDS {
        let (url, folder) = (server.create_database().await, folder().await);
        let replicas = join_all((0..REPLICAS).map(|_| vault(folder.path(), &url))).await;
        let logs: Vec<_> = replicas.iter().map(|replica| replica.process.log()).collect();
        let saying = |text: &str| logs.iter().filter(|log| log.contains(text)).count();
        assert_eq!(saying(LOG_OF_MIGRATION), 1, "round {round}: {logs:#?}");
        assert_eq!(saying("a new vault was set up"), 1, "round {round}: {logs:#?}");
        assert_eq!(saying("\"ERROR\""), 0, "round {round}: {logs:#?}");
        // What one seals, the others open.
        for (n, replica) in replicas.iter().enumerate() {
            replica.add(&format!("replica-{n}")).await.expect("added");
        }
        for n in 0..REPLICAS {
            let profile = format!("replica-{n}");
            for replica in &replicas {
                assert_eq!(replica.resolve(&profile).await.expect("resolved"), format!("sk-{profile}"));
            }
        }
    }
    println!("{ROUNDS} rounds of {REPLICAS} replicas");
}

#[tokio::test]
async fn a_schema_of_a_later_version_is_refused_and_left_alone() {
    let Some(server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    drop(vault(folder.path(), &url).await);
    let insert = "INSERT INTO seaql_migrations VALUES ('m9999_later', 0)";
    server.sql("vault_0", insert).await.expect("a step of a later version");

    let problem = refusal(folder.path(), &url, &[]).await;
    assert!(problem.contains("\\\"m9999_later\\\"") || problem.contains("\"m9999_later\""), "{problem}");
    assert!(problem.contains("run the newer version"), "{problem}");
}

#[tokio::test]
async fn a_schema_that_is_current_is_served_without_its_lock_and_without_the_right_to_change_it() {
    let Some(server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    vault(folder.path(), &url).await.add("before").await.expect("added");
    let rights = "CREATE ROLE app LOGIN PASSWORD 'app'; GRANT SELECT ON seaql_migrations TO app; \
                  GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app";
    server.sql("vault_0", rights).await.expect("a role");
    let holder = server.connect("vault_0").await.expect("a connection");
    let lock = format!("SELECT pg_advisory_lock({LOCK_OF_SCHEMA})");
    holder.execute_unprepared(&lock).await.expect("another changes the schema");

    let restricted = url.replace(&format!("{USER}:{PASSWORD}"), "app:app");
    let replica = vault(folder.path(), &restricted).await;
    assert_eq!(replica.resolve("before").await.expect("resolved"), "sk-before");
    replica.add("after").await.expect("added");
    assert!(!replica.process.log().contains("migration"), "{}", replica.process.log());
    holder.close().await.expect("closed");
}

#[tokio::test]
async fn a_replica_waits_for_another_that_changes_the_schema() {
    let Some(server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let holder = server.connect("vault_0").await.expect("a connection");
    let lock = format!("SELECT pg_advisory_lock({LOCK_OF_SCHEMA})");
    holder.execute_unprepared(&lock).await.expect("another changes the schema");
    let release = async {
        let waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        while server.sql(USER, waiting).await.expect("locks") == 0 {
            tokio::task::yield_now().await;
        }
        let tables = "SELECT 1 FROM pg_class WHERE relname = 'seaql_migrations'";
        assert_eq!(server.sql("vault_0", tables).await.expect("tables"), 0, "nothing is written before its turn");
        holder.close().await.expect("closed");
    };
    let (vault, ()) = tokio::join!(vault(folder.path(), &url), release);
    vault.add("first").await.expect("added");
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_serves_sixteen_clients_with_four_connections() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 10;
    let settings = Settings { in_memory: true, ..Settings::default() };
    let Some(server) = Postgres::with(settings).await else { return };
    let Some(pooler) = PgBouncer::start(&server).await else { return };
    let (direct, folder) = (server.create_database().await, folder().await);
    let migration = format!("--migration-database-url={direct}");
    let options = ["--database-pooler=transaction", migration.as_str()];
    let first = try_vault(folder.path(), &pooler.url("vault_0"), &options).await.expect("it serves");
    // A second replica, so that connections of several clients meet on those of the server.
    let second = try_vault(folder.path(), &pooler.url("vault_0"), &options).await.expect("it serves");
    let replicas = [first, second];

    let outcomes = join_all((0..CLIENTS).map(|client| a_life_of_keys(&replicas, client, ROUNDS))).await;
    let calls: usize = outcomes.into_iter().sum();
    let connections = "SELECT 1 FROM pg_stat_activity WHERE datname = 'vault_0'";
    let used = server.sql(USER, connections).await.expect("activity");
    assert!((1..=4).contains(&used), "{used} connections of the server");
    println!("{calls} calls of {CLIENTS} clients over {used} connections, none failed");
}

/// Creates, reads, links, rotates, lists, resolves and deletes keys. Returns how many calls.
async fn a_life_of_keys(replicas: &[Vault], client: usize, rounds: usize) -> usize {
    let organization = || format!("client-{client}");
    let mut calls = 0;
    for round in 0..rounds {
        let vault = &replicas[(client + round) % replicas.len()];
        let mut keys = vault.keys.clone();
        let mut resolution = vault.resolution.clone();
        let profile = format!("p{round}");
        let request = CreateApiKeyRequest {
            organization_id: organization(),
            provider: Provider::Gemini.into(),
            display_name: profile.clone(),
            material: Some(KeyMaterial { api_key: format!("key-{client}-{round}") }),
            set_as_organization_default: true,
            ..Default::default()
        };
        let created = keys.create_api_key(request).await.expect("created").into_inner();
        let api_key_id = created.api_key.expect("a key").api_key_id;
        let request = AssignProfilesRequest {
            organization_id: organization(),
            api_key_id: api_key_id.clone(),
            profile_ids: vec![profile.clone()],
            ..Default::default()
        };
        keys.assign_profiles(request).await.expect("assigned");
        let request = RotateApiKeyRequest {
            organization_id: organization(),
            api_key_id: api_key_id.clone(),
            material: Some(KeyMaterial { api_key: format!("rotated-{client}-{round}") }),
            ..Default::default()
        };
        keys.rotate_api_key(request).await.expect("rotated");
        for profile_id in [Some(profile), None] {
            let provider = Provider::Gemini.into();
            let request = ResolveKeyRequest { organization_id: organization(), profile_id, provider };
            let resolved = resolution.resolve_key(request).await.expect("resolved").into_inner();
            assert_eq!(resolved.material.expect("material").api_key, format!("rotated-{client}-{round}"));
        }
        let request = GetApiKeyRequest { organization_id: organization(), api_key_id: api_key_id.clone() };
        keys.get_api_key(request).await.expect("found");
        let request = ListApiKeysRequest { organization_id: organization(), ..Default::default() };
        let listed = keys.list_api_keys(request).await.expect("listed").into_inner().api_keys;
        assert_eq!(listed.len(), 1, "{listed:?}");
        let request = DeleteApiKeyRequest { organization_id: organization(), api_key_id, ..Default::default() };
        keys.delete_api_key(request).await.expect("deleted");
        calls += 8;
    }
    calls
}

#[tokio::test]
async fn a_pooler_that_is_not_mentioned_is_noticed() {
    let Some(server) = Postgres::start().await else { return };
    let Some(pooler) = PgBouncer::start(&server).await else { return };
    server.create_database().await;
    let folder = folder().await;
    // The statements of both replicas have the same names, on the same connections.
    let outcome = async {
        let url = pooler.url("vault_0");
        let replicas = [vault(folder.path(), &url).await, vault(folder.path(), &url).await];
        join_all((0..16).map(|client| a_life_of_keys(&replicas, client, 5))).await
    };
    let noticed = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(outcome)).await;
    assert!(noticed.is_err(), "the test of the pooler would not notice");
}

/// An authority, and an identity by it.
fn identity(authority: &str, name: &str) -> (String, Tls) {
    let mut params = CertificateParams::new([]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, authority);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new([name.to_owned()]).expect("a name").signed_by(&key, &authority);
    let certificates = certificate.expect("a certificate").pem();
    (authority.pem(), Tls { certificates, key: key.serialize_pem() })
}

#[tokio::test]
async fn tls_takes_the_servers_authority_and_name_and_no_other() {
    let (authority, tls) = identity("ours", "127.0.0.1");
    let (foreign, _) = identity("foreign", "127.0.0.1");
    let Some(server) = Postgres::with_tls(tls).await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        fs::write(&path, pem).expect("a file");
        path.display().to_string()
    };
    let (right, wrong) = (file("ca.pem", &authority), file("foreign.pem", &foreign));

    let verified = format!("{url}?sslmode=verify-full&sslrootcert={right}");
    let replica = vault(folder.path(), &verified).await;
    replica.add("tls").await.expect("added");
    let encrypted = "SELECT 1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name = 'key-vault'";
    assert!(server.sql(USER, encrypted).await.expect("activity") > 0, "its connections are encrypted");

    for (url, said) in [
        (format!("{url}?sslmode=verify-full&sslrootcert={wrong}"), "UnknownIssuer"),
        (format!("{url}?sslmode=verify-full"), "UnknownIssuer"),
        (verified.replace("127.0.0.1", "localhost"), "not valid for name"),
    ] {
        let problem = refusal(folder.path(), &url, &[]).await;
        assert!(problem.contains("TLS failed") && problem.contains(said), "{said} is not in {problem}");
    }
    for (url, said) in [
        (format!("{url}?sslrootcert={right}"), "no effect without sslmode=verify-full"),
        (format!("{url}?sslmode=disable"), "no encryption"),
    ] {
        let problem = refusal(folder.path(), &url, &[]).await;
        assert!(problem.contains(said), "{said} is not in {problem}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_database_is_said_once_and_without_its_password() {
    let Some(mut server) = Postgres::with(Settings { auth: Auth::Scram, ..Settings::default() }).await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    vault(folder.path(), &url).await.add("scram").await.expect("added");
    let wrong = url.replace(PASSWORD, "wrong-MARKED");
    for (url, advice, cause) in [
        (wrong.as_str(), "check the user and the password", "password authentication failed"),
        (&server.url("absent"), "make it first", "\\\"absent\\\" does not exist"),
        (&url.replace("127.0.0.1", "host.invalid"), "is its name right", "lookup"),
    ] {
        let problem = refusal(folder.path(), url, &[]).await;
        assert!(problem.contains(advice), "{advice} is not in {problem}");
        let times =
            problem.matches(cause).count().max(problem.replace('\\', "").matches(&cause.replace('\\', "")).count());
        assert_eq!(times, 1, "{cause} once in {problem}");
        assert!(!problem.contains("MARKED"), "{problem}");
    }
    server.stop(Stop::Fast).await.expect("stopped");
    let problem = refusal(folder.path(), &url, &[]).await;
    assert!(problem.contains("nothing listens there"), "{problem}");
    assert_eq!(problem.matches("Connection refused").count(), 1, "{problem}");
}

#[tokio::test]
async fn a_server_that_stops_is_unavailable_until_it_is_back() {
    let Some(mut server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let vault = vault(folder.path(), &url).await;
    vault.add("before").await.expect("added");

    server.stop(Stop::Fast).await.expect("stopped");
    let since = Instant::now();
    let reads = join_all((0..20).map(|_| vault.resolve("before")));
    let writes = join_all((0..20).map(|_| vault.add("never")));
    let (reads, writes) = tokio::join!(reads, writes);
    let took = since.elapsed();
    for status in reads.into_iter().map(Result::unwrap_err).chain(writes.into_iter().map(Result::unwrap_err)) {
        let failure = Failure::from(status);
        assert_eq!((failure.class().as_str(), failure.value("outcome")), (UNAVAILABLE, ""), "{failure:?}");
    }
    assert!(took < ACQUIRE_MAX, "{took:?}");
    server.start_again().await.expect("started");
    let recovered = vault.recovers("before").await;
    println!("40 calls failed within {took:?}; it served again after {recovered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_right_answers_and_unavailable_while_a_server_restarts() {
    const WORKERS: usize = 4;
    const WRITES_BETWEEN: usize = 50;
    let Some(mut server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let vault = Arc::new(vault(folder.path(), &url).await);
    vault.add("before").await.expect("added");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (count, mut counted) = tokio::sync::watch::channel(0_usize);
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (vault, stopped, count) = (Arc::clone(&vault), stopped.clone(), count.clone());
            tokio::spawn(async move {
                let (mut written, mut failed, mut number) = (Vec::new(), 0, 0);
                while !*stopped.borrow() {
                    number += 1;
                    let name = format!("w{worker}-{number}");
                    for outcome in [
                        vault.add(&name).await.map(|_| {
                            written.push(name.clone());
                            count.send_modify(|count| *count += 1);
                        }),
                        vault.resolve("before").await.map(|material| assert_eq!(material, "sk-before")),
                    ] {
                        if let Err(status) = outcome {
                            assert_unavailable(status);
                            failed += 1;
                        }
                    }
                }
                (written, failed)
            })
        })
        .collect();
    for how in ["fast", "immediate", "kill"] {
        let before = *counted.borrow();
        // What it returns would keep the workers from counting on.
        let busy = counted.wait_for(|count| *count >= before + WRITES_BETWEEN).await.is_ok();
        assert!(busy, "the workers write");
        match how {
            "fast" => server.restart(Stop::Fast).await.expect("restarted"),
            "immediate" => server.restart(Stop::Immediate).await.expect("restarted"),
            _ => {
                server.kill_postmaster().await.expect("killed");
                server.start_again().await.expect("started");
            }
        }
        let recovered = vault.recovers("before").await;
        println!("{how}: it served again after {recovered:?}");
    }
    stop.send_replace(true);
    let (mut written, mut failed) = (0, 0);
    for worker in workers {
        let (names, failures) = worker.await.expect("the worker ends");
        failed += failures;
        written += names.len();
        for name in names {
            assert_eq!(vault.resolve(&name).await.expect("what was acknowledged is there"), format!("sk-{name}"));
        }
    }
    println!("{written} writes acknowledged, all there; {failed} calls unavailable");
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_unavailable_within_the_limit() {
    const CONNECTIONS: u32 = 20;
    let settings = Settings { max_connections: CONNECTIONS, ..Settings::default() };
    let Some(server) = Postgres::with(settings).await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let vault = vault(folder.path(), &url).await;
    vault.add("before").await.expect("added");
    let ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'key-vault'";
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = server.connect(USER).await.expect("a connection");
        if held.is_empty() {
            connection.execute_unprepared(ends).await.expect("the vault's connections are ended");
        }
        held.push(connection);
    }
    let since = Instant::now();
    let (read, write) = tokio::join!(vault.resolve("before"), vault.add("never"));
    let took = since.elapsed();
    for status in [read.expect_err("full"), write.map(drop).expect_err("full")] {
        assert_unavailable(status);
    }
    assert!(took < ACQUIRE_MAX, "{took:?}");
    join_all(held.into_iter().map(|connection| async { connection.close().await.expect("closed") })).await;
    let recovered = vault.recovers("before").await;
    println!("{CONNECTIONS} connections held; refused after {took:?}; it served again after {recovered:?}");
}

#[tokio::test]
async fn no_resolution_waits_behind_writes_that_wait() {
    /// How long the vault lets a write wait for those before it.
    const WRITE_LIMIT: Duration = Duration::from_secs(5);
    let Some(server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let vault = vault(folder.path(), &url).await;
    vault.add("before").await.expect("added");
    let holder = server.connect("vault_0").await.expect("a connection");
    holder.execute_unprepared("BEGIN; UPDATE vault_meta SET revision = revision").await.expect("held");

    let since = Instant::now();
    let writes = join_all((0..20).map(|_| vault.add("never")));
    let reads = async {
        let waiting = "SELECT 1 FROM pg_locks WHERE NOT granted";
        while server.sql(USER, waiting).await.expect("locks") == 0 {
            tokio::task::yield_now().await;
        }
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            let since = Instant::now();
            assert_eq!(vault.resolve("before").await.expect("resolved"), "sk-before");
            longest = longest.max(since.elapsed());
        }
        longest
    };
    let (writes, longest) = tokio::join!(writes, reads);
    for status in writes.into_iter().map(Result::unwrap_err) {
        assert_unavailable(status);
    }
    let took = since.elapsed();
    // One limit for a connection, and one for the lock.
    assert!(took < 2 * ACQUIRE_MAX, "{took:?}");
    assert!(longest < WRITE_LIMIT / 2, "{longest:?}");
    holder.close().await.expect("closed");
    vault.recovers("before").await;
    println!("the longest of 100 resolutions took {longest:?} while writes waited for {took:?}");
}

#[tokio::test]
async fn a_standby_is_not_used_until_it_is_promoted() {
    let Some(mut primary) = Postgres::start().await else { return };
    let url = primary.create_database().await;
    let folder = folder().await;
    let forwarder = Forwarder::start(primary.port()).await;
    let vault = vault(folder.path(), &forwarder.url(&url)).await;
    vault.add("before").await.expect("added");
    let standby = primary.standby().await.expect("a standby");

    let problem = refusal(folder.path(), &standby.url("vault_0"), &[]).await;
    assert!(problem.contains("must lead to the primary") && problem.contains("read-only"), "{problem}");

    // A failover: the address leads to the standby before that is promoted.
    let written = vault.add("last").await.expect("added");
    let arrived = format!("SELECT 1 FROM api_key WHERE api_key_id = '{}'", written.api_key_id);
    while standby.sql("vault_0", &arrived).await.expect("it reads") == 0 {
        tokio::task::yield_now().await;
    }
    primary.stop_immediate().await.expect("stopped");
    forwarder.lead_to(standby.port());
    let (read, write) = tokio::join!(vault.resolve("before"), vault.add("never"));
    for status in [read.expect_err("no answer of a standby"), write.map(drop).expect_err("no answer of a standby")] {
        assert_unavailable(status);
    }
    standby.promote().await.expect("promoted");
    let recovered = vault.recovers("before").await;
    assert_eq!(vault.resolve("last").await.expect("resolved"), "sk-last");
    println!("it served again {recovered:?} after the promotion");
}

#[tokio::test]
async fn a_server_that_becomes_read_only_is_left_alone() {
    let Some(server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let vault = vault(folder.path(), &url).await;
    vault.add("before").await.expect("added");
    for value in ["on", "off"] {
        configure(&server, "default_transaction_read_only", value).await;
        if value == "on" {
            let deadline = Instant::now() + RECOVERY_MAX;
            let status = loop {
                match vault.resolve("before").await {
                    Ok(_) => assert!(Instant::now() < deadline, "it goes on reading"),
                    Err(status) => break status,
                }
            };
            assert_unavailable(status);
        }
    }
    vault.recovers("before").await;
}

/// Changes a parameter of a running server. Its processes learn of it a moment later.
async fn configure(server: &Postgres, parameter: &str, value: &str) {
    // A statement each: ALTER SYSTEM is refused in a transaction.
    for statement in [format!("ALTER SYSTEM SET {parameter} = '{value}'"), "SELECT pg_reload_conf()".to_owned()] {
        server.sql(USER, &statement).await.expect("configured");
    }
}

#[tokio::test]
async fn a_write_that_a_standby_must_have_is_not_acknowledged_without_it() {
    let Some(server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let vault = vault(folder.path(), &url).await;
    vault.add("before").await.expect("added");
    // A write may also wait for one of the vault's own, and is undone then. Not often.
    for attempt in 0..ATTEMPTS_MAX {
        let name = format!("unknown-{attempt}");
        wait_for_absent_standby(&server, attempt).await;

        let since = Instant::now();
        let (write, read) = tokio::join!(vault.add(&name), vault.resolve("before"));
        let took = since.elapsed();
        let refused = Failure::from(read.expect_err("its record is not where it must be"));
        assert_eq!(refused.class(), "Unavailable AUDIT_UNAVAILABLE");
        let failure = Failure::from(write.expect_err("not acknowledged"));
        assert_eq!(failure.class(), UNAVAILABLE);
        assert!(took < 2 * ACQUIRE_MAX, "{took:?}");

        configure(&server, "synchronous_standby_names", "").await;
        vault.recovers("before").await;
        if failure.value("outcome") == "unknown" {
            assert_eq!(vault.resolve(&name).await.expect("the server had it"), format!("sk-{name}"));
            println!("the outcome was said to be unknown after {took:?}");
            return;
        }
        vault.resolve(&name).await.expect_err("what was undone is not there");
    }
    panic!("no commit was under way in {ATTEMPTS_MAX} attempts");
}

const ATTEMPTS_MAX: usize = 6;

/// Returns once commits wait for a standby that there is not.
async fn wait_for_absent_standby(server: &Postgres, attempt: usize) {
    configure(server, "synchronous_standby_names", "absent").await;
    // A commit waits once the server's own processes have read the setting, which is some time after a session has.
    for n in 0.. {
        let statement = format!("CREATE TABLE unconfirmed_{attempt}_{n} ()");
        let commit = server.sql(USER, &statement);
        if tokio::time::timeout(Duration::from_millis(500), commit).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_way_that_falls_silent_is_given_up_and_made_anew() {
    let Some(server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let forwarder = Forwarder::start(server.port()).await;
    let vault = vault(folder.path(), &forwarder.url(&url)).await;
    vault.add("before").await.expect("added");

    forwarder.falls_silent(true);
    let since = Instant::now();
    let reads = join_all((0..20).map(|_| vault.resolve("before")));
    let (reads, write) = tokio::join!(reads, vault.add("never"));
    let took = since.elapsed();
    for status in reads.into_iter().map(Result::unwrap_err).chain([write.map(drop).expect_err("silent")]) {
        assert_unavailable(status);
    }
    assert!(took < ACQUIRE_MAX, "{took:?}");
    forwarder.falls_silent(false);
    let recovered = vault.recovers("before").await;
    println!("given up after {took:?}; it served again after {recovered:?}");
}

#[tokio::test]
async fn a_commit_without_an_answer_is_said_to_be_unknown() {
    let Some(server) = Postgres::start().await else { return };
    let (url, folder) = (server.create_database().await, folder().await);
    let forwarder = Forwarder::start(server.port()).await;
    let vault = vault(folder.path(), &forwarder.url(&url)).await;
    vault.add("before").await.expect("added");

    forwarder.cut_after("COMMIT\0");
    let failure = Failure::from(vault.add("unknown").await.expect_err("cut"));
    assert_eq!((failure.class().as_str(), failure.value("outcome")), (UNAVAILABLE, "unknown"));
    assert!(failure.message.contains("request_id"), "{}", failure.message);
    forwarder.cut_after("never");
    let failure = Failure::from(vault.add("never").await.expect_err("cut"));
    assert_eq!((failure.class().as_str(), failure.value("outcome")), (UNAVAILABLE, ""), "it had not begun to commit");

    vault.recovers("before").await;
    // The server had read the COMMIT.
    assert_eq!(vault.resolve("unknown").await.expect("resolved"), "sk-unknown");
    assert_eq!(Failure::from(vault.resolve("never").await.expect_err("absent")).reason, "NO_KEY_CONFIGURED");
}
