//! Both services as processes, with a fake provider, for tests and for the demo.
//!
//! [`System::start`] runs the real binaries with `--dev` on ports that the system chose
//! and in a folder of its own, so any number of systems run side by side. Everything
//! ends with its [`System`].
//!
//! Odd: with `SYSTEM_TESTS_DATABASE=postgres` every system that does not say otherwise has a
//! database on a PostgreSQL server of this process, in place of an SQLite file.

pub mod answer;
pub mod bench;
pub mod certs;
pub mod chats;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod container;
pub mod fake_provider;
pub mod fault_proxy;
pub mod fixtures;
pub mod foreign_server;
pub mod history;
pub mod load;
pub mod mutation;
pub mod openbao;
pub mod paced;
pub mod phoenix;
pub mod postgres;
mod process;
pub mod prometheus;
pub mod replicas;
pub mod resident;
pub mod secured;
pub mod soak;
pub mod stage;
pub mod vault_front;
pub mod vault_stage;
pub mod watcher;

use std::{ffi::OsString, path::Path};

use anyhow::{Context as _, Result};
use proto::{
    chat::chat_service_client::ChatServiceClient,
    keyvault::{
        ApiKey, CreateApiKeyRequest, KeyMaterial, api_key_service_client::ApiKeyServiceClient,
        key_resolution_service_client::KeyResolutionServiceClient,
    },
    types::Provider,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint};

pub use fake_provider::FakeProvider;
pub use postgres::{PgBouncer, Postgres};
pub use process::{Process, binary, command, services_from};
pub use replicas::Replicas;

/// The organization that most tests speak of.
pub const ORGANIZATION: &str = "acme";

/// How a system differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Variables of the vault's environment.
    pub vault_environment: Vec<(String, String)>,
    /// Variables of the gateway's environment.
    pub gateway_environment: Vec<(String, String)>,
    /// Further options of the vault.
    pub vault_options: Vec<String>,
    /// Further options of the gateway.
    pub gateway_options: Vec<String>,
    /// Waits only until the vault listens: it is to stay sealed.
    pub sealed: bool,
    /// What both log. `info` unless given.
    pub log_filter: Option<String>,
    /// Keeps the database in memory if the machine can: for tests of many thousand writes,
    /// none of which is about what survives.
    pub folder_in_memory: bool,
    /// Whether the services are told who they are and whom they know. Otherwise they run for
    /// development.
    pub secured: bool,
    /// Where the vault keeps its keys. SQLite unless the environment says otherwise.
    pub database: Storage,
}

impl Setup {
    /// A gateway that asks a provider once whatever it answers: for tests of what answers mean.
    pub fn asking_once() -> Self {
        let gateway_options = vec!["--attempts-max=1".to_owned(), "--circuit-faults=0".to_owned()];
        Self { gateway_options, ..Self::default() }
    }

    fn development(&self) -> Option<&'static str> {
        (!self.secured).then_some("--dev")
    }

    fn scheme(&self) -> &'static str {
        if self.secured { "https" } else { "http" }
    }
}

/// Where a vault keeps its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A file in the folder of the system.
    Sqlite,
    /// A database of its own, on a server that the systems of this process share.
    Postgres,
}

impl Default for Storage {
    /// What `SYSTEM_TESTS_DATABASE` says.
    fn default() -> Self {
        match std::env::var("SYSTEM_TESTS_DATABASE").as_deref() {
            Err(_) | Ok("" | "sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok(other) => panic!("SYSTEM_TESTS_DATABASE={other} is not `sqlite` or `postgres`"),
        }
    }
}

impl Storage {
    /// An id, as a literal of SQL.
    pub fn uuid(self, id: &str) -> String {
        match self {
            Self::Sqlite => format!("X'{}'", id.replace('-', "")),
            Self::Postgres => format!("'{id}'"),
        }
    }

    /// Bytes, as a literal of SQL.
    pub fn bytes(self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sqlite => format!("X'{hex}'"),
            Self::Postgres => format!("'\\x{hex}'::bytea"),
        }
    }

    /// The database of the vault in `folder`. Made if it is not there.
    async fn url(self, folder: &Path) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", folder.join("vault.db").display()),
            Self::Postgres => shared_server().await.ensure_database(&database_name(folder)).await,
        }
    }
}

/// The server of all systems of this process. It ends with the process.
async fn shared_server() -> &'static Postgres {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    let start = || async {
        let settings = postgres::Settings { in_memory: true, ..postgres::Settings::default() };
        let server = Postgres::with(settings).await;
        server.expect("SYSTEM_TESTS_DATABASE=postgres needs PostgreSQL 15 or newer")
    };
    SERVER.get_or_init(start).await
}

/// The name of the database that stands for the file in `folder`.
fn database_name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("vault_{}", name.chars().filter(char::is_ascii_alphanumeric).collect::<String>())
}

/// A vault, a gateway and a fake provider.
#[derive(Debug)]
pub struct System {
    /// The vault's process.
    pub vault: Process,
    /// The gateway's process.
    pub gateway: Process,
    /// What stands for all three providers.
    pub provider: FakeProvider,
    /// A client of the vault.
    pub keys: ApiKeyServiceClient<Channel>,
    /// A client of the vault.
    pub resolution: KeyResolutionServiceClient<Channel>,
    /// A client of the gateway.
    pub chat: ChatServiceClient<Channel>,
    folder: TempDir,
    storage: Storage,
    database_url: String,
}

impl System {
    /// Starts the usual system.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// Starts a system and waits until it serves.
    pub async fn with(setup: Setup) -> Self {
        Self::try_with(setup).await.expect("the system starts")
    }

    /// Starts a system and waits until it serves.
    ///
    /// # Errors
    ///
    /// Says which part did not start, with what it logged.
    pub async fn try_with(setup: Setup) -> Result<Self> {
        Self::between(setup, FakeProvider::start().await?).await
    }

    /// Starts a system in front of a provider that is there, and waits until it serves.
    ///
    /// # Errors
    ///
    /// Says which part did not start, with what it logged.
    pub async fn between(setup: Setup, provider: FakeProvider) -> Result<Self> {
        let folder = folder(&setup)?;
        let vault = start_vault(folder.path(), &setup).await?;
        let gateway = start_gateway(folder.path(), &vault.url(), &provider.url(), &setup).await?;
        let vault_channel = channel(&vault.url())?;
        let storage = setup.database;
        Ok(Self {
            keys: ApiKeyServiceClient::new(vault_channel.clone()),
            resolution: KeyResolutionServiceClient::new(vault_channel),
            chat: ChatServiceClient::new(channel(&gateway.url())?),
            vault,
            gateway,
            provider,
            storage,
            database_url: storage.url(folder.path()).await,
            folder,
        })
    }

    /// Where the vault keeps its keyring, and its database if that is a file.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the vault keeps its keys.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// The URL of the vault's database, for tests that look into it or spoil it.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// All that the database holds, as `pg_dump` writes it. `None` for a file, which can be
    /// read as it is.
    pub async fn dump(&self) -> Option<Vec<u8>> {
        match self.storage {
            Storage::Sqlite => None,
            Storage::Postgres => {
                let dump = shared_server().await.dump(&database_name(self.folder())).await;
                Some(dump.expect("the database is dumped"))
            }
        }
    }

    /// Stores a key of [`ORGANIZATION`].
    pub async fn add_key(&mut self, provider: Provider, material: &str, links: Links<'_>) -> ApiKey {
        let request = CreateApiKeyRequest {
            organization_id: ORGANIZATION.to_owned(),
            provider: provider.into(),
            display_name: "test".to_owned(),
            material: Some(KeyMaterial { api_key: material.to_owned() }),
            set_as_organization_default: links.default,
            profile_ids: links.profiles.iter().map(|profile| (*profile).to_owned()).collect(),
            ..Default::default()
        };
        let response = self.keys.create_api_key(request).await.expect("the key is stored");
        response.into_inner().api_key.expect("the key is returned")
    }
}

/// What a new key is linked to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Links<'a> {
    /// Whether it becomes the default.
    pub default: bool,
    /// The profiles that get it.
    pub profiles: &'a [&'a str],
}

/// A folder of its own, in memory if the setup asks for it and the machine has it.
fn folder(setup: &Setup) -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let in_memory = setup.folder_in_memory && memory.is_dir();
    Ok(if in_memory { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? })
}

/// Starts a vault in `folder`.
///
/// # Errors
///
/// Fails if it does not serve, with what it logged.
pub async fn start_vault(folder: &Path, setup: &Setup) -> Result<Process> {
    let mut options: Vec<OsString> = vec!["serve".into()];
    options.extend(setup.development().map(OsString::from));
    if !setup.vault_options.iter().any(|option| option.starts_with("--database-url")) {
        options.push(format!("--database-url={}", setup.database.url(folder).await).into());
    }
    options.extend(["--keyring".into(), folder.join("keyring").into()]);
    options.extend(setup.vault_options.iter().map(OsString::from));
    let until = if setup.sealed { "listening" } else { "serving" };
    let process =
        Process::start("key-vault", options, &setup.vault_environment, folder, setup.log_filter.as_deref(), until);
    Ok(process.await?.with_scheme(setup.scheme()))
}

/// Starts a gateway between a vault and providers at one URL, and waits until it listens: it
/// answers calls from then on, and is ready when the vault has answered it.
///
/// # Errors
///
/// Fails if it does not serve, with what it logged.
pub async fn start_gateway(folder: &Path, vault: &str, provider: &str, setup: &Setup) -> Result<Process> {
    start_gateway_until("listening", folder, vault, provider, setup).await
}

/// As [`start_gateway`], and waits until it is ready.
///
/// # Errors
///
/// As [`start_gateway`].
pub async fn start_ready_gateway(folder: &Path, vault: &str, provider: &str, setup: &Setup) -> Result<Process> {
    start_gateway_until("serving", folder, vault, provider, setup).await
}

async fn start_gateway_until(
    until: &'static str,
    folder: &Path,
    vault: &str,
    provider: &str,
    setup: &Setup,
) -> Result<Process> {
    let mut options: Vec<OsString> = vec!["serve".into(), "--vault-url".into(), vault.into()];
    options.extend(setup.development().map(OsString::from));
    for (option, path) in [("--anthropic-base-url", "v1"), ("--openai-base-url", "v1"), ("--gemini-base-url", "v1beta")]
    {
        options.extend([option.into(), format!("{provider}/{path}").into()]);
    }
    options.extend(setup.gateway_options.iter().map(OsString::from));
    let environment = &setup.gateway_environment;
    let process = Process::start("chat-gateway", options, environment, folder, setup.log_filter.as_deref(), until);
    Ok(process.await?.with_scheme(setup.scheme()))
}

fn channel(url: &str) -> Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned()).context("a URL")?.connect_lazy())
}

/// Whether this runs in CI, where a missing part is a failure and not a skip.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Says loudly that a test is not run for want of `part`, and fails in CI.
pub fn skip_without(part: &str) {
    assert!(!in_ci(), "{part} is missing, and CI must have it");
    eprintln!("SKIPPED: {part} is missing");
}
