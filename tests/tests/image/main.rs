//! The images of both services: what is in them, and that the services run from them.
//!
//! `deploy/image/rootfs.sh` makes the root of an image, here from the tests' own binaries and in
//! `deploy/Dockerfile` from its own. That the Dockerfile builds is not tested: it needs an image
//! from a registry.

mod compose;
mod contents;
mod dockerfile;
mod stack;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// The user and the group of both images.
const USER: u32 = 65532;

/// A file of the checkout.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The binary of a service that goes into its image.
fn binary(service: &str) -> PathBuf {
    system_tests::command(service).as_std().get_program().into()
}

/// Makes the root of a service's image, in `folder`.
async fn root_of(service: &str, folder: &Path) -> Result<PathBuf> {
    let root = folder.join(service);
    let mut script = tokio::process::Command::new(path("deploy/image/rootfs.sh"));
    script.arg(binary(service)).arg(&root).arg(service).env_remove("SOURCE_DATE_EPOCH");
    let made = script.output().await.context("the script runs")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(root)
}

/// Whether `rootfs.sh` can run. Says so if not, and fails in CI.
fn is_debian() -> bool {
    let is_debian = Path::new("/usr/share/ca-certificates/mozilla").is_dir() && Path::new("/var/lib/dpkg").is_dir();
    if !is_debian {
        system_tests::skip_without("Debian with ca-certificates");
    }
    is_debian
}
