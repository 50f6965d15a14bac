//! Network namespaces on a bridge, one for each pod, with addresses of a network that nobody has.
//!
//! Odd: the bridge is in a namespace too, to which this machine has a cable of its own. On the
//! machine itself a firewall may look at what a bridge carries, and drop it.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU8, AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::container::guard::Guard;

/// Removes all namespaces of a network when its owner is gone, and what is in them.
const REMOVAL: &str = "read -r _; for name in $(ip netns list | cut -d ' ' -f 1); do \
case $name in \"$1\"-*) ip netns delete \"$name\" ;; esac; done; ip link delete \"$1\"";

/// The namespace of the bridge.
const SWITCH: &str = "switch";

/// Networks that are tried before none is free: `10.64.0.0/24` and those that follow.
const NETWORKS: u32 = 64 * 256;

/// A bridge and the namespaces on it. Removed when dropped.
#[derive(Debug)]
pub(super) struct Network {
    /// What all its names begin with. Interfaces have short names.
    prefix: String,
    first: [u8; 3],
    hosts: AtomicU8,
    _guard: Guard,
}

/// A namespace with an address. Removed when dropped.
#[derive(Debug)]
pub(super) struct Place {
    namespace: String,
    pub(super) address: Ipv4Addr,
}

impl Network {
    /// Makes an empty network, in which this machine has an address.
    pub(super) async fn make() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("st{:x}{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let first = free_network().await?;
        let guard = Guard::runs(REMOVAL, &[prefix.as_ref()])?;
        let network = Self { prefix, first, hosts: AtomicU8::new(1), _guard: guard };
        let (prefix, switch, own) = (&network.prefix, network.namespace(SWITCH), network.own_address());
        ip(&[], &format!("netns add {switch}")).await?;
        ip(&["-n", &switch], "link add bridge type bridge\nlink set bridge up").await?;
        ip(&[], &format!("link add {prefix} type veth peer name machine netns {switch}")).await?;
        ip(&["-n", &switch], "link set machine master bridge\nlink set machine up").await?;
        ip(&[], &format!("address add {own}/24 dev {prefix}\nlink set {prefix} up")).await?;
        Ok(network)
    }

    /// The address of this machine, where servers listen that are in no pod.
    pub(super) fn own_address(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// All addresses.
    pub(super) fn range(&self) -> String {
        format!("{}/24", self.address(0))
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.first;
        Ipv4Addr::new(a, b, c, host)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Makes a namespace, whose name nobody has, with an address that nobody had.
    pub(super) async fn place(&self, name: &str) -> Result<Place> {
        let host = self.hosts.fetch_add(1, Ordering::Relaxed) + 1;
        ensure!(host < u8::MAX, "no address is left");
        let (namespace, switch, address) = (self.namespace(name), self.namespace(SWITCH), self.address(host));
        let place = Place { namespace, address };
        let (namespace, gateway) = (&place.namespace, self.own_address());
        ip(&[], &format!("netns add {namespace}")).await?;
        let cable = format!("link add v{host} type veth peer name eth0 netns {namespace}");
        ip(&["-n", &switch], &format!("{cable}\nlink set v{host} master bridge\nlink set v{host} up")).await?;
        let inside = format!("address add {address}/24 dev eth0\nlink set eth0 up\nlink set lo up");
        ip(&["-n", namespace], &format!("{inside}\nroute add default via {gateway}")).await?;
        Ok(place)
    }
}

impl Place {
    /// The namespace, as containers join it.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from("/var/run/netns").join(&self.namespace)
    }

    /// A command inside.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The network's guard removes what is left.
        let _ = std::process::Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

/// The first three bytes of addresses that this machine knows no way to.
async fn free_network() -> Result<[u8; 3]> {
    let output = Command::new("ip").args(["-4", "route", "show", "table", "all"]).output().await;
    let routes = String::from_utf8(output.context("cannot run ip")?.stdout)?;
    for attempt in 0..NETWORKS {
        let [_, _, high, low] = ((std::process::id() + attempt) % NETWORKS).to_be_bytes();
        let first = [10, 64 + high, low];
        if !routes.contains(&format!("{}.{}.{}.", first[0], first[1], first[2])) {
            return Ok(first);
        }
    }
    bail!("no network is free")
}

/// Runs commands of `ip`, one a line. Stops at the first that fails.
async fn ip(options: &[&str], commands: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(options).args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("cannot run ip")?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(commands.as_bytes()).await?;
    stdin.write_all(b"\n").await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "ip {options:?}: {}\n{commands}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
