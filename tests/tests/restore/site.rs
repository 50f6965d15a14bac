//! A place with a keyring, a database and what is copied there, and the commands of
//! docs/operations.md run in it.
//!
//! A block of commands is marked by a comment in the line before it, `<!-- runs: NAME -->`. It is
//! run as it stands, with `key-vault` and PostgreSQL's own tools in the path.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use system_tests::{Postgres, Process, Setup, Storage, command, postgres, start_vault};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

/// Copies of small databases take less than a second on an idle machine.
const BLOCK_MAX: Duration = Duration::from_secs(50);

/// What has the databases of a test.
pub(crate) struct Server(Option<Postgres>);

impl Server {
    /// `None` if the machine lacks it, which is said.
    pub(crate) async fn start(storage: Storage) -> Option<Self> {
        Some(Self(match storage {
            Storage::Sqlite => None,
            Storage::Postgres => {
                Some(Postgres::with(postgres::Settings { in_memory: true, ..Default::default() }).await?)
            }
        }))
    }

    /// The block of the page that takes a backup.
    pub(crate) fn backs_up(&self) -> &'static str {
        if self.0.is_some() { "back up PostgreSQL" } else { "back up SQLite" }
    }

    /// The block of the page that restores one.
    pub(crate) fn restores(&self) -> &'static str {
        if self.0.is_some() { "restore PostgreSQL" } else { "restore SQLite" }
    }
}

/// A place with a database of its own.
pub(crate) struct Site<'a> {
    folder: TempDir,
    server: &'a Server,
    url: String,
}

impl<'a> Site<'a> {
    /// A new one, where nothing is yet.
    pub(crate) async fn new(server: &'a Server) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        symlink(command("key-vault").as_std().get_program(), bin.join("key-vault")).expect("a link");
        let url = match &server.0 {
            Some(postgres) => postgres.create_database().await,
            None => format!("sqlite:{}", folder.path().join("vault.db").display()),
        };
        Self { folder, server, url }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of the database.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn makes_keyring(&self) {
        self.script("key-vault keyring init keyring").await;
    }

    /// Takes the keyring of another place, in the place of its own.
    pub(crate) fn takes_keyring_of(&self, other: &Self) {
        let _ = fs::remove_file(self.path("keyring"));
        fs::copy(other.path("keyring"), self.path("keyring")).expect("a keyring");
    }

    /// Takes what was backed up elsewhere.
    pub(crate) fn takes_backup_of(&self, other: &Self) {
        let name = if self.server.0.is_some() { "backup.dump" } else { "backup.db" };
        fs::copy(other.path(name), self.path(name)).expect("a backup");
    }

    /// The name of the keyring's key.
    pub(crate) fn root_key(&self) -> String {
        let text = fs::read_to_string(self.path("keyring")).expect("a keyring");
        let primary = text.lines().find_map(|line| line.strip_prefix("primary: ")).expect("a primary key");
        primary.trim_matches('"').to_owned()
    }

    /// Gives the keyring's key another name. By themselves names are times, which may be the same.
    pub(crate) fn names_root_key(&self, name: &str) {
        let text = fs::read_to_string(self.path("keyring")).expect("a keyring");
        fs::write(self.path("keyring"), text.replace(&self.root_key(), name)).expect("a keyring");
    }

    /// Starts a vault, and waits until it serves.
    pub(crate) async fn starts(&self) -> Process {
        start_vault(self.folder(), &self.setup()).await.expect("the vault starts")
    }

    /// Starts a vault that stays sealed.
    pub(crate) async fn starts_sealed(&self) -> Process {
        let setup = Setup { sealed: true, ..self.setup() };
        start_vault(self.folder(), &setup).await.expect("the vault listens")
    }

    fn setup(&self) -> Setup {
        Setup { vault_options: vec![format!("--database-url={}", self.url)], ..Setup::default() }
    }

    /// Runs a block of the page. Returns what it printed; panics if it does not end well.
    pub(crate) async fn run(&self, name: &str) -> String {
        self.script(&block(name)).await
    }

    /// The same of a block that asks a vault.
    pub(crate) async fn asks(&self, vault: &Process, name: &str) -> String {
        self.script(&format!("export KEY_VAULT_SERVER={}\n{}", vault.url(), block(name))).await
    }

    /// Runs commands in this place. Returns what they printed to both outputs; panics if they do not
    /// end well.
    pub(crate) async fn script(&self, script: &str) -> String {
        let (status, shown) = self.shell(script).await;
        assert!(status.success(), "{status}\n{script}\n{shown}");
        shown
    }

    /// The same of commands that end with a failure.
    pub(crate) async fn fails(&self, script: &str) -> String {
        let (status, shown) = self.shell(script).await;
        assert_eq!(status.code(), Some(1), "{script}\n{shown}");
        shown
    }

    async fn shell(&self, script: &str) -> (ExitStatus, String) {
        let mut path = self.path("bin").into_os_string();
        if let Some(postgres) = &self.server.0 {
            path.push(":");
            path.push(postgres.programs());
        }
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let shell = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{script}")])
            .env("PATH", path)
            .env("DATABASE_URL", &self.url)
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(BLOCK_MAX, shell).await.expect("it ends").expect("bash runs");
        (output.status, String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[test]
fn every_block_that_is_marked_is_run() {
    let text = page();
    let tests = [include_str!("main.rs"), include_str!("outgrown.rs"), include_str!("site.rs")].concat();
    let names: Vec<_> = text.split("<!-- runs: ").skip(1).filter_map(|rest| rest.split(" -->").next()).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("\"{name}\"")), "nothing runs {name}");
    }
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    fs::read_to_string(path).expect("the page")
}

/// A block of the page.
fn block(name: &str) -> String {
    let text = page();
    let mark = format!("<!-- runs: {name} -->");
    let (_, after) = text.split_once(&mark).unwrap_or_else(|| panic!("the page has no {mark}"));
    // A block of a list is indented, which the shell does not mind.
    let body = after.trim_start().strip_prefix("```sh\n").expect("a block of commands follows");
    body.split_once("```").expect("the block ends").0.to_owned()
}
