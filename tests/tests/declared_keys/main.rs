//! Keys as code: `apply`, `diff` and `export` against a running vault.

mod converging;
mod files;
mod refusals;
mod scale;

use std::{
    fs,
    path::{Path, PathBuf},
};

use proto::keyvault::api_key_service_client::ApiKeyServiceClient;
use system_tests::{
    ORGANIZATION, Process, Setup,
    client::{self, Ran},
    start_vault,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// A vault, and a folder for files.
struct Desk {
    vault: Process,
    keys: ApiKeyServiceClient<Channel>,
    folder: TempDir,
}

impl Desk {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With further options of the vault.
    async fn with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let vault_options = options.iter().map(|option| (*option).to_owned()).collect();
        let setup = Setup { vault_options, ..Setup::default() };
        let vault = start_vault(folder.path(), &setup).await.expect("the vault starts");
        let channel = Endpoint::from_shared(vault.url()).expect("a URL").connect_lazy();
        Self { vault, keys: ApiKeyServiceClient::new(channel), folder }
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        client::key_vault(&self.vault.url(), arguments, "").await
    }

    /// `apply --yes` of a file, which must work.
    async fn apply(&self, file: &Path, options: &[&str]) -> Ran {
        let ran = self.run(&[&["apply", "--yes", "-f", text(file)], options].concat()).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        ran
    }

    async fn diff(&self, file: &Path) -> Ran {
        self.run(&["diff", "-f", text(file)]).await
    }

    /// A file, and what it holds.
    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).expect("the file is written");
        path
    }

    /// The last change of the vault.
    async fn revision(&self) -> String {
        let status = self.run(&["keyring", "status", "--output", "json"]).await.json();
        status["revision"].as_str().expect("a revision").to_owned()
    }

    /// The keys, as the vault lists them.
    async fn listed(&self) -> Vec<serde_json::Value> {
        let listing = self.run(&["keys", "list", "--output", "json"]).await.json();
        listing["api_keys"].as_array().expect("a list").clone()
    }

    async fn id_of(&self, name: &str) -> String {
        let keys = self.listed().await;
        let key = keys.iter().find(|key| key["display_name"] == name).unwrap_or_else(|| panic!("{name}: {keys:?}"));
        key["api_key_id"].as_str().expect("an id").to_owned()
    }
}

/// Keys of [`ORGANIZATION`], each with a file of its own.
fn organization(keys: &str) -> String {
    format!("organizations:\n- id: {ORGANIZATION}\n  keys:\n{keys}")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
