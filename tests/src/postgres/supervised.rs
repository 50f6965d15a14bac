//! A server that ends with this process, however this process ends.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{LOOK_EVERY, unprivileged};

/// Runs a server, waits for a word or for the end of its input, ends the server, and
/// removes the folder unless the word was `keep`. The input ends when this process does. A
/// signal to the whole group of processes must not end the shell before it has done that.
const SCRIPT: &str = "\
trap '' INT TERM HUP
signal=\"$1\" folder=\"$2\"; shift 2
\"$@\" </dev/null >>\"$folder/log\" 2>&1 & id=$!
echo $id
word=; read -r word
kill -s \"$signal\" $id; wait $id
[ \"$word\" = keep ] || rm -rf \"$folder\"";

/// A server and the shell that watches over it. Dropped, the server ends and its folder goes.
#[derive(Debug)]
pub(super) struct Supervised {
    shell: Child,
    id: u32,
    folder: PathBuf,
}

impl Supervised {
    /// Starts a server. `signal` is the one that ends it at once.
    pub(super) fn start(arguments: &[&OsStr], folder: &Path, signal: &str) -> Result<Self> {
        let mut command = unprivileged();
        command.extend(["sh", "-c", SCRIPT, "sh", signal].map(Into::into));
        let mut shell = Command::new(&command[0])
            .args(&command[1..])
            .arg(folder)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run a shell")?;
        let mut line = String::new();
        BufReader::new(shell.stdout.take().context("its output is piped")?).read_line(&mut line)?;
        let id = line.trim().parse().context("the shell says the id of its child")?;
        Ok(Self { shell, id, folder: folder.to_owned() })
    }

    /// The server's process id.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Whether the server has ended. Its shell waits on.
    pub(super) fn has_ended(&self) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        // The name before it is in brackets and may have any character.
        state.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_none_or(|state| state == 'Z')
    }

    /// Sends the server a signal, waits until it has ended, and keeps its folder.
    pub(super) async fn end(mut self, signal: &str, limit: Duration) -> Result<()> {
        let sent = Command::new("kill").args(["-s", signal, &self.id.to_string()]).status()?;
        ensure!(sent.success(), "SIG{signal} is sent");
        let deadline = Instant::now() + limit;
        while !self.has_ended() {
            if Instant::now() > deadline {
                bail!("process {} does not end", self.id);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.keep_folder();
        Ok(())
    }

    /// Ends the server at once, and keeps its folder.
    pub(super) fn keep_folder(&mut self) {
        if let Some(mut stdin) = self.shell.stdin.take() {
            let _ = writeln!(stdin, "keep");
        }
        let _ = self.shell.wait();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if self.shell.stdin.take().is_some() {
            let _ = self.shell.wait();
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
