//! What is read of manifests, and nothing else: a field that is not known here is refused, so
//! that none is left out silently. What only a real cluster can do is named and not read.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
use tokio::process::Command;

/// The objects of an overlay, by their names.
#[derive(Debug, Default)]
pub struct Manifests {
    pub(super) namespace: String,
    pub(super) deployments: BTreeMap<String, Deployment>,
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) services: BTreeMap<String, Service>,
    pub(super) autoscalers: Vec<Autoscaler>,
    pub(super) config_maps: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) certificates: Vec<Certificate>,
}

/// Kinds that nothing here can show: permissions, neighbours, evictions and networks' policies.
const ELSEWHERE: &[&str] = &["Namespace", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy", "Issuer"];

impl Manifests {
    /// Renders the overlay in a folder.
    ///
    /// # Errors
    ///
    /// Fails with what `kubectl` said, and on all that is not known here.
    pub async fn render(folder: &Path) -> Result<Self> {
        let mut command = Command::new("kubectl");
        command.arg("kustomize").arg(folder).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.context("cannot run kubectl")?;
        ensure!(output.status.success(), "kubectl kustomize: {}", String::from_utf8_lossy(&output.stderr));
        Self::read(std::str::from_utf8(&output.stdout)?)
    }

    fn read(text: &str) -> Result<Self> {
        let mut manifests = Self::default();
        for object in serde_saphyr::from_multiple::<Value>(text)? {
            let kind = object["kind"].as_str().context("an object has a kind")?.to_owned();
            let name = object["metadata"]["name"].as_str().context("an object has a name")?.to_owned();
            manifests.add(&kind, &name, object).with_context(|| format!("{kind} {name}"))?;
        }
        Ok(manifests)
    }

    fn add(&mut self, kind: &str, name: &str, mut object: Value) -> Result<()> {
        if let Some(namespace) = object["metadata"]["namespace"].as_str() {
            ensure!(self.namespace.is_empty() || self.namespace == namespace, "one namespace");
            namespace.clone_into(&mut self.namespace);
        }
        let (name, spec) = (name.to_owned(), object["spec"].take());
        match kind {
            "Deployment" => drop(self.deployments.insert(name, read(spec)?)),
            "Job" => drop(self.jobs.insert(name, read(spec)?)),
            "Service" => drop(self.services.insert(name, read(spec)?)),
            "HorizontalPodAutoscaler" => self.autoscalers.push(read(spec)?),
            "ConfigMap" => drop(self.config_maps.insert(name, read(object["data"].take())?)),
            "Certificate" => self.certificates.push(read(spec)?),
            _ if ELSEWHERE.contains(&kind) => {}
            _ => bail!("not known"),
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Deployment {
    /// Absent where an autoscaler says it.
    pub(super) replicas: Option<usize>,
    pub(super) selector: Selector,
    pub(super) strategy: Strategy,
    pub(super) template: Template,
    #[serde(rename = "progressDeadlineSeconds")]
    _progress_deadline: IgnoredAny,
    #[serde(rename = "revisionHistoryLimit")]
    _history: IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Selector {
    pub(super) match_labels: Labels,
}

pub(super) type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Strategy {
    pub(super) r#type: String,
    pub(super) rolling_update: RollingUpdate,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RollingUpdate {
    pub(super) max_surge: usize,
    pub(super) max_unavailable: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Job {
    pub(super) active_deadline_seconds: u64,
    pub(super) template: Template,
    #[serde(rename = "backoffLimit")]
    _backoff_limit: IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Template {
    pub(super) metadata: TemplateMetadata,
    pub(super) spec: PodSpec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TemplateMetadata {
    pub(super) labels: Labels,
    #[serde(default, rename = "annotations")]
    _annotations: IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PodSpec {
    pub(super) automount_service_account_token: bool,
    pub(super) containers: Vec<ContainerSpec>,
    pub(super) enable_service_links: bool,
    pub(super) security_context: PodSecurity,
    /// What Kubernetes says if a manifest does not.
    #[serde(default = "thirty")]
    pub(super) termination_grace_period_seconds: u64,
    pub(super) volumes: Vec<Volume>,
    #[serde(default, rename = "restartPolicy")]
    _restart_policy: IgnoredAny,
    #[serde(rename = "serviceAccountName")]
    _service_account: IgnoredAny,
    #[serde(default, rename = "topologySpreadConstraints")]
    _spread: IgnoredAny,
}

fn thirty() -> u64 {
    30
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PodSecurity {
    pub(super) fs_group: u32,
    pub(super) run_as_group: u32,
    pub(super) run_as_non_root: bool,
    pub(super) run_as_user: u32,
    #[serde(rename = "fsGroupChangePolicy")]
    _change_policy: IgnoredAny,
    /// The profile is the container runtime's own.
    #[serde(rename = "seccompProfile")]
    _seccomp: IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ContainerSpec {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<Variable>,
    #[serde(default)]
    pub(super) ports: Vec<Port>,
    pub(super) liveness_probe: Option<Probe>,
    pub(super) readiness_probe: Option<Probe>,
    pub(super) startup_probe: Option<Probe>,
    pub(super) security_context: ContainerSecurity,
    #[serde(default)]
    pub(super) volume_mounts: Vec<VolumeMount>,
    #[serde(default, rename = "imagePullPolicy")]
    _pull_policy: IgnoredAny,
    #[serde(default, rename = "resources")]
    _resources: IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) container_port: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Probe {
    pub(super) failure_threshold: u32,
    pub(super) http_get: HttpGet,
    pub(super) period_seconds: u64,
    /// What Kubernetes says if a manifest does not.
    #[serde(default = "one")]
    pub(super) timeout_seconds: u64,
}

fn one() -> u64 {
    1
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpGet {
    pub(super) path: String,
    /// The name of a port.
    pub(super) port: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ContainerSecurity {
    pub(super) allow_privilege_escalation: bool,
    pub(super) capabilities: Capabilities,
    pub(super) read_only_root_filesystem: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capabilities {
    pub(super) drop: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct VolumeMount {
    pub(super) name: String,
    pub(super) mount_path: String,
    #[serde(default)]
    pub(super) read_only: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) secret: Option<SecretSource>,
    pub(super) config_map: Option<ConfigMapSource>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SecretSource {
    pub(super) secret_name: String,
    pub(super) default_mode: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConfigMapSource {
    pub(super) name: String,
    pub(super) default_mode: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Service {
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Option<String>,
    pub(super) ports: Vec<ServicePort>,
    pub(super) selector: Labels,
    #[serde(default, rename = "type")]
    _type: IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ServicePort {
    pub(super) port: u16,
    /// The name of a container's port.
    pub(super) target_port: String,
    #[serde(rename = "name")]
    _name: IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Autoscaler {
    pub(super) min_replicas: usize,
    pub(super) scale_target_ref: Target,
    #[serde(rename = "behavior")]
    _behavior: IgnoredAny,
    #[serde(rename = "maxReplicas")]
    _max_replicas: IgnoredAny,
    #[serde(rename = "metrics")]
    _metrics: IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Target {
    pub(super) name: String,
}

/// Of cert-manager.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) secret_name: String,
    #[serde(default)]
    pub(super) dns_names: Vec<String>,
    #[serde(default)]
    pub(super) uris: Vec<String>,
    #[serde(default)]
    pub(super) usages: Vec<String>,
    #[serde(default, rename = "isCA")]
    pub(super) is_authority: bool,
    #[serde(default, rename = "commonName")]
    _common_name: IgnoredAny,
    #[serde(rename = "duration")]
    _duration: IgnoredAny,
    #[serde(rename = "issuerRef")]
    _issuer: IgnoredAny,
    #[serde(rename = "privateKey")]
    _private_key: IgnoredAny,
    #[serde(default, rename = "renewBefore")]
    _renew_before: IgnoredAny,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_refused() {
        let object = |kind: &str, more: &str| {
            let port = json!({"name": "grpc", "port": 1, "targetPort": "grpc"});
            let mut spec = json!({"ports": [port], "selector": {}});
            spec[more] = json!("None");
            json!({"kind": kind, "metadata": {"name": "a"}, "spec": spec}).to_string()
        };
        assert!(Manifests::read(&object("Service", "clusterIP")).is_ok());
        let refused = |text: &str| format!("{:#}", Manifests::read(text).expect_err("it is refused"));
        assert!(refused(&object("Service", "sessionAffinity")).contains("sessionAffinity"));
        assert!(refused(&object("DaemonSet", "clusterIP")).contains("DaemonSet a: not known"));
    }
}
