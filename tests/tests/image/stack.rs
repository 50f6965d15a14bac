//! `deploy/compose.yaml` as containers: each service with its command, its user and its secrets, from
//! the root of its image.
//!
//! Odd: all share the network of this machine, where names of the file lead to 127.0.0.1. So ports are
//! others than the file's, and the URL of the database is that of the test's server.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use system_tests::container::{Container, Mount, Program, User};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{USER, binary, path, read, root_of};

/// A debug build on a busy machine needs a second or two.
const START_MAX: Duration = Duration::from_secs(30);

/// What the tests read of the file. Merges are done.
#[derive(Debug, Deserialize)]
pub(crate) struct Compose {
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) configs: BTreeMap<String, Source>,
    pub(crate) secrets: BTreeMap<String, Source>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) image: String,
    pub(crate) user: String,
    pub(crate) read_only: bool,
    pub(crate) cap_drop: Vec<String>,
    #[serde(default)]
    pub(crate) cap_add: Vec<String>,
    pub(crate) security_opt: Vec<String>,
    #[serde(default)]
    pub(crate) privileged: bool,
    #[serde(default)]
    pub(crate) stop_grace_period: String,
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) secrets: Vec<String>,
    #[serde(default)]
    pub(crate) configs: Vec<Target>,
    #[serde(default)]
    pub(crate) ports: Vec<String>,
    pub(crate) networks: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) source: String,
    pub(crate) target: PathBuf,
}

pub(crate) fn compose() -> Compose {
    serde_saphyr::from_str(&read("deploy/compose.yaml")).expect("a compose file")
}

/// The images of both services, the secrets of all, and who is started from them.
pub(crate) struct Stack {
    compose: Compose,
    roots: BTreeMap<String, PathBuf>,
    folder: TempDir,
    /// Where a name and a port of the file are here.
    ports: BTreeMap<&'static str, u16>,
}

/// How a service differs from what the file says.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// In place of its command.
    pub(crate) command: Option<Vec<String>>,
    /// Further variables.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Further files and folders.
    pub(crate) mounts: Vec<Mount>,
}

impl Stack {
    /// Makes images and secrets.
    pub(crate) async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut roots = BTreeMap::new();
        for service in ["key-vault", "chat-gateway"] {
            roots.insert(service.to_owned(), root_of(service, folder.path()).await?);
        }
        fs::write(folder.path().join("hosts"), "127.0.0.1 localhost postgres key-vault chat-gateway\n")?;
        let stack = Self { compose: compose(), roots, folder, ports: BTreeMap::new() };
        stack.init().await?;
        Ok(stack)
    }

    /// Runs the script that makes the secrets.
    pub(crate) async fn init(&self) -> Result<()> {
        let mut script = Command::new(path("deploy/compose/init.sh"));
        script.env("SECRETS", self.folder.path().join("secrets")).env("KEY_VAULT", binary("key-vault"));
        let made = script.output().await.context("the script runs")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(())
    }

    /// The file of a secret.
    pub(crate) fn secret(&self, name: &str) -> PathBuf {
        let file = &self.compose.secrets[name].file;
        self.folder.path().join("secrets").join(file.strip_prefix("compose/secrets").expect("a file of the script"))
    }

    /// A file or a folder that a container may have, owned by its user.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.folder.path().join(name);
        fs::write(&file, text)?;
        chown(&file, Some(USER), Some(USER))?;
        Ok(file)
    }

    /// An empty folder that a container may write to.
    pub(crate) fn volume(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder)?;
        chown(&folder, Some(USER), Some(USER))?;
        Ok(folder)
    }

    /// Starts a service that serves, and waits until it says `message` with its address.
    pub(crate) async fn serve(&mut self, service: &'static str, message: &str, other: Difference) -> Result<Container> {
        let container = self.start(service, other).await?;
        container.says(&format!("\"message\":\"{message}\""), START_MAX).await?;
        let port = address(&container.log(), message).context("it says where")?;
        self.ports.insert(service, port);
        Ok(container)
    }

    /// Starts a service.
    pub(crate) async fn start(&self, service: &str, other: Difference) -> Result<Container> {
        let declared = &self.compose.services[service];
        let image = declared.image.split_once(':').context("an image with a tag")?.0;
        let command = other.command.as_ref().unwrap_or(&declared.command);
        let entry_point = format!("/usr/local/bin/{image}");
        let args = std::iter::once(entry_point).chain(command.iter().map(|argument| self.here(argument))).collect();
        let mut environment: Vec<_> =
            declared.environment.iter().map(|(name, value)| (name.clone(), self.here(value))).collect();
        // The port of probes is the same in both networks of the file, and here it would be one.
        for name in ["KEY_VAULT_PROBE_LISTEN", "CHAT_GATEWAY_PROBE_LISTEN"] {
            environment.push((name.to_owned(), "127.0.0.1:0".to_owned()));
        }
        environment.extend(other.environment.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let mut mounts = self.mounts(declared);
        mounts.extend(other.mounts);
        Container::start(&Program {
            name: service.to_owned(),
            root: self.roots[image].clone(),
            read_only_root: declared.read_only,
            args,
            work_folder: "/".into(),
            environment,
            mounts,
            user: User { uid: USER, gid: USER, groups: Vec::new() },
            network: Some(PathBuf::from(format!("/proc/{}/ns/net", std::process::id()))),
        })
        .await
    }

    fn mounts(&self, service: &Service) -> Vec<Mount> {
        let secrets =
            service.secrets.iter().map(|name| read_only(self.secret(name), Path::new("/run/secrets").join(name)));
        let configs = service.configs.iter().map(|config| {
            read_only(path("deploy").join(&self.compose.configs[&config.source].file), config.target.clone())
        });
        let hosts = read_only(self.folder.path().join("hosts"), "/etc/hosts".into());
        secrets.chain(configs).chain([hosts]).collect()
    }

    /// A value of the file with the ports that services have here.
    fn here(&self, value: &str) -> String {
        let mut value = value.replace("--listen=0.0.0.0:50051", "--listen=127.0.0.1:0");
        value = value.replace("--listen=0.0.0.0:50052", "--listen=127.0.0.1:0");
        for (name, declared) in [("key-vault", 50051), ("chat-gateway", 50052)] {
            if let Some(port) = self.ports.get(name) {
                value = value.replace(&format!("https://{name}:{declared}"), &format!("https://{name}:{port}"));
            }
        }
        value
    }
}

/// A file or folder that a container only reads.
pub(crate) fn read_only(source: PathBuf, destination: PathBuf) -> Mount {
    Mount { source, destination, read_only: true }
}

/// The port in the line of a log that says `message`.
fn address(log: &str, message: &str) -> Option<u16> {
    #[derive(Deserialize)]
    struct Line {
        message: String,
        address: String,
    }
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let line = lines.find(|line| line.message == message)?;
    line.address.rsplit(':').next()?.parse().ok()
}
