//! Both services as processes, with a fake provider, for tests and for the demo.
//!
//! [`System::start`] runs the real binaries with `--dev` on ports that the system chose
//! and in a folder of its own, so any number of systems run side by side. Everything
//! ends with its [`System`].

pub mod answer;
pub mod fake_provider;
pub mod fixtures;
pub mod openbao;
mod process;

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
use tonic::transport::{Channel, Endpoint};

pub use fake_provider::FakeProvider;
pub use process::{Process, command};

/// The organization that most tests speak of.
pub const ORGANIZATION: &str = "acme";

/// How a system differs from the usual one.
#[derive(Debug, Default)]
pub struct Setup {
    /// Variables of the vault's environment.
    pub vault_environment: Vec<(String, String)>,
    /// Further options of the vault.
    pub vault_options: Vec<String>,
    /// Further options of the gateway.
    pub gateway_options: Vec<String>,
    /// What both log. `info` unless given.
    pub log_filter: Option<String>,
    /// Keeps the database in memory if the machine can: for tests of many thousand writes,
    /// none of which is about what survives.
    pub folder_in_memory: bool,
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
        let memory = Path::new("/dev/shm");
        let in_memory = setup.folder_in_memory && memory.is_dir();
        let folder = if in_memory { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
        let provider = FakeProvider::start().await?;
        let vault = start_vault(folder.path(), &setup).await?;
        let gateway = start_gateway(folder.path(), &vault.url(), &provider.url(), &setup).await?;
        let vault_channel = channel(&vault.url())?;
        Ok(Self {
            keys: ApiKeyServiceClient::new(vault_channel.clone()),
            resolution: KeyResolutionServiceClient::new(vault_channel),
            chat: ChatServiceClient::new(channel(&gateway.url())?),
            vault,
            gateway,
            provider,
            folder,
        })
    }

    /// Where the vault keeps its database and its keyring.
    pub fn folder(&self) -> &Path {
        self.folder.path()
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

/// Starts a vault in `folder`.
///
/// # Errors
///
/// Fails if it does not serve, with what it logged.
pub async fn start_vault(folder: &Path, setup: &Setup) -> Result<Process> {
    let mut options: Vec<OsString> = vec!["serve".into(), "--dev".into()];
    if !setup.vault_options.iter().any(|option| option.starts_with("--database-url")) {
        options.push(format!("--database-url=sqlite:{}", folder.join("vault.db").display()).into());
    }
    options.extend(["--keyring".into(), folder.join("keyring").into()]);
    options.extend(setup.vault_options.iter().map(OsString::from));
    Process::start("key-vault", options, &setup.vault_environment, folder, setup.log_filter.as_deref()).await
}

/// Starts a gateway between a vault and providers at one URL.
///
/// # Errors
///
/// Fails if it does not serve, with what it logged.
pub async fn start_gateway(folder: &Path, vault: &str, provider: &str, setup: &Setup) -> Result<Process> {
    let mut options: Vec<OsString> = vec!["serve".into(), "--dev".into(), "--vault-url".into(), vault.into()];
    for (option, path) in [("--anthropic-base-url", "v1"), ("--openai-base-url", "v1"), ("--gemini-base-url", "v1beta")]
    {
        options.extend([option.into(), format!("{provider}/{path}").into()]);
    }
    options.extend(setup.gateway_options.iter().map(OsString::from));
    Process::start("chat-gateway", options, &[], folder, setup.log_filter.as_deref()).await
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
