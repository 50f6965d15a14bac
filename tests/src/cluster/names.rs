//! The names of Services, by `dnsmasq`: a headless one leads to each of its pods that is ready.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::{
    certs::replace,
    container::{guard::Guard, tool},
};

/// Runs the server until its owner is gone.
const SCRIPT: &str = "\
log=\"$1\"; shift; \"$@\" </dev/null >\"$log\" 2>&1 & id=$!; read -r _; kill $id; wait $id";

/// How often it is looked whether dnsmasq has written its id.
const LOOK_EVERY: Duration = Duration::from_millis(10);

const START_MAX: Duration = Duration::from_secs(15);

/// What a cluster calls its own names.
const DOMAIN: &str = "cluster.local";

/// A server of names. Ends when dropped.
#[derive(Debug)]
pub(super) struct Names {
    address: Ipv4Addr,
    folder: PathBuf,
    _guard: Guard,
}

impl Names {
    /// Starts it, and waits until it serves. It knows no name.
    pub(super) async fn start(address: Ipv4Addr, folder: &Path) -> Result<Self> {
        let folder = folder.join("names");
        fs::create_dir(&folder)?;
        fs::write(folder.join("hosts"), "")?;
        let words = [
            tool("dnsmasq").context("no dnsmasq")?.display().to_string(),
            "--keep-in-foreground".to_owned(),
            "--conf-file=/dev/null".to_owned(),
            "--user=root".to_owned(),
            "--no-resolv".to_owned(),
            "--no-hosts".to_owned(),
            "--bind-interfaces".to_owned(),
            format!("--listen-address={address}"),
            format!("--pid-file={}", folder.join("pid").display()),
            format!("--addn-hosts={}", folder.join("hosts").display()),
            format!("--local=/{DOMAIN}/"),
        ];
        let log = folder.join("log");
        let arguments: Vec<_> = [log.as_os_str()].into_iter().chain(words.iter().map(AsRef::as_ref)).collect();
        let guard = Guard::runs(SCRIPT, &arguments)?;
        let start = Instant::now();
        while !folder.join("pid").exists() {
            let log = || fs::read_to_string(&log).unwrap_or_default();
            ensure!(start.elapsed() < START_MAX, "dnsmasq does not start: {}", log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self { address, folder, _guard: guard })
    }

    /// Forgets all names, and knows these: each with its namespace, as `key-vault.archestra`.
    pub(super) async fn are(&self, names: &BTreeMap<String, Vec<IpAddr>>) -> Result<()> {
        let mut hosts = String::new();
        for (name, addresses) in names {
            for address in addresses {
                writeln!(hosts, "{address} {name}.svc.{DOMAIN}")?;
            }
        }
        replace(&self.folder.join("hosts"), &hosts);
        let id = fs::read_to_string(self.folder.join("pid"))?;
        let told = Command::new("kill").args(["-HUP", id.trim()]).stdin(Stdio::null()).status().await?;
        ensure!(told.success(), "dnsmasq has ended");
        Ok(())
    }

    /// What a pod of a namespace has as `/etc/resolv.conf`.
    pub(super) fn resolv_conf(&self, namespace: &str) -> String {
        format!("search {namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\nnameserver {}\noptions ndots:5\n", self.address)
    }
}
