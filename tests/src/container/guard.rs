//! What removes a container when its owner is gone.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result};
use tokio::process::Command;

/// Waits for the end of its input, which comes with the end of the process that holds it, kills
/// and removes the container, and removes the folder. Whatever it finds is as it should be.
const SCRIPT: &str = "\
read -r _; \"$1\" --root \"$2/state\" delete --force \"$3\"; rm -rf \"$2\"";

/// A shell that outlives this process until the container is removed.
#[derive(Debug)]
pub(super) struct Guard {
    shell: Child,
    runc: PathBuf,
    id: String,
    folder: PathBuf,
}

impl Guard {
    /// Guards a container that is not there yet; `folder` is its own.
    pub(super) fn over(runc: PathBuf, id: String, folder: PathBuf) -> Result<Self> {
        let shell = std::process::Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .args([runc.as_os_str(), folder.as_os_str(), id.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals to all processes of a test, such as Ctrl-C, are not for it.
            .process_group(0)
            .spawn()
            .context("cannot run a shell")?;
        Ok(Self { shell, runc, id, folder })
    }

    /// Where `runc` keeps what it knows.
    pub(super) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The name of the container for `runc`.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// A command of `runc`.
    pub(super) fn runc<const N: usize>(&self, arguments: [OsString; N]) -> Command {
        let mut command = Command::new(&self.runc);
        command.arg("--root").arg(self.state()).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
