//! What cleans up after an owner that is gone, however it went.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// A shell that outlives this process until it has cleaned up. Dropped, it does that at once,
/// and is waited for.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Runs a script, whose `read -r _` returns when the owner is gone.
    pub(crate) fn runs(script: &str, arguments: &[&OsStr]) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals to all processes of a test, such as Ctrl-C, are not for it.
            .process_group(0)
            .spawn()
            .context("cannot run a shell")?;
        Ok(Self(shell))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
