//! What a pod may do, how it is asked and how it ends.

use serde_json::{Value, json};

use crate::objects::{Pod, containers, find, list, option, pods, text};

/// What every pod has, and with which value.
const POD: &[(&str, Value)] = &[
    ("/automountServiceAccountToken", Value::Bool(false)),
    ("/enableServiceLinks", Value::Bool(false)),
    ("/securityContext/runAsNonRoot", Value::Bool(true)),
];

/// The user, its group, and the group of what is mounted.
const USER: &[&str] = &["/securityContext/runAsUser", "/securityContext/runAsGroup", "/securityContext/fsGroup"];
const USER_ID: u64 = 65532;

/// What gives a pod a part of its node.
const OF_THE_NODE: &[&str] = &["hostNetwork", "hostPID", "hostIPC", "hostAliases", "shareProcessNamespace"];

/// What every container has.
const CONTAINER: &[(&str, Value)] = &[
    ("/securityContext/allowPrivilegeEscalation", Value::Bool(false)),
    ("/securityContext/readOnlyRootFilesystem", Value::Bool(true)),
];

/// What may stay in the security context of a container, so that nothing takes back what its pod has.
const CONTEXT: &[&str] = &["allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"];

/// Probes, and what they ask.
const PROBES: &[(&str, &str)] =
    &[("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")];

/// How long reports, refusals, spans and metrics take after the drain, in seconds.
const END_MAX: u64 = 25;

pub(super) fn broken(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for pod in pods(objects) {
        let mut broken = confinement(&pod);
        broken.extend(containers(&pod).into_iter().flat_map(container));
        broken.extend(volumes(&pod));
        if pod.of.starts_with("Deployment/") {
            broken.extend(containers(&pod).into_iter().flat_map(probes));
            broken.extend(end(&pod));
            broken.extend(find(objects, &pod.of).into_iter().flat_map(rollout));
        }
        found.extend(broken.into_iter().map(|broken| format!("{}: {broken}", pod.of)));
    }
    found
}

fn confinement(pod: &Pod<'_>) -> Vec<String> {
    let mut broken = wrong(pod.spec, POD);
    let user = USER.iter().filter(|place| pod.spec.pointer(place) != Some(&json!(USER_ID)));
    broken.extend(user.map(|place| format!("{place} is not {USER_ID}")));
    if text(pod.spec, "/securityContext/seccompProfile/type") != "RuntimeDefault" {
        broken.push("seccompProfile is not RuntimeDefault".into());
    }
    let node = OF_THE_NODE.iter().filter(|field| pod.spec.get(field).is_some());
    broken.extend(node.map(|field| format!("{field} is set")));
    broken
}

fn container(container: &Value) -> Vec<String> {
    let mut broken = wrong(container, CONTAINER);
    if container.pointer("/securityContext/capabilities") != Some(&json!({"drop": ["ALL"]})) {
        broken.push("capabilities are not all dropped, and no more".into());
    }
    let context =
        container.get("securityContext").and_then(Value::as_object).into_iter().flat_map(|fields| fields.keys());
    broken.extend(context.filter(|field| !CONTEXT.contains(&field.as_str())).map(|field| format!("{field} is set")));
    // A variable may say where a file is, and nothing else.
    if container.get("envFrom").is_some() {
        broken.push("variables from elsewhere".into());
    }
    let unsafe_variable = |variable: &&Value| {
        !text(variable, "/name").ends_with("_FILE") || !text(variable, "/value").starts_with("/etc/")
    };
    let variables = list(container, "/env").iter().filter(unsafe_variable);
    broken.extend(variables.map(|variable| format!("the variable {} names no file", text(variable, "/name"))));
    // What has a password in it, or may have one.
    if list(container, "/args").iter().any(|argument| argument.as_str().is_some_and(|text| text.contains("postgres"))) {
        broken.push("a URL of the database among the arguments".into());
    }
    for needed in ["/resources/requests/cpu", "/resources/requests/memory", "/resources/limits/memory"] {
        if text(container, needed).is_empty() {
            broken.push(format!("no {needed}"));
        }
    }
    let image = text(container, "/image");
    let tag = image.rsplit_once(':').map(|(_, tag)| tag);
    if tag.is_none_or(|tag| tag == "latest") {
        broken.push(format!("the image {image} has no version"));
    }
    broken
}

/// Volumes are files of secrets and configuration, the vault's data, or memory.
fn volumes(pod: &Pod<'_>) -> Vec<String> {
    /// 0440, as JSON has it.
    const MODE: u64 = 0o440;
    let mut broken = Vec::new();
    for volume in list(pod.spec, "/volumes") {
        let name = text(volume, "/name");
        let kind = ["secret", "configMap"].into_iter().find(|kind| volume.get(kind).is_some());
        if let Some(kind) = kind {
            if volume[kind].get("defaultMode") != Some(&json!(MODE)) {
                broken.push(format!("the volume {name} is not for its group alone"));
            }
        } else if volume.get("persistentVolumeClaim").is_none() && text(volume, "/emptyDir/medium") != "Memory" {
            broken.push(format!("the volume {name} is of another kind"));
        }
        let mounts: Vec<_> = containers(pod)
            .into_iter()
            .flat_map(|container| list(container, "/volumeMounts"))
            .filter(|mount| text(mount, "/name") == name)
            .collect();
        if mounts.is_empty() {
            broken.push(format!("the volume {name} is mounted nowhere"));
        }
        if mounts.iter().any(|mount| mount.get("subPath").is_some()) {
            broken.push(format!("the volume {name} is mounted with subPath, and never renewed"));
        }
        if kind.is_some() && mounts.iter().any(|mount| mount.get("readOnly") != Some(&Value::Bool(true))) {
            broken.push(format!("the volume {name} is not mounted read only"));
        }
    }
    broken
}

fn probes(container: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for (probe, path) in PROBES {
        let asks = container.get(probe).and_then(|probe| probe.get("httpGet"));
        if asks != Some(&json!({"path": path, "port": "probes"})) {
            broken.push(format!("{probe} does not ask {path} of the port of probes"));
        }
    }
    let port = |name: &str| list(container, "/ports").iter().find(|port| text(port, "/name") == name);
    for (name, listen) in [("grpc", "--listen"), ("probes", "--probe-listen")] {
        let port = port(name).and_then(|port| port.get("containerPort"));
        let listens = option(container, listen).and_then(|address| address.strip_prefix("0.0.0.0:"));
        if listens.map(ToOwned::to_owned) != port.map(ToString::to_string) {
            broken.push(format!("{listen} is not the port {name}"));
        }
    }
    broken
}

/// Nothing is killed that ends by itself.
fn end(pod: &Pod<'_>) -> Vec<String> {
    let grace = pod.spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(30);
    let seconds = |container, name| option(container, name).and_then(|value| value.parse::<u64>().ok());
    let enough = |container| {
        let drain = seconds(container, "--drain-delay-seconds")? + seconds(container, "--drain-seconds")?;
        Some(grace >= drain + END_MAX)
    };
    let short = containers(pod).into_iter().any(|container| enough(container) != Some(true));
    short
        .then(|| format!("{grace} s of grace are less than the delay, the drain and {END_MAX} s"))
        .into_iter()
        .collect()
}

/// A new version takes no replica away before another is ready, or there is only one.
fn rollout(deployment: &Value) -> Vec<String> {
    let strategy = text(deployment, "/spec/strategy/type");
    let gentle = deployment.pointer("/spec/strategy/rollingUpdate/maxUnavailable") == Some(&json!(0));
    let alone = strategy == "Recreate" && deployment.pointer("/spec/replicas") == Some(&json!(1));
    (!(strategy == "RollingUpdate" && gentle || alone))
        .then(|| "a rollout takes replicas away".into())
        .into_iter()
        .collect()
}

fn wrong(object: &Value, wanted: &[(&str, Value)]) -> Vec<String> {
    let differs = wanted.iter().filter(|(place, value)| object.pointer(place) != Some(value));
    differs.map(|(place, value)| format!("{place} is not {value}")).collect()
}
