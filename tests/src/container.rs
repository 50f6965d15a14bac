//! One program in a container, by `runc`: as a kubelet would start it, and end it.
//!
//! A [`Container`] has the root, the mounts, the user and the network that its [`Program`]
//! says, no capability, and no way to get one. It ends when it is dropped, and with this process
//! however this process ends: a shell that waits for that removes it.
//!
//! Needs `root` and Debian's package `runc`.
//!
//! Odd: `runc` makes the points of mounts that a root lacks, so a root gets empty folders and
//! files by its containers. There is no seccomp profile: that is the container runtime's own.

mod bundle;
pub(crate) mod guard;
pub mod root;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use guard::Guard;

/// What a machine needs that cannot run containers.
pub const NEEDS: &str = "root with runc (apt-get install runc)";

/// How often it is looked whether `runc` has written an id.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A container is there within a tenth of a second; a busy machine needs more.
const START_MAX: Duration = Duration::from_secs(30);

/// Waits for the end of its owner, kills and removes the container, and removes its folder.
const REMOVAL: &str = "read -r _; \"$1\" --root \"$2/state\" delete --force \"$3\"; rm -rf \"$2\"";

/// How long a process may take to go after SIGKILL, and its log to end.
const KILL_MAX: Duration = Duration::from_secs(15);

/// What runs in a container, and as whom.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name of the host, and in messages.
    pub name: String,
    /// The folder that is `/`.
    pub root: PathBuf,
    /// Whether nothing of `/` can be written.
    pub read_only_root: bool,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The folder that it starts in.
    pub work_folder: PathBuf,
    /// All variables of its environment.
    pub environment: Vec<(String, String)>,
    /// What else is in its file system.
    pub mounts: Vec<Mount>,
    /// As whom it runs.
    pub user: User,
    /// The network namespace, as a path such as `/var/run/netns/NAME`. One of its own, where
    /// only it can reach itself, unless given.
    pub network: Option<PathBuf>,
}

/// A file or a folder of this machine in the file system of a container.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Where it is on this machine.
    pub source: PathBuf,
    /// Where it is in the container.
    pub destination: PathBuf,
    /// Whether the container can only read it.
    pub read_only: bool,
}

/// The user of a container's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// Those of its other groups, such as the one of a pod's volumes.
    pub groups: Vec<u32>,
}

/// A running container. Removed, with its processes, when dropped.
#[derive(Debug)]
pub struct Container {
    name: String,
    runc: Child,
    process_id: u32,
    log: watch::Receiver<String>,
    readers: JoinSet<()>,
    tool: Runc,
    _guard: Guard,
}

/// `runc`, and what it calls the container.
#[derive(Debug)]
struct Runc {
    path: PathBuf,
    state: PathBuf,
    id: String,
}

impl Runc {
    fn command(&self, word: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--root").arg(&self.state).arg(word).stdin(Stdio::null());
        command
    }
}

/// How a container ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code of its process; 128 and the signal if one ended it.
    pub code: i32,
    /// All that it wrote, to both outputs.
    pub log: String,
    /// Whether its time to end was over, so that it was killed.
    pub killed: bool,
}

/// Whether containers can be run. If not, says so, and fails in CI.
pub fn is_available() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let is_available = is_root && runc().is_some();
    if !is_available {
        crate::skip_without(NEEDS);
    }
    is_available
}

fn runc() -> Option<PathBuf> {
    tool("runc")
}

/// The path of a program. Debian puts some where not everyone looks.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

impl Container {
    /// Starts a container, and waits until its process is there.
    ///
    /// # Errors
    ///
    /// Fails with what `runc` said if it does not start. A process that ends at once is none of
    /// its failures.
    pub async fn start(program: &Program) -> Result<Self> {
        let path = runc().context(NEEDS)?;
        let folder = tempfile::Builder::new().prefix("system-tests-container-").tempdir()?.keep();
        // Folders have other names in each process and each time.
        let id = folder.file_name().context("a folder has a name")?.to_string_lossy().into_owned();
        let guard = Guard::runs(REMOVAL, &[path.as_os_str(), folder.as_os_str(), id.as_ref()])?;
        fs::write(folder.join("config.json"), bundle::configuration(program, &id).to_string())?;
        let id_file = folder.join("pid");
        let tool = Runc { path, state: folder.join("state"), id };
        let mut command = tool.command("run");
        command.arg("--bundle").arg(&folder).arg("--pid-file").arg(&id_file).arg(&tool.id);
        let mut runc = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot run runc")?;
        let (text, log) = watch::channel(String::new());
        let mut readers = JoinSet::new();
        readers.spawn(follow(runc.stdout.take().context("stdout is piped")?, text.clone()));
        readers.spawn(follow(runc.stderr.take().context("stderr is piped")?, text));
        let mut container = Self { name: program.name.clone(), runc, process_id: 0, log, readers, tool, _guard: guard };
        container.process_id = container.begins(&id_file).await?;
        Ok(container)
    }

    /// Waits until `runc` has written the id of the container's process.
    async fn begins(&mut self, id_file: &Path) -> Result<u32> {
        let begins = async {
            loop {
                let id = fs::read_to_string(id_file).unwrap_or_default().trim().parse();
                if let Ok(id) = id {
                    return Ok(id);
                }
                // It may have written the file in between, and the process ended.
                if self.runc.try_wait()?.is_some() && !id_file.exists() {
                    while self.readers.join_next().await.is_some() {}
                    bail!("{} does not start: {}", self.name, self.log());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        timeout(START_MAX, begins).await.context("runc starts nothing in time")?
    }

    /// The id of its first process, as this machine sees it.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// What it wrote so far, to both outputs.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits until it has written `text`.
    ///
    /// # Errors
    ///
    /// Fails with its log if it ends without, or has not after `limit`.
    pub async fn says(&self, text: &str, limit: Duration) -> Result<()> {
        let mut log = self.log.clone();
        let said = timeout(limit, log.wait_for(|log| log.contains(text))).await.is_ok_and(|said| said.is_ok());
        ensure!(said, "{} does not say {text:?}:\n{}", self.name, self.log());
        Ok(())
    }

    /// Whether its process is still there.
    ///
    /// # Errors
    ///
    /// Fails if nobody knows.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.runc.try_wait()?.is_none())
    }

    /// Sends its first process a signal, such as `TERM`.
    ///
    /// # Errors
    ///
    /// Fails if it is gone.
    pub async fn is_told(&self, signal: &str) -> Result<()> {
        let told = self.tool.command("kill").args([&self.tool.id, signal]).output().await?;
        ensure!(told.status.success(), "{} is not told {signal}: {}", self.name, String::from_utf8_lossy(&told.stderr));
        Ok(())
    }

    /// Ends it as a kubelet does: SIGTERM, and SIGKILL when `grace` is over.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be told, or outlives SIGKILL.
    pub async fn stop(mut self, grace: Duration) -> Result<Ended> {
        self.is_told("TERM").await?;
        let killed = timeout(grace, self.runc.wait()).await.is_err();
        if killed {
            self.is_told("KILL").await?;
        }
        Ok(Ended { killed, ..self.ends(KILL_MAX).await? })
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// Fails with its log if it has not after `limit`.
    pub async fn ends(mut self, limit: Duration) -> Result<Ended> {
        let Ok(status) = timeout(limit, self.runc.wait()).await else {
            bail!("{} does not end within {limit:?}:\n{}", self.name, self.log());
        };
        let code = status?.code().context("runc ends with a code")?;
        let log_ends = async { while self.readers.join_next().await.is_some() {} };
        timeout(KILL_MAX, log_ends).await.context("its log ends")?;
        Ok(Ended { code, log: self.log(), killed: false })
    }
}

async fn follow(output: impl AsyncRead + Unpin, log: watch::Sender<String>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.send_modify(|text| {
            text.push_str(&line);
            text.push('\n');
        });
    }
}
