//! A little Kubernetes: pods of rendered manifests, as containers in network namespaces.
//!
//! A [`Cluster`] takes from the manifests each container's arguments, variables, mounts, user,
//! probes and time to stop, makes the Secrets that they mount, and does what a kubelet, a
//! Deployment, a Job and the endpoints of a Service do. PostgreSQL stands beside it, with the
//! users that `deploy/kubernetes/README.md` asks for.
//!
//! It refuses what it does not know, and leaves out what only a real cluster can show:
//! scheduling, evictions, scaling, limits of resources, and the enforcement of network policies.
//! A Service without an address is a name; one with an address is a list of pods, from
//! which the caller chooses as a node does.
//!
//! Needs `root`, `runc`, `ip`, `dnsmasq`, `kubectl` and PostgreSQL.

mod manifest;
mod names;
mod network;
mod overlay;
mod pod;
mod secrets;
mod volumes;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};

pub use manifest::Manifests;
pub use overlay::Overlay;
pub use pod::Pod;

use crate::{
    FakeProvider, Postgres,
    certs::{Authority, Issued, Use},
    container::{self, Ended, guard::Guard, root},
    fake_provider::Http,
};
use manifest::{Deployment, Labels, Service, Template};
use names::Names;
use network::{Network, Place};
use pod::{Complaints, Parts};
use volumes::Secrets;

/// The Service of a provider, with its namespace: stands in for one beyond the cluster.
const PROVIDER: &str = "anthropic.providers";

/// Where Services lead: to the pods that are ready.
pub type Endpoints = BTreeMap<String, Vec<SocketAddr>>;

/// A cluster. All that it made is removed when it is dropped, or when this process ends.
#[derive(Debug)]
pub struct Cluster {
    /// The pods of each deployment, oldest first.
    pods: BTreeMap<String, Vec<Pod>>,
    stopping: JoinSet<Result<Ended>>,
    complaints: Complaints,
    endpoints: watch::Sender<Endpoints>,
    secrets: Secrets,
    authority: Authority,
    images: BTreeMap<String, PathBuf>,
    started: usize,
    names: Names,
    postgres: Postgres,
    /// From where probes are asked.
    node: Arc<Place>,
    network: Network,
    folder: TempDir,
    _guard: Guard,
}

/// Removes the folder of a cluster, which is large, when its owner is gone.
const REMOVAL: &str = "read -r _; rm -rf \"$1\"";

impl Cluster {
    /// An empty cluster with a database that nobody used yet. `None`, said loudly, where something is
    /// missing; fails then in CI.
    pub async fn start() -> Option<Self> {
        if !container::is_available() {
            return None;
        }
        let tools = [("ip", "iproute2"), ("dnsmasq", "dnsmasq-base"), ("kubectl", "kubectl"), ("bash", "bash")];
        for (tool, package) in tools {
            if container::tool(tool).is_none() {
                crate::skip_without(package);
                return None;
            }
        }
        let network = Network::make().await.expect("a network");
        let authority = Authority::new("identities");
        let settings = secrets::database_settings(&authority, network.own_address(), &network.range());
        let postgres = Postgres::with(settings).await?;
        Some(Self::around(network, authority, postgres).await.expect("an empty cluster"))
    }

    async fn around(network: Network, authority: Authority, postgres: Postgres) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let guard = Guard::runs(REMOVAL, &[folder.path().as_os_str()])?;
        let names = Names::start(network.own_address(), folder.path()).await?;
        names.are(&outside(network.own_address())).await?;
        let secrets = secrets::make(&postgres, &authority, folder.path()).await?;
        let node = Arc::new(network.place("node").await?);
        Ok(Self {
            pods: BTreeMap::new(),
            stopping: JoinSet::new(),
            complaints: Complaints::default(),
            endpoints: watch::Sender::default(),
            secrets,
            authority,
            images: BTreeMap::new(),
            started: 0,
            names,
            postgres,
            node,
            network,
            folder,
            _guard: guard,
        })
    }

    /// Where this machine is for pods.
    fn address(&self) -> Ipv4Addr {
        self.network.own_address()
    }

    /// Starts a provider that pods reach over TLS, and returns its URL too.
    ///
    /// # Errors
    ///
    /// Fails if no port is free.
    pub async fn provider(&self) -> Result<(FakeProvider, String)> {
        let name = format!("{PROVIDER}.svc");
        let issued = self.authority.certify(std::slice::from_ref(&name), &[], &[Use::Server]);
        let provider = FakeProvider::at(self.address(), &issued, Http::Two).await?;
        let url = provider.url().replace(&self.address().to_string(), &name);
        Ok((provider, url))
    }

    /// A folder that ends with the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The database's server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// Who vouches for everybody.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Makes an image of a binary of tests, as `key-vault:0.1.0`.
    ///
    /// # Errors
    ///
    /// Fails with what its script said.
    pub async fn image(&mut self, reference: &str, binary: &Path) -> Result<()> {
        let (name, _) = reference.split_once(':').context("an image has a tag")?;
        let root = root::make(binary, name, self.folder.path()).await?;
        self.images.insert(reference.to_owned(), root);
        Ok(())
    }

    /// Issues the certificates that manifests name, into the Secrets that they name.
    ///
    /// # Errors
    ///
    /// Fails on a use of a certificate that is not known.
    pub fn issue(&mut self, manifests: &Manifests) -> Result<()> {
        for certificate in manifests.certificates.iter().filter(|certificate| !certificate.is_authority) {
            let files = secrets::issued(&self.authority, certificate)?;
            self.secrets.insert(certificate.secret_name.clone(), files);
        }
        Ok(())
    }

    /// The certificate and key in a Secret.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn identity(&self, secret: &str) -> Result<Issued> {
        let files = self.secrets.get(secret).context("no such Secret")?;
        let file = |name: &str| files.get(name).cloned().context("no such file");
        Ok(Issued { certificate: file("tls.crt")?, key: file("tls.key")? })
    }

    /// Runs a job, and waits until it is done.
    ///
    /// # Errors
    ///
    /// Fails with its log if it fails, or takes longer than it may.
    pub async fn complete(&mut self, manifests: &Manifests, job: &str) -> Result<Ended> {
        let job = manifests.jobs.get(job).with_context(|| format!("no job {job}"))?;
        let pod = self.pod(manifests, &job.template).await?;
        let ended = pod.ends(Duration::from_secs(job.active_deadline_seconds)).await?;
        ensure!(ended.code == 0, "the job fails:\n{}", ended.log);
        Ok(ended)
    }

    /// Starts a pod of a deployment that is to end by itself, and is none of its replicas.
    ///
    /// # Errors
    ///
    /// Fails if it does not within `limit`.
    pub async fn ends(&mut self, manifests: &Manifests, deployment: &str, limit: Duration) -> Result<Ended> {
        let template = &deployed(manifests, deployment)?.template;
        self.pod(manifests, template).await?.ends(limit).await
    }

    /// Brings a deployment to what manifests say: each pod is replaced when a new one is ready.
    /// Those that stop still do when this returns.
    ///
    /// # Errors
    ///
    /// Fails with the log of the pod that does not become ready.
    pub async fn roll_out(&mut self, manifests: &Manifests, deployment: &str) -> Result<()> {
        let wanted = replicas(manifests, deployment)?;
        let template = &deployed(manifests, deployment)?.template;
        let old = self.pods.entry(deployment.to_owned()).or_default().len();
        ensure!(old == 0 || old == wanted, "scaling is not done here");
        for _ in 0..wanted {
            let mut pod = self.pod(manifests, template).await?;
            pod.is_ready(&self.node).await?;
            pod.is_watched(&self.node, &self.complaints)?;
            let pods = self.pods.entry(deployment.to_owned()).or_default();
            pods.push(pod);
            let leaving = (pods.len() > wanted).then(|| pods.remove(0));
            self.publish(manifests).await?;
            if let Some(leaving) = leaving {
                self.stopping.spawn(leaving.stop());
            }
        }
        Ok(())
    }

    /// Waits until all pods that stop have stopped, and returns how.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be stopped.
    pub async fn settles(&mut self) -> Result<Vec<Ended>> {
        let mut all = Vec::new();
        while let Some(ended) = self.stopping.join_next().await {
            all.push(ended??);
        }
        Ok(all)
    }

    /// What probes said that a kubelet would have acted on.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().expect("no panic while complaining").clone()
    }

    /// The pods of a deployment, oldest first.
    pub fn pods(&self, deployment: &str) -> &[Pod] {
        self.pods.get(deployment).map(Vec::as_slice).unwrap_or_default()
    }

    /// Where Services lead, now and later.
    pub fn endpoints(&self) -> watch::Receiver<Endpoints> {
        self.endpoints.subscribe()
    }

    /// What a pod measures, asked from where probes are.
    ///
    /// # Errors
    ///
    /// Fails if it does not answer.
    pub async fn metrics(&self, pod: &Pod) -> Result<String> {
        pod::get(&self.node, pod.port("probes")?, "/metrics").await
    }

    async fn pod(&mut self, manifests: &Manifests, template: &Template) -> Result<Pod> {
        let container = template.spec.containers.first().context("a pod has a container")?;
        self.started += 1;
        let name = format!("{}-{}", container.name, self.started);
        let folder = self.folder.path().join(&name);
        std::fs::create_dir(&folder)?;
        let mounts = volumes::mounts(&template.spec, container, manifests, &self.secrets, &folder)?;
        let root = self.images.get(&container.image).with_context(|| format!("no image {}", container.image))?;
        Pod::start(Parts {
            root: root.clone(),
            place: self.network.place(&name).await?,
            resolv_conf: self.names.resolv_conf(&manifests.namespace),
            name,
            template,
            mounts,
            folder,
        })
        .await
    }

    /// Lets Services lead to the pods that are ready.
    async fn publish(&self, manifests: &Manifests) -> Result<()> {
        let (mut endpoints, mut names) = (Endpoints::new(), outside(self.address()));
        for (name, service) in &manifests.services {
            let addresses = self.addresses(service)?;
            if service.cluster_ip.as_deref() == Some("None") {
                names.insert(format!("{name}.{}", manifests.namespace), addresses.iter().map(SocketAddr::ip).collect());
            }
            endpoints.insert(name.clone(), addresses);
        }
        self.names.are(&names).await?;
        self.endpoints.send_replace(endpoints);
        Ok(())
    }

    /// Where a Service leads to: the pods of a deployment are all ready.
    fn addresses(&self, service: &Service) -> Result<Vec<SocketAddr>> {
        let [port] = service.ports.as_slice() else { bail!("a Service has one port") };
        let is_selected =
            |labels: &Labels| service.selector.iter().all(|(name, value)| labels.get(name) == Some(value));
        let mut addresses = Vec::new();
        for pod in self.pods.values().flatten().filter(|pod| is_selected(&pod.labels)) {
            let address = pod.port(&port.target_port)?;
            // A name without an address changes no port.
            ensure!(address.port() == port.port, "{address} is not at port {}", port.port);
            addresses.push(address);
        }
        Ok(addresses)
    }
}

/// The names of what is in no pod.
fn outside(address: Ipv4Addr) -> BTreeMap<String, Vec<IpAddr>> {
    [secrets::SERVICE, PROVIDER].map(|name| (name.to_owned(), vec![address.into()])).into()
}

fn deployed<'a>(manifests: &'a Manifests, deployment: &str) -> Result<&'a Deployment> {
    manifests.deployments.get(deployment).with_context(|| format!("no deployment {deployment}"))
}

/// How many pods a deployment has before anything scales it.
fn replicas(manifests: &Manifests, name: &str) -> Result<usize> {
    let deployment = deployed(manifests, name)?;
    let update = &deployment.strategy.rolling_update;
    let known = deployment.strategy.r#type == "RollingUpdate" && update.max_surge == 1 && update.max_unavailable == 0;
    ensure!(known, "{name} is not replaced one by one");
    ensure!(
        deployment
            .selector
            .match_labels
            .iter()
            .all(|label| deployment.template.metadata.labels.get(label.0) == Some(label.1)),
        "{name} selects its own pods"
    );
    let scaled = manifests.autoscalers.iter().find(|scaler| scaler.scale_target_ref.name == name);
    deployment.replicas.or(scaled.map(|scaler| scaler.min_replicas)).context("a number of replicas")
}
