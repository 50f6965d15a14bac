//! A pod: one container in a namespace of its own, whose probes are asked from another one.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{task::JoinSet, time::timeout};

use super::{
    manifest::{ContainerSpec, Labels, PodSpec, Probe, Template},
    network::Place,
};
use crate::container::{Container, Ended, Mount, Program, User};

/// How often a pod that starts is asked. A kubelet asks once a period; waiting for that shows nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks for a path and writes the whole answer.
const GET: &str = "exec 3<>\"/dev/tcp/$1/$2\" && printf 'GET %s HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n' \"$3\" \"$1\" >&3 && cat <&3";

/// What probes said that a kubelet would have acted on.
pub(super) type Complaints = Arc<Mutex<Vec<String>>>;

/// A running pod. Removed when dropped.
#[derive(Debug)]
pub struct Pod {
    pub(super) labels: Labels,
    /// Before the place: it ends first.
    container: Container,
    asking: JoinSet<()>,
    spec: ContainerSpec,
    grace: Duration,
    place: Place,
}

/// What a pod is made of.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) name: String,
    pub(super) template: &'a Template,
    /// The file system of its image.
    pub(super) root: PathBuf,
    pub(super) place: Place,
    pub(super) mounts: Vec<Mount>,
    /// Its own.
    pub(super) folder: PathBuf,
    pub(super) resolv_conf: String,
}

impl Pod {
    /// Starts a pod.
    pub(super) async fn start(parts: Parts<'_>) -> Result<Self> {
        let spec = container(&parts.template.spec)?.clone();
        let program = program(&parts, &spec)?;
        let grace = Duration::from_secs(parts.template.spec.termination_grace_period_seconds);
        let container = Container::start(&program).await?;
        Ok(Self {
            labels: parts.template.metadata.labels.clone(),
            container,
            asking: JoinSet::new(),
            spec,
            grace,
            place: parts.place,
        })
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.place.address
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        self.container.log()
    }

    /// The address of one of its ports.
    pub(super) fn port(&self, name: &str) -> Result<SocketAddr> {
        let port = self.spec.ports.iter().find(|port| port.name == name);
        Ok((self.address(), port.with_context(|| format!("no port {name}"))?.container_port).into())
    }

    /// Waits as a kubelet does: until the start probe is well, then until the others are.
    pub(super) async fn is_ready(&mut self, from: &Place) -> Result<()> {
        for probe in [&self.spec.startup_probe, &self.spec.readiness_probe, &self.spec.liveness_probe] {
            let probe = probe.as_ref().context("a server has all three probes")?;
            let limit = Duration::from_secs(probe.period_seconds * u64::from(probe.failure_threshold)).max(START_MIN);
            let begun = Instant::now();
            while let Err(error) = self.answers(probe, from).await {
                ensure!(self.container.is_running()?, "{} ended:\n{}", self.spec.name, self.log());
                ensure!(begun.elapsed() < limit, "{}: {error:#}:\n{}", probe.http_get.path, self.log());
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    async fn answers(&self, probe: &Probe, from: &Place) -> Result<()> {
        ask(from, self.port(&probe.http_get.port)?, probe).await
    }

    /// Asks its probes from now on, each in its period, and complains when one fails too often.
    pub(super) fn is_watched(&mut self, from: &Arc<Place>, complaints: &Complaints) -> Result<()> {
        for probe in [&self.spec.readiness_probe, &self.spec.liveness_probe].into_iter().flatten() {
            let (address, probe) = (self.port(&probe.http_get.port)?, probe.clone());
            self.asking.spawn(keep_asking(Arc::clone(from), address, probe, Arc::clone(complaints)));
        }
        Ok(())
    }

    /// Ends it as a kubelet does, and returns how it ended.
    pub(super) async fn stop(self) -> Result<Ended> {
        drop(self.asking);
        let ended = self.container.stop(self.grace).await?;
        // Until here what it said at last could leave.
        drop(self.place);
        Ok(ended)
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ends(self, limit: Duration) -> Result<Ended> {
        self.container.ends(limit).await
    }
}

/// Machines on which tests run are slower than a cluster's, and readiness has few seconds.
const START_MIN: Duration = Duration::from_secs(30);

/// The one container of a pod, if all that it asks for is what containers here have.
fn container(pod: &PodSpec) -> Result<&ContainerSpec> {
    let [container] = pod.containers.as_slice() else { bail!("a pod has one container") };
    let security = &container.security_context;
    ensure!(!pod.automount_service_account_token, "tokens are not made here");
    ensure!(!pod.enable_service_links, "links of Services are not made here");
    ensure!(!security.allow_privilege_escalation && security.capabilities.drop == ["ALL"], "no rights");
    ensure!(pod.security_context.run_as_non_root && pod.security_context.run_as_user != 0, "not as root");
    Ok(container)
}

/// What the container runs, with the files that a kubelet adds.
fn program(parts: &Parts<'_>, spec: &ContainerSpec) -> Result<Program> {
    let security = &parts.template.spec.security_context;
    let (image, _) = spec.image.rsplit_once(':').context("an image has a tag")?;
    // What the images say: deploy/Dockerfile.
    let mut args = vec![format!("/usr/local/bin/{image}")];
    args.extend(spec.args.iter().cloned());
    let work_folder = if image == "key-vault" { "/var/lib/key-vault" } else { "/" };
    let mut environment = vec![("HOSTNAME".to_owned(), parts.name.clone())];
    environment.extend(spec.env.iter().map(|variable| (variable.name.clone(), variable.value.clone())));
    let hosts = format!("127.0.0.1 localhost\n{} {}\n", parts.place.address, parts.name);
    let mut mounts = parts.mounts.clone();
    for (name, text) in [("resolv.conf", &parts.resolv_conf), ("hosts", &hosts), ("hostname", &parts.name)] {
        let source = parts.folder.join(name);
        fs::write(&source, text)?;
        mounts.push(Mount { source, destination: Path::new("/etc").join(name), read_only: true });
    }
    Ok(Program {
        name: parts.name.clone(),
        root: parts.root.clone(),
        read_only_root: spec.security_context.read_only_root_filesystem,
        args,
        work_folder: work_folder.into(),
        environment,
        mounts,
        user: User { uid: security.run_as_user, gid: security.run_as_group, groups: vec![security.fs_group] },
        network: Some(parts.place.path()),
    })
}

async fn ask(from: &Place, address: SocketAddr, probe: &Probe) -> Result<()> {
    let path = &probe.http_get.path;
    let answer = timeout(Duration::from_secs(probe.timeout_seconds), get(from, address, path)).await;
    let answer = answer.context("no answer in time")??;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    ensure!(matches!(status.parse::<u16>(), Ok(200..400)), "{path}: {answer}");
    Ok(())
}

/// What a path leads to, asked from inside a namespace.
pub(super) async fn get(from: &Place, address: SocketAddr, path: &str) -> Result<String> {
    let mut command = from.command("bash");
    command.args(["-c", GET, "bash", &address.ip().to_string(), &address.port().to_string(), path]);
    let output = command.output().await?;
    ensure!(output.status.success(), "{address}{path}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

async fn keep_asking(from: Arc<Place>, address: SocketAddr, probe: Probe, complaints: Complaints) {
    let mut failed = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(probe.period_seconds)).await;
        match ask(&from, address, &probe).await {
            Ok(()) => failed = 0,
            Err(error) => {
                failed += 1;
                if failed >= probe.failure_threshold {
                    complaints.lock().expect("no panic while complaining").push(format!("{address}: {error:#}"));
                }
            }
        }
    }
}
