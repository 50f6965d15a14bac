//! The file system of a container, made of what this machine has: the C library and what else
//! a binary of ours is linked with, and the authorities that the machine trusts. No shell.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::Mount;
use crate::process::binary;

/// Makes a root that every binary of ours runs in, without the binaries: those are mounted, as
/// they are large.
///
/// # Errors
///
/// Fails if something is not on this machine.
pub async fn make(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    for name in ["etc/ssl/certs", "usr/local/bin", "tmp", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(name))?;
    }
    for library in libraries(&binary("system-key-vault")).await? {
        let inside = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(inside.parent().context("a library is in a folder")?)?;
        // Follows links.
        fs::copy(&library, inside)?;
    }
    fs::write(root.join("etc/passwd"), "nonroot:x:65532:65532:nonroot:/:/nonexistent\n")?;
    fs::write(root.join("etc/group"), "nonroot:x:65532:\n")?;
    let authorities = "etc/ssl/certs/ca-certificates.crt";
    fs::copy(Path::new("/").join(authorities), root.join(authorities)).context("ca-certificates are installed")?;
    Ok(root)
}

/// A service's binary, at its place in the image.
pub fn service(name: &str) -> Mount {
    Mount {
        source: binary(&format!("system-{name}")),
        destination: Path::new("/usr/local/bin").join(name),
        read_only: true,
    }
}

/// What a binary is linked with, and the program that does it.
async fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(binary).output().await.context("cannot run ldd")?;
    ensure!(output.status.success(), "ldd: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}
