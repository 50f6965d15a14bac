//! The vault: its database, its keyring, its secrets manager, its audit log.

use std::{fs, time::Duration};

use proto::{
    keyvault::{
        ListAuditEventsRequest, ResolveKeyRequest, VerifyAuditLogRequest,
        key_resolution_service_client::KeyResolutionServiceClient, vault_admin_service_client::VaultAdminServiceClient,
    },
    types::Provider,
};
use sea_orm::Database;
use system_tests::{
    Links, ORGANIZATION, Postgres, Process, Setup, Storage, System,
    openbao::{self, OpenBao},
    postgres::Stop,
    replicas::eventually,
    skip_without, start_vault,
};
use tokio_stream::StreamExt as _;
use tonic_health::pb::health_check_response::ServingStatus::{self, NotServing, Serving};

use crate::{KEY, assert_health, get, health, is_ready, of, says};

const API_KEYS: &str = "archestra.keyvault.v1.ApiKeyService";
const RESOLUTION: &str = "archestra.keyvault.v1.KeyResolutionService";
const USAGE: &str = "archestra.keyvault.v1.UsageService";
const ADMIN: &str = "archestra.keyvault.v1.VaultAdminService";

fn all(status: ServingStatus) -> [(&'static str, ServingStatus); 5] {
    [API_KEYS, RESOLUTION, USAGE, ADMIN, ""].map(|service| (service, status))
}

fn with(options: Vec<String>) -> Setup {
    Setup { vault_options: options, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_said_and_seen_to_come_back() {
    let Some(mut postgres) = Postgres::start().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let setup = with(vec![format!("--database-url={}", postgres.create_database().await)]);
    let vault = start_vault(folder.path(), &setup).await.expect("it serves");
    let body = is_ready(&vault).await;
    assert_eq!(body, "store: ok\nkeyring: ok\nsecrets_manager: ok\naudit: ok\n");
    assert_health(&vault, &all(Serving)).await;
    let mut watch = health(&vault).watch(of(RESOLUTION)).await.expect("a watch").into_inner();
    assert_eq!(watch.next().await.expect("a status").expect("a status").status(), Serving);

    postgres.stop(Stop::Fast).await.expect("it stops");
    let body = says(&vault, 503, "see that the database runs").await;
    assert!(body.contains("keyring: ok"), "the rest is well: {body}");
    assert_health(&vault, &all(NotServing)).await;
    assert_eq!(watch.next().await.expect("a status").expect("a status").status(), NotServing);

    postgres.start_again().await.expect("it starts");
    is_ready(&vault).await;
    assert_health(&vault, &all(Serving)).await;
    assert_eq!(watch.next().await.expect("a status").expect("a status").status(), Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_takes_no_writes_is_said() {
    let mut system = System::with(Setup { database: Storage::Sqlite, ..Setup::default() }).await;
    system.add_key(Provider::Openai, KEY, Links { default: true, profiles: &[] }).await;
    is_ready(&system.vault).await;
    let resolve = async || {
        let request = ResolveKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            profile_id: None,
            provider: Provider::Openai.into(),
        };
        KeyResolutionServiceClient::connect(system.vault.url()).await.expect("a connection").resolve_key(request).await
    };
    resolve().await.expect("a key");

    // Somebody else writes, and does not end.
    let other = Database::connect(system.database_url()).await.expect("the database");
    let other = other.get_sqlite_connection_pool().acquire().await.map(sea_orm::sqlx::pool::PoolConnection::detach);
    let mut other = other.expect("a connection");
    let execute = async |connection: &mut _, statement: &'static str| {
        sea_orm::sqlx::raw_sql(statement).execute(connection).await.expect(statement);
    };
    execute(&mut other, "BEGIN IMMEDIATE").await;
    assert!(resolve().await.is_err(), "no key leaves without a record");
    let body = says(&system.vault, 503, "audit: no call can be recorded").await;
    assert!(body.contains("keyring: ok"), "{body}");
    assert_health(&system.vault, &[("", NotServing), (RESOLUTION, NotServing)]).await;
    let body = says(&system.vault, 503, "store: the database takes no writes").await;
    assert!(body.contains("keyring: ok"), "{body}");
    assert_health(&system.vault, &[(API_KEYS, NotServing), (ADMIN, NotServing)]).await;

    // Nobody asks for a key, and it is noticed all the same.
    execute(&mut other, "ROLLBACK").await;
    is_ready(&system.vault).await;
    assert_health(&system.vault, &all(Serving)).await;
    assert_nothing_was_recorded_but(&system.vault, &["CreateApiKey", "ResolveKey"]).await;
    resolve().await.expect("a key");
}

/// Whatever was tried to find out that records are taken again.
async fn assert_nothing_was_recorded_but(vault: &Process, actions: &[&str]) {
    let mut admin = VaultAdminServiceClient::connect(vault.url()).await.expect("a connection");
    let request = ListAuditEventsRequest { page_size: 1_000, ..Default::default() };
    let events = admin.list_audit_events(request).await.expect("a page").into_inner().events;
    assert!(!events.is_empty());
    assert!(events.iter().all(|event| actions.contains(&event.action.as_str())), "{events:?}");
    let log = admin.verify_audit_log(VerifyAuditLogRequest::default()).await.expect("an answer").into_inner();
    assert!(log.valid && log.next_page_token.is_empty(), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyring_that_cannot_open_is_said_and_taken_up_when_it_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = folder.path().join("keyring");
    let vault = start_vault(folder.path(), &Setup::default()).await.expect("it serves");
    assert!(vault.stop().await.0.success());
    let away = folder.path().join("away");
    fs::rename(&keyring, &away).expect("it is put away");

    let vault = start_vault(folder.path(), &Setup { sealed: true, ..Setup::default() }).await.expect("it listens");
    let body = says(&vault, 503, "store: ok\nkeyring: the keys of this database cannot be opened").await;
    assert!(body.contains("cannot be read"), "{body}");
    let no_keys = [("", NotServing), (API_KEYS, NotServing), (RESOLUTION, NotServing)];
    assert_health(&vault, &no_keys).await;
    assert_health(&vault, &[(USAGE, Serving), (ADMIN, Serving)]).await;

    fs::rename(&away, &keyring).expect("it is put back");
    is_ready(&vault).await;
    assert_health(&vault, &all(Serving)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_open_serve_on_without_the_secrets_manager() {
    if !openbao::is_installed().await {
        return skip_without("OpenBao");
    }
    let mut bao = OpenBao::clustered().await.expect("a server");
    bao.enable_transit("root").await.expect("a key");
    let folder = tempfile::tempdir().expect("a folder");
    let vault = start_vault(folder.path(), &with(transit(&bao).await)).await.expect("it serves");
    is_ready(&vault).await;

    bao.kill().await.expect("it is killed");
    let body = says(&vault, 200, "secrets_manager: the transit server cannot be reached").await;
    assert!(body.starts_with("store: ok\nkeyring: ok\n"), "{body}");
    assert!(!body.contains(bao.root_token()), "{body}");
    assert_health(&vault, &all(Serving)).await;

    bao.restart().await.expect("it starts");
    bao.unseal().await.expect("it is unsealed");
    eventually("the secrets manager is well", async || {
        get(&vault, "/readyz").await.body.contains("secrets_manager: ok").then_some(())
    })
    .await;
}

async fn transit(bao: &OpenBao) -> Vec<String> {
    let role = bao.approle("root", "1h").await.expect("a role");
    let mut options = vec![
        "--secrets-manager=transit".to_owned(),
        format!("--transit-address={}", bao.url()),
        "--transit-key=root".to_owned(),
        "--transit-auth=approle".to_owned(),
        format!("--transit-role-id={}", role.role_id),
        format!("--transit-secret-id-file={}", role.secret_id_file.display()),
    ];
    options.extend(bao.ca_file().map(|file| format!("--transit-ca-file={}", file.display())));
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_health_holds_up_no_shutdown() {
    let folder = tempfile::tempdir().expect("a folder");
    let vault = start_vault(folder.path(), &with(vec!["--drain-seconds=20".to_owned()])).await.expect("it serves");
    let mut watch = health(&vault).watch(of("")).await.expect("a watch").into_inner();
    assert_eq!(watch.next().await.expect("a status").expect("a status").status(), Serving);
    let began = std::time::Instant::now();
    let (status, log) = vault.stop().await;
    assert!(status.success(), "{log}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(watch.next().await.expect("a status").expect("a status").status(), NotServing);
}
