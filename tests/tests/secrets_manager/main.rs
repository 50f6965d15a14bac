//! A vault whose root key stays with a real OpenBao server: while the server is away, what
//! runs serves on, what starts waits, and both are well again within ten seconds.

mod proxy;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto::{
    keyvault::{
        CreateApiKeyRequest, GetSealStatusRequest, KeyMaterial, ResolveKeyRequest, RewrapKeyEncryptionKeysRequest,
        api_key_service_client::ApiKeyServiceClient, key_resolution_service_client::KeyResolutionServiceClient,
        vault_admin_service_client::VaultAdminServiceClient,
    },
    types::Provider,
};
use system_tests::{
    ORGANIZATION, Postgres, Process, Setup,
    openbao::{self, OpenBao},
    start_vault,
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::sleep};
use tonic::transport::{Channel, Endpoint};

use proxy::{Fault, Proxy};

const KEY: &str = "root";
const MATERIAL: &str = "sk-kept-by-openbao-0123456789";

/// How soon everything is well after the secrets manager is.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// How soon a replica notices that its secrets manager is not.
const NOTICE_MAX: Duration = Duration::from_secs(30);

/// The fewest seconds between two logins of one replica.
const LOGIN_SPACING: Duration = Duration::from_secs(5);

/// A database for several vaults, and what they share.
struct World {
    database: String,
    folder: TempDir,
    _postgres: Postgres,
}

impl World {
    async fn start() -> Option<Self> {
        if !openbao::is_installed().await {
            return None;
        }
        let postgres = Postgres::start().await?;
        let database = postgres.create_database().await;
        Some(Self { database, folder: tempfile::tempdir().expect("a folder"), _postgres: postgres })
    }

    /// A vault that is told `options`. `sealed` waits only until it listens.
    async fn vault(&self, options: &[String], sealed: bool) -> Replica {
        let mut vault_options = vec![format!("--database-url={}", self.database)];
        vault_options.extend_from_slice(options);
        let setup = Setup { vault_options, sealed, ..Setup::default() };
        let process = start_vault(self.folder.path(), &setup).await.expect("the vault starts");
        let channel = Endpoint::from_shared(process.url()).expect("a URL").connect_lazy();
        Replica { process, channel }
    }
}

/// One vault.
struct Replica {
    process: Process,
    channel: Channel,
}

impl Replica {
    async fn add_key(&self) {
        let request = CreateApiKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            provider: Provider::Openai.into(),
            display_name: "kept".to_owned(),
            material: Some(KeyMaterial { api_key: MATERIAL.to_owned() }),
            set_as_organization_default: true,
            ..Default::default()
        };
        ApiKeyServiceClient::new(self.channel.clone()).create_api_key(request).await.expect("the key is stored");
    }

    async fn resolves(&self) -> bool {
        resolves(&self.channel).await
    }

    /// Why it is sealed; empty if it is not.
    async fn reason(&self) -> String {
        let request = GetSealStatusRequest {};
        VaultAdminServiceClient::new(self.channel.clone())
            .get_seal_status(request)
            .await
            .expect("a sealed vault answers the operator")
            .into_inner()
            .reason
    }

    async fn manager_is_well(&self) -> bool {
        let request = GetSealStatusRequest {};
        let status = VaultAdminServiceClient::new(self.channel.clone()).get_seal_status(request).await;
        status.expect("an answer").into_inner().secrets_manager.expect("a secrets manager").healthy
    }
}

async fn resolves(channel: &Channel) -> bool {
    let request = ResolveKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        profile_id: None,
        provider: Provider::Openai.into(),
    };
    let resolved = KeyResolutionServiceClient::new(channel.clone()).resolve_key(request).await;
    resolved.is_ok_and(|resolved| resolved.into_inner().material.expect("a key").api_key == MATERIAL)
}

/// Resolves without a pause until it is asked how that went.
struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Traffic {
    fn start(channel: Channel) -> Self {
        let traffic = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stop, calls, failed) = traffic.clone();
        let task = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if !resolves(&channel).await {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (stop, calls, failed) = traffic;
        Self { stop, calls, failed, task }
    }

    /// How many calls were made, none of which failed. So many that it is traffic.
    async fn all_succeeded(self) -> u64 {
        until("there is traffic", NOTICE_MAX, async || self.calls.load(Ordering::Relaxed) > 100).await;
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it ends");
        let calls = self.calls.load(Ordering::Relaxed);
        assert_eq!(self.failed.load(Ordering::Relaxed), 0, "of {calls} calls");
        calls
    }
}

/// Asks again until it is so. Returns how long that took.
async fn until(what: &str, limit: Duration, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
    start.elapsed()
}

async fn transit(bao: &OpenBao, address: &str) -> Vec<String> {
    let role = bao.approle(KEY, "1h").await.expect("a role");
    let mut options = vec![
        "--secrets-manager=transit".to_owned(),
        format!("--transit-address={address}"),
        format!("--transit-key={KEY}"),
        "--transit-auth=approle".to_owned(),
        format!("--transit-role-id={}", role.role_id),
        format!("--transit-secret-id-file={}", role.secret_id_file.display()),
    ];
    options.extend(bao.ca_file().map(|path| format!("--transit-ca-file={}", path.display())));
    options
}

#[tokio::test]
async fn a_sealed_or_restarted_openbao_stops_nobody_who_runs() {
    let Some(world) = World::start().await else { return };
    let mut bao = OpenBao::clustered().await.expect("a server with raft and TLS");
    bao.enable_transit(KEY).await.expect("an engine");
    let options = transit(&bao, &bao.url()).await;
    let running = world.vault(&options, false).await;
    running.add_key().await;
    let traffic = Traffic::start(running.channel.clone());

    for fault in ["sealed", "restarted"] {
        match fault {
            "sealed" => bao.seal().await.expect("sealing"),
            _ => bao.kill().await.expect("a kill"),
        }
        let waiting = world.vault(&options, true).await;
        until("a new replica says why it waits", NOTICE_MAX, async || !waiting.reason().await.contains("starting"))
            .await;
        assert!(!waiting.reason().await.is_empty() && !waiting.resolves().await, "{fault}: {}", waiting.reason().await);
        until("the running one notices", NOTICE_MAX, async || !running.manager_is_well().await).await;

        if fault == "restarted" {
            bao.restart().await.expect("it starts again");
        }
        bao.unseal().await.expect("unsealing");
        let recovered = until("the new one serves", RECOVERY_MAX, async || waiting.resolves().await).await;
        until("the running one notices", RECOVERY_MAX, async || running.manager_is_well().await).await;
        println!("{fault}: recovered within {recovered:?}");
    }
    println!("{} resolves, none failed", traffic.all_succeeded().await);
}

#[tokio::test]
async fn a_slow_lost_or_misleading_openbao_stops_nobody_who_runs_and_gets_no_storm() {
    let Some(world) = World::start().await else { return };
    let bao = OpenBao::development().await.expect("a server");
    bao.enable_transit(KEY).await.expect("an engine");
    // Where a redirect leads: whoever comes there brings a token.
    let elsewhere = Proxy::start(None).await;
    let proxy = Proxy::start(Some(bao.url())).await;
    let options = transit(&bao, &proxy.url()).await;
    let running = world.vault(&options, false).await;
    running.add_key().await;
    let traffic = Traffic::start(running.channel.clone());
    let mut seen_before = proxy.logins();

    for fault in [Fault::Silence, Fault::Reset, Fault::Redirect(elsewhere.url())] {
        proxy.set(Some(fault.clone()));
        let waiting = world.vault(&options, true).await;
        until("a new replica says why it waits", NOTICE_MAX, async || !waiting.reason().await.contains("starting"))
            .await;
        assert!(!waiting.resolves().await, "{fault:?}");
        until("the running one notices", NOTICE_MAX, async || !running.manager_is_well().await).await;
        proxy.set(None);
        let recovered = until("the new one serves", RECOVERY_MAX, async || waiting.resolves().await).await;
        until("the running one notices", RECOVERY_MAX, async || running.manager_is_well().await).await;
        println!("{fault:?}: recovered within {recovered:?}");
        drop(waiting);
        seen_before = proxy.logins();
    }
    assert_eq!(elsewhere.connections(), 0, "nobody follows a redirect");

    // Only one vault is left, so every login is its own.
    for _ in 0..2 {
        bao.revoke_tokens().await.expect("revocation");
        until("a dead token is noticed and replaced", RECOVERY_MAX + NOTICE_MAX, async || {
            proxy.logins().len() > seen_before.len() && running.manager_is_well().await
        })
        .await;
    }
    let logins = proxy.logins().split_off(seen_before.len());
    for pair in logins.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(apart >= LOGIN_SPACING.checked_sub(Duration::from_millis(200)).unwrap(), "two logins within {apart:?}");
    }
    println!("{} logins after revocations; {} resolves, none failed", logins.len(), traffic.all_succeeded().await);
}

#[tokio::test]
async fn a_vault_moves_from_its_keyring_to_openbao_while_it_serves() {
    let Some(world) = World::start().await else { return };
    let bao = OpenBao::development().await.expect("a server");
    bao.enable_transit(KEY).await.expect("an engine");
    let transit = transit(&bao, &bao.url()).await;
    let first = world.vault(&[], false).await;
    first.add_key().await;

    // A replica that has only the keyring could not start again after the move.
    let second = world.vault(&transit, false).await;
    let mut admin = VaultAdminServiceClient::new(second.channel.clone());
    let refused = admin.rewrap_key_encryption_keys(RewrapKeyEncryptionKeysRequest {}).await.expect_err("too early");
    assert!(refused.message().contains("transit"), "{}", refused.message());

    let traffic = Traffic::start(second.channel.clone());
    let (status, _) = first.process.stop().await;
    assert!(status.success());
    let moved = admin.rewrap_key_encryption_keys(RewrapKeyEncryptionKeysRequest {}).await.expect("moved").into_inner();
    assert_eq!((moved.rewrapped_count, moved.total_count), (1, 1));
    let again = admin.rewrap_key_encryption_keys(RewrapKeyEncryptionKeysRequest {}).await.expect("again").into_inner();
    assert_eq!((again.rewrapped_count, again.total_count), (0, 1), "what is right stays");

    // After a rotation of OpenBao's own key the same call wraps anew.
    bao.rotate_transit_key(KEY).await.expect("rotation");
    let anew = admin.rewrap_key_encryption_keys(RewrapKeyEncryptionKeysRequest {}).await.expect("anew").into_inner();
    assert_eq!(anew.rewrapped_count, 1);
    bao.set_min_decryption_version(KEY, 2).await.expect("the old version is refused from now on");

    std::fs::remove_file(world.folder.path().join("keyring")).expect("the keyring is not needed any more");
    let third = world.vault(&transit, false).await;
    assert!(third.resolves().await);
    println!("{} resolves during the move, none failed", traffic.all_succeeded().await);
}
