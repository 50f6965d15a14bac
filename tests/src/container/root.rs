//! The file system of an image, as `deploy/image/rootfs.sh` makes it, of the binaries of tests.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

/// Makes the root of the image of a binary, which has it as `/usr/local/bin/NAME`.
///
/// # Errors
///
/// Fails with what the script said.
pub async fn make(binary: &Path, name: &str, folder: &Path) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/image/rootfs.sh");
    let root = folder.join(binary.file_name().context("a binary has a name")?);
    // Made before, for the image of another version.
    if root.exists() {
        return Ok(root);
    }
    let mut command = Command::new("sh");
    command.arg(script).arg(binary).arg(&root).arg(name).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("cannot run rootfs.sh")?;
    ensure!(output.status.success(), "rootfs.sh: {}", String::from_utf8_lossy(&output.stderr));
    Ok(root)
}
