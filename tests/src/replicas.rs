//! Vaults over one database, each of which can crash, hang and come back.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use proto::{
    keyvault::{
        ApiKey, GetApiKeyRequest, GetSealStatusRequest, GetSealStatusResponse, KeyChange, ListApiKeysRequest,
        ResolveKeyRequest, ResolveKeyResponse, api_key_service_client::ApiKeyServiceClient,
        key_resolution_service_client::KeyResolutionServiceClient, vault_admin_service_client::VaultAdminServiceClient,
    },
    types::Provider,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::{Postgres, Process, Setup, Storage, answer::Failure, folder, postgres, start_vault, watcher::Watcher};

/// How long a call may take. A replica that hangs for longer is given up.
const CALL_MAX: Duration = Duration::from_secs(5);

/// How long anything may take that must come to pass in the end.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Vaults over one database.
#[derive(Debug)]
pub struct Replicas {
    vaults: Vec<Replica>,
    setup: Setup,
    postgres: Option<Postgres>,
    folder: TempDir,
}

#[derive(Debug)]
struct Replica {
    process: Option<Process>,
    door: watch::Sender<Way>,
    /// What its processes wrote that have ended.
    log: String,
}

impl Replicas {
    /// Starts `count` vaults over one new database. `None` if the machine lacks the database,
    /// which is said.
    pub async fn start(storage: Storage, count: usize) -> Option<Self> {
        Self::with(storage, count, Setup { folder_in_memory: true, ..Setup::default() }).await
    }

    /// The same, of another setup.
    pub async fn with(storage: Storage, count: usize, mut setup: Setup) -> Option<Self> {
        let folder = folder(&setup).expect("a folder");
        let postgres = match storage {
            Storage::Sqlite => {
                assert_eq!(count, 1, "one SQLite file serves one process");
                None
            }
            // Its own, since it crashes too.
            Storage::Postgres => {
                let in_memory = setup.folder_in_memory;
                let settings = postgres::Settings { in_memory, ..postgres::Settings::default() };
                let postgres = Postgres::with(settings).await?;
                setup.vault_options.push(format!("--database-url={}", postgres.create_database().await));
                Some(postgres)
            }
        };
        setup.database = storage;
        let mut vaults = Vec::new();
        for _ in 0..count {
            let process = start_vault(folder.path(), &setup).await.expect("the vault starts");
            let door = watch::Sender::new(Way::to(&process.url()));
            vaults.push(Replica { process: Some(process), door, log: String::new() });
        }
        Some(Self { vaults, setup, postgres, folder })
    }

    /// The way to one replica, wherever it listens when it is used.
    pub fn door(&self, replica: usize) -> Door {
        Door(self.vaults[replica].door.subscribe())
    }

    /// The ways to all.
    pub fn doors(&self) -> Vec<Door> {
        (0..self.vaults.len()).map(|replica| self.door(replica)).collect()
    }

    /// The process of a replica. Panics if it was killed.
    pub fn process(&self, replica: usize) -> &Process {
        self.vaults[replica].process.as_ref().expect("it runs")
    }

    /// The database's server. Panics if it is a file.
    pub fn postgres(&mut self) -> &mut Postgres {
        self.postgres.as_mut().expect("a server")
    }

    /// Where an SQLite database and the keyring are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends a replica as a crash would.
    pub async fn kill(&mut self, replica: usize) {
        let vault = &mut self.vaults[replica];
        let process = vault.process.take().expect("it runs");
        vault.log += &process.kill().await;
    }

    /// Asks a replica to stop, and waits until it has.
    pub async fn stop_one(&mut self, replica: usize) {
        let vault = &mut self.vaults[replica];
        let (status, written) = vault.process.take().expect("it runs").stop().await;
        assert!(status.success(), "a vault stops well: {status}\n{written}");
        vault.log += &written;
    }

    /// Starts a replica that was killed or stopped.
    pub async fn start_again(&mut self, replica: usize) {
        let process = start_vault(self.folder.path(), &self.setup).await.expect("the vault starts again");
        let vault = &mut self.vaults[replica];
        vault.door.send_replace(Way::to(&process.url()));
        vault.process = Some(process);
    }

    /// Kills a replica and starts it again.
    pub async fn crash(&mut self, replica: usize) {
        self.kill(replica).await;
        self.start_again(replica).await;
    }

    /// Asks all that run to stop, and returns everything that was ever logged, and the folder
    /// with what they left.
    pub async fn stop(self) -> (String, TempDir) {
        let mut log = String::new();
        for vault in self.vaults {
            log += &vault.log;
            if let Some(process) = vault.process {
                let (status, written) = process.stop().await;
                assert!(status.success(), "a vault stops well: {status}\n{written}");
                log += &written;
            }
        }
        (log, self.folder)
    }
}

/// Where a process listens, and the connection that most calls share.
#[derive(Clone, Debug)]
struct Way {
    endpoint: Endpoint,
    channel: Channel,
}

impl Way {
    fn to(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        let endpoint = endpoint.timeout(CALL_MAX).connect_timeout(CALL_MAX);
        let channel = endpoint.connect_lazy();
        Self { endpoint, channel }
    }
}

/// The way to a replica. Leads to its new process after it came back.
#[derive(Clone, Debug)]
pub struct Door(watch::Receiver<Way>);

impl Door {
    /// The way to a process that stands at one place.
    pub fn to(url: &str) -> Self {
        Self(watch::Sender::new(Way::to(url)).subscribe())
    }

    /// A client of it.
    pub fn keys(&self) -> ApiKeyServiceClient<Channel> {
        ApiKeyServiceClient::new(self.0.borrow().channel.clone())
    }

    /// A client of it.
    pub fn resolution(&self) -> KeyResolutionServiceClient<Channel> {
        KeyResolutionServiceClient::new(self.0.borrow().channel.clone())
    }

    /// A client of it.
    pub fn admin(&self) -> VaultAdminServiceClient<Channel> {
        VaultAdminServiceClient::new(self.0.borrow().channel.clone())
    }

    /// Opens a stream of changes, on a connection of its own: one that is not read for long would
    /// end the connection, and other calls with it.
    ///
    /// # Errors
    ///
    /// What the vault or the connection to it said.
    pub async fn watch(&self, from_revision: Option<i64>, epoch: &str) -> Result<Watcher, Failure> {
        let channel = self.0.borrow().endpoint.connect_lazy();
        Watcher::open(KeyResolutionServiceClient::new(channel), from_revision, epoch).await
    }

    /// Resolves a key.
    ///
    /// # Errors
    ///
    /// What the vault or the connection to it said.
    pub async fn resolve(
        &self,
        organization: &str,
        profile: Option<&str>,
        provider: Provider,
    ) -> Result<ResolveKeyResponse, Failure> {
        let request = ResolveKeyRequest {
            organization_id: organization.to_owned(),
            profile_id: profile.map(str::to_owned),
            provider: provider.into(),
        };
        Ok(self.resolution().resolve_key(request).await?.into_inner())
    }

    /// All keys of an organization, which must fit on one page.
    ///
    /// # Errors
    ///
    /// What the vault or the connection to it said.
    pub async fn list(&self, organization: &str) -> Result<Vec<ApiKey>, Failure> {
        let request =
            ListApiKeysRequest { organization_id: organization.to_owned(), page_size: 1_000, ..Default::default() };
        let page = self.keys().list_api_keys(request).await?.into_inner();
        assert_eq!(page.next_page_token, "", "one page");
        Ok(page.api_keys)
    }

    /// One key.
    ///
    /// # Errors
    ///
    /// What the vault or the connection to it said.
    pub async fn key(&self, organization: &str, id: &str) -> Result<ApiKey, Failure> {
        let request = GetApiKeyRequest { organization_id: organization.to_owned(), api_key_id: id.to_owned() };
        let response = self.keys().get_api_key(request).await?.into_inner();
        Ok(response.api_key.expect("a key is returned"))
    }

    /// Whether it can seal and open, and what it knows of the others.
    ///
    /// # Errors
    ///
    /// What the vault or the connection to it said.
    pub async fn status(&self) -> Result<GetSealStatusResponse, Failure> {
        Ok(self.admin().get_seal_status(GetSealStatusRequest {}).await?.into_inner())
    }

    /// The revision of the last change.
    pub async fn revision(&self) -> i64 {
        self.watch(None, "").await.expect("a stream").position
    }

    /// Every change from the first on, to the last that there is.
    pub async fn all_changes(&self) -> Vec<KeyChange> {
        let now = self.watch(None, "").await.expect("a stream");
        let mut all = self.watch(Some(0), &now.epoch).await.expect("a stream from the start");
        all.up_to(now.position).await.expect("all changes")
    }
}

/// Makes a test for each database of each function that takes one.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name($crate::Storage::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgresql() {
                super::$name($crate::Storage::Postgres).await;
            }
        })*
    };
}

/// Asks until the answer is `Some`, for as long as [`PATIENCE`]. Asks often at first.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not come to pass in {PATIENCE:?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
