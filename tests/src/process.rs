//! One service as a process, with its log.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

/// A debug build on a busy machine needs a second or two.
const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(30);

/// A running service. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    scheme: &'static str,
    addresses: Addresses,
    log: Log,
    ended: watch::Receiver<bool>,
}

/// Where a process says that it listens.
#[derive(Clone, Debug, Default)]
struct Addresses {
    rpc: String,
    /// Said before the other one.
    probes: String,
}

/// What a process wrote so far.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn push(&self, line: &str) {
        let mut text = self.0.lock().expect("no panic while logging");
        text.push_str(line);
        text.push('\n');
    }

    fn text(&self) -> String {
        self.0.lock().expect("no panic while logging").clone()
    }
}

impl Process {
    /// Starts a service on ports of the system's choice, and waits until it says `until`.
    pub(crate) async fn start(
        service: &str,
        options: Vec<OsString>,
        environment: &[(String, String)],
        folder: &Path,
        log_filter: Option<&str>,
        until: &'static str,
    ) -> Result<Self> {
        let mut child = command(service)
            .args(options)
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(["--log-filter", log_filter.unwrap_or("info")])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {service}"))?;
        let log = Log::default();
        let (address_found, mut addresses) = watch::channel(Addresses::default());
        let (end, ended) = watch::channel(false);
        let stderr = child.stderr.take().context("stderr is piped")?;
        tokio::spawn(follow(stderr, log.clone(), Some((until, address_found)), Some(end)));
        let stdout = child.stdout.take().context("stdout is piped")?;
        tokio::spawn(follow(stdout, log.clone(), None, None));
        // The sender goes with the log: a process that ends before it serves is not waited for.
        let found = timeout(START_MAX, addresses.wait_for(|addresses| !addresses.rpc.is_empty())).await;
        let addresses = match found {
            Ok(Ok(addresses)) => addresses.clone(),
            Ok(Err(_)) | Err(_) => bail!("{service} does not serve:\n{}", log.text()),
        };
        Ok(Self { child, scheme: "http", addresses, log, ended })
    }

    pub(crate) fn with_scheme(self, scheme: &'static str) -> Self {
        Self { scheme, ..self }
    }

    /// Where it listens: `http://127.0.0.1:PORT`, or `https://`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addresses.rpc)
    }

    /// Where it answers probes: `http://127.0.0.1:PORT`.
    pub fn probe_url(&self) -> String {
        format!("http://{}", self.addresses.probes)
    }

    /// What it wrote so far, to both outputs.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Asks it to stop, waits until it has, and returns how it ended and all it wrote.
    pub async fn stop(self) -> (ExitStatus, String) {
        self.is_told("TERM").await;
        self.ends().await
    }

    /// Sends it a signal, such as `TERM`.
    pub async fn is_told(&self, signal: &str) {
        self.signal(signal).await;
    }

    /// Waits until it has ended, and returns how, and all it wrote.
    pub async fn ends(mut self) -> (ExitStatus, String) {
        let status =
            timeout(STOP_MAX, self.child.wait()).await.expect("it stops in time").expect("its status is known");
        self.ended.wait_for(|ended| *ended).await.expect("its log ends");
        (status, self.log.text())
    }

    /// Ends it at once, as a crash would (SIGKILL), and returns all it wrote.
    pub async fn kill(mut self) -> String {
        self.child.kill().await.expect("SIGKILL is sent");
        self.ended.wait_for(|ended| *ended).await.expect("its log ends");
        self.log.text()
    }

    /// Stops it where it is (SIGSTOP) until [`Process::resume`].
    pub async fn pause(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on after [`Process::pause`].
    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} is sent");
    }
}

/// Where the binaries of the services are, if not beside the running one.
static SERVICES: OnceLock<PathBuf> = OnceLock::new();

/// Starts the services from the binaries in a folder from now on, as they are released.
pub fn services_from(folder: &Path) {
    SERVICES.get_or_init(|| folder.to_path_buf());
}

/// The binary of a service. Starts with a clean environment, in which probes are answered on a
/// port of the system's choice.
pub fn command(service: &str) -> Command {
    let beside = || binary(&format!("system-{service}"));
    let mut command = Command::new(SERVICES.get().map_or_else(beside, |folder| folder.join(service)));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["ARCHESTRA_", "KEY_VAULT_", "CHAT_GATEWAY_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name.as_ref());
        }
    }
    for variable in ["KEY_VAULT_PROBE_LISTEN", "CHAT_GATEWAY_PROBE_LISTEN"] {
        command.env(variable, "127.0.0.1:0");
    }
    command
}

/// The path of a binary of this package. Cargo builds them before its integration tests, and
/// puts these into a folder `deps` beside them.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this process has a binary");
    let folder = own.parent().expect("a binary is in a folder");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: cargo build -p system-tests --bins", path.display());
    path
}

async fn follow(
    output: impl AsyncRead + Unpin,
    log: Log,
    found: Option<(&'static str, watch::Sender<Addresses>)>,
    end: Option<watch::Sender<bool>>,
) {
    #[derive(Deserialize)]
    struct Serving {
        message: String,
        address: String,
    }

    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.push(&line);
        let Some((until, found)) = &found else { continue };
        if !line.contains("\"address\"") {
            continue;
        }
        let Ok(Serving { message, address }) = serde_json::from_str(&line) else { continue };
        if message == "answering probes" {
            found.send_modify(|addresses| addresses.probes = address);
        } else if message == *until {
            found.send_modify(|addresses| addresses.rpc = address);
        }
    }
    if let Some(end) = end {
        end.send_replace(true);
    }
}
