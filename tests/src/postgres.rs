//! A real PostgreSQL server, and pgbouncer before it, that belong to one test.
//!
//! [`Postgres::start`] makes a cluster with `initdb` in a folder of its own and serves it on
//! a free port of 127.0.0.1, without sockets in the file system. Tests may stop it, kill it
//! and start it again. It ends with its [`Postgres`], and with this process if that is killed.
//!
//! Odd: PostgreSQL and pgbouncer refuse to run as root. There they run as `postgres`.

mod pgbouncer;
mod supervised;

use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, Statement};
use tokio::process::Command;

pub use pgbouncer::PgBouncer;
use supervised::Supervised;

/// The user of every server, with every right.
pub const USER: &str = "postgres";

/// The user's password. With [`Auth::Trust`] it is sent and not looked at. Marked, so that
/// it can be looked for where it does not belong.
pub const PASSWORD: &str = "pg-MARKED-password-0123456789";

/// The oldest version that the vault takes.
const VERSION_MIN: u32 = 15;

/// A start, a stop or a promotion takes less than a second on an idle machine.
const CHANGE_MAX: Duration = Duration::from_mins(1);

/// How often the state of a server is looked at while it changes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ports below the range from which systems choose those of clients, so that a server finds
/// its own again after a restart.
const PORTS: std::ops::Range<u16> = 15_000..31_000;

/// How a server differs from the usual one.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections at once. 300 unless given.
    pub max_connections: u32,
    /// How callers prove who they are.
    pub auth: Auth,
    /// Keeps the cluster in memory if the machine can, and syncs nothing: for tests that
    /// are not about what survives.
    pub in_memory: bool,
    /// Serves with TLS, and nothing without.
    pub tls: Option<Tls>,
    /// Where else it listens.
    pub also_at: Option<Outside>,
    /// Further lines of `postgresql.conf`.
    pub configuration: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 300,
            auth: Auth::Trust,
            in_memory: false,
            tls: None,
            also_at: None,
            configuration: Vec::new(),
        }
    }
}

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all. A handshake of SCRAM takes a debug build a tenth of a second.
    Trust,
    /// By password, with SCRAM.
    Scram,
}

/// The identity of a server, as PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate, and those that lead from it to its authority.
    pub certificates: String,
    /// Its private key.
    pub key: String,
}

/// An address beside 127.0.0.1.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Where it listens.
    pub address: Ipv4Addr,
    /// From where it is called, as `10.0.0.0/24`.
    pub callers: String,
}

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends every connection, then writes all to disk.
    Fast,
    /// Ends at once, as a power cut would let it: the next start recovers.
    Immediate,
}

/// A running server. Stopped, with all its processes, and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    running: Option<Supervised>,
    folder: PathBuf,
    port: u16,
    tools: Tools,
    databases: AtomicU64,
}

impl Postgres {
    /// Starts a server. `None`, said loudly, where PostgreSQL is missing; fails then in CI.
    pub async fn start() -> Option<Self> {
        Self::with(Settings::default()).await
    }

    /// Starts a server that serves with TLS only.
    pub async fn with_tls(tls: Tls) -> Option<Self> {
        Self::with(Settings { tls: Some(tls), ..Settings::default() }).await
    }

    /// Starts a server. `None`, said loudly, where PostgreSQL is missing; fails then in CI.
    pub async fn with(settings: Settings) -> Option<Self> {
        let Some(tools) = Tools::find() else {
            crate::skip_without("PostgreSQL 15 or newer");
            return None;
        };
        Some(Self::make(tools, &settings).await.expect("PostgreSQL starts"))
    }

    async fn make(tools: Tools, settings: &Settings) -> Result<Self> {
        let folder = private_folder(settings.in_memory)?;
        let password = folder.join("password");
        fs::write(&password, PASSWORD)?;
        let data = folder.join("data");
        let auth = match settings.auth {
            Auth::Trust => "trust",
            Auth::Scram => "scram-sha-256",
        };
        let mut command = tools.command("initdb");
        command.arg("-D").arg(&data).args(["--no-sync", "-U", USER, "-E", "UTF8", "--no-locale", "-A", auth]);
        run(command.arg("--pwfile").arg(&password)).await?;
        if let Some(tls) = &settings.tls {
            write_owned(&data.join("server.crt"), &tls.certificates)?;
            write_owned(&data.join("server.key"), &tls.key)?;
            let hosts = fs::read_to_string(data.join("pg_hba.conf"))?.replace("\nhost ", "\nhostssl ");
            write_owned(&data.join("pg_hba.conf"), &hosts)?;
        }
        if let Some(Outside { callers, .. }) = &settings.also_at {
            let kind = if settings.tls.is_some() { "hostssl" } else { "host" };
            append(&data.join("pg_hba.conf"), &format!("{kind} all all {callers} {auth}\n"))?;
        }
        append(&data.join("postgresql.conf"), &configuration(settings))?;
        let server = Self { running: None, folder, port: 0, tools, databases: AtomicU64::new(0) };
        server.serve_somewhere().await
    }

    /// A server that follows this one and takes no writes until it is promoted.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be copied or started.
    pub async fn standby(&self) -> Result<Self> {
        let folder = private_folder(false)?;
        let data = folder.join("data");
        let mut command = self.tools.command("pg_basebackup");
        // Makes `standby.signal` and says whom to follow.
        command.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata"]).arg(&data);
        command.arg("--dbname").arg(self.url(USER));
        run(&mut command).await?;
        let server = Self { running: None, folder, port: 0, tools: self.tools.clone(), databases: AtomicU64::new(0) };
        server.serve_somewhere().await
    }

    /// Ends the life of a standby as one: it takes writes from now on.
    ///
    /// # Errors
    ///
    /// Fails if it does not within a minute.
    pub async fn promote(&self) -> Result<()> {
        let mut command = self.tools.command("pg_ctl");
        run(command.arg("promote").arg("-w").arg("-D").arg(self.data())).await
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where its programs are, and those of its clients.
    pub fn programs(&self) -> &Path {
        &self.tools.folder
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The URL of one of its databases, with [`USER`] and [`PASSWORD`].
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a database that no other test has, and returns its URL.
    pub async fn create_database(&self) -> String {
        let name = format!("vault_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.ensure_database(&name).await
    }

    /// Makes a database unless it is there, and returns its URL.
    pub async fn ensure_database(&self, name: &str) -> String {
        let exists = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
        if self.sql(USER, &exists).await.expect("databases can be counted") == 0 {
            self.sql(USER, &format!("CREATE DATABASE \"{name}\"")).await.expect("a database is made");
        }
        self.url(name)
    }

    /// Runs statements in a database and returns how many rows they changed or found.
    ///
    /// # Errors
    ///
    /// The server's own.
    pub async fn sql(&self, database: &str, statements: &str) -> Result<u64> {
        let connection = self.connect(database).await?;
        let outcome = connection.execute_unprepared(statements).await;
        connection.close().await?;
        Ok(outcome?.rows_affected())
    }

    /// Runs a query for one text, the first column of its first row.
    ///
    /// # Errors
    ///
    /// The server's own, and if there is no row.
    pub async fn text(&self, database: &str, query: &str) -> Result<String> {
        let connection = self.connect(database).await?;
        let statement = Statement::from_string(connection.get_database_backend(), query);
        let row = connection.query_one_raw(statement).await;
        connection.close().await?;
        Ok(row?.context("no row")?.try_get_by_index(0)?)
    }

    /// A connection to one of its databases. It stays one, and open until it is closed.
    ///
    /// # Errors
    ///
    /// The server's own.
    pub async fn connect(&self, database: &str) -> Result<DatabaseConnection> {
        let mut options = ConnectOptions::new(self.url(database));
        options.max_connections(1).sqlx_logging(false);
        Ok(Database::connect(options).await?)
    }

    /// All that a database holds, as `pg_dump` writes it.
    ///
    /// # Errors
    ///
    /// Fails with what `pg_dump` says.
    pub async fn dump(&self, database: &str) -> Result<Vec<u8>> {
        let mut command = self.tools.command("pg_dump");
        Ok(output(command.arg("--dbname").arg(self.url(database))).await?.stdout)
    }

    /// Stops it, and waits until all its processes have ended.
    ///
    /// # Errors
    ///
    /// Fails if they have not within a minute.
    pub async fn stop(&mut self, how: Stop) -> Result<()> {
        let signal = match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        self.end(signal).await
    }

    /// Stops it as a power cut would.
    ///
    /// # Errors
    ///
    /// Fails if it has not ended within a minute.
    pub async fn stop_immediate(&mut self) -> Result<()> {
        self.stop(Stop::Immediate).await
    }

    /// Kills the process that holds the others; those end as soon as they notice.
    ///
    /// # Errors
    ///
    /// Fails if it has not ended within a minute.
    pub async fn kill_postmaster(&mut self) -> Result<()> {
        self.end("KILL").await
    }

    /// Starts it again where it was, and waits until it serves.
    ///
    /// # Errors
    ///
    /// Fails with what it logged.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "it runs");
        let deadline = Instant::now() + CHANGE_MAX;
        // After a kill the last processes of the one before may still hold its memory.
        loop {
            match self.serve(self.port).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    ///
    /// As [`Postgres::stop`] and [`Postgres::start_again`].
    pub async fn restart(&mut self, how: Stop) -> Result<()> {
        self.stop(how).await?;
        self.start_again().await
    }

    async fn end(&mut self, signal: &str) -> Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.end(signal, CHANGE_MAX).await
    }

    async fn serve_somewhere(mut self) -> Result<Self> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.port = free_port();
            match self.serve(self.port).await {
                Ok(()) => return Ok(self),
                // Another test was quicker.
                Err(error) if attempts < 10 && error.to_string().contains("could not bind") => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn serve(&mut self, port: u16) -> Result<()> {
        let port = port.to_string();
        let data = self.data();
        let log = self.folder.join("log");
        let _ = fs::remove_file(&log);
        let program = self.tools.folder.join("postgres");
        let arguments = [program.as_os_str(), OsStr::new("-D"), data.as_os_str(), OsStr::new("-p"), OsStr::new(&port)];
        let mut running = Supervised::start(&arguments, &self.folder, "QUIT")?;
        let deadline = Instant::now() + CHANGE_MAX;
        while !is_ready(&data, running.id()) {
            if running.has_ended() || Instant::now() > deadline {
                running.keep_folder();
                bail!("PostgreSQL does not start:\n{}", self.log());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.running = Some(running);
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.running.is_none() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// The programs of one installation.
#[derive(Clone, Debug)]
struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The newest installation, the one in the path first.
    fn find() -> Option<Self> {
        // Where the state of processes is read. Only Linux has it.
        if !Path::new("/proc/self/stat").exists() {
            return None;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path)
            // Debian links some of the programs into the path, and not all.
            .filter_map(|folder| fs::canonicalize(folder.join("initdb")).ok()?.parent().map(Path::to_owned))
            .collect();
        let mut installed: Vec<_> = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
        let version = |name: &OsStr| name.to_string_lossy().parse::<u32>().unwrap_or(0);
        installed.sort_by_key(|entry| std::cmp::Reverse(version(&entry.file_name())));
        folders.extend(installed.iter().map(|entry| entry.path().join("bin")));
        let complete = |folder: &PathBuf| {
            let programs = ["initdb", "postgres", "pg_ctl", "pg_dump", "pg_basebackup"];
            programs.iter().all(|program| folder.join(program).exists())
        };
        folders
            .into_iter()
            .find(|folder| complete(folder) && version_of(folder) >= VERSION_MIN)
            .map(|folder| Self { folder })
    }

    fn command(&self, program: &str) -> Command {
        let mut arguments = unprivileged();
        arguments.push(self.folder.join(program).into());
        let mut command = Command::new(&arguments[0]);
        // A folder that the other user may enter.
        command.args(&arguments[1..]).current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

fn version_of(folder: &Path) -> u32 {
    let output = std::process::Command::new(folder.join("postgres")).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let number = text.split(' ').nth(2).unwrap_or_default();
    number.split('.').next().and_then(|major| major.trim().parse().ok()).unwrap_or(0)
}

fn configuration(settings: &Settings) -> String {
    let outside = settings.also_at.as_ref().map(|outside| format!(",{}", outside.address)).unwrap_or_default();
    let mut lines = vec![
        format!("listen_addresses = '127.0.0.1{outside}'"),
        // Debian's own place for it is not there for everyone.
        "unix_socket_directories = ''".to_owned(),
        format!("max_connections = {}", settings.max_connections),
        "timezone = 'UTC'".to_owned(),
    ];
    if settings.in_memory {
        lines.extend(["fsync = off", "full_page_writes = off"].map(str::to_owned));
    }
    if settings.tls.is_some() {
        lines.push("ssl = on".to_owned());
    }
    lines.extend(settings.configuration.iter().cloned());
    lines.join("\n") + "\n"
}

/// The postmaster writes into its file of locks how far it is.
fn is_ready(data: &Path, id: u32) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    lines.next() == Some(id.to_string().as_str()) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

/// What a command line starts with so that the program does not run as root.
fn unprivileged() -> Vec<std::ffi::OsString> {
    let words: &[&str] =
        if is_root() { &["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"] } else { &["env"] };
    words.iter().map(Into::into).collect()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Gives a file or folder to the user that the servers run as.
fn give(path: &Path) -> Result<()> {
    if is_root() {
        let users = fs::read_to_string("/etc/passwd")?;
        let user = users.lines().find(|line| line.starts_with(&format!("{USER}:"))).context("no user postgres")?;
        let mut ids = user.split(':').skip(2).map(str::parse);
        let mut id = || ids.next().context("a number of a user")?.context("a number");
        chown(path, Some(id()?), Some(id()?))?;
    }
    Ok(())
}

/// An empty folder that only the servers' user may enter. Whoever asks removes it.
fn private_folder(in_memory: bool) -> Result<PathBuf> {
    let memory = Path::new("/dev/shm");
    let builder = &mut tempfile::Builder::new();
    let builder = builder.prefix("system-tests-postgres-");
    let folder = if in_memory && memory.is_dir() { builder.tempdir_in(memory)? } else { builder.tempdir()? };
    give(folder.path())?;
    Ok(folder.keep())
}

fn write_owned(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    give(path)
}

fn append(path: &Path, text: &str) -> Result<()> {
    let before = fs::read_to_string(path)?;
    write_owned(path, &(before + text))
}

async fn run(command: &mut Command) -> Result<()> {
    output(command).await.map(drop)
}

async fn output(command: &mut Command) -> Result<Output> {
    let output = command.output().await.with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// A port that nobody listens on. Processes begin at different ones.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id() * 37 % u32::from(count)).expect("less than the count");
    loop {
        let port = PORTS.start + (first + NEXT.fetch_add(1, Ordering::Relaxed) % count) % count;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
