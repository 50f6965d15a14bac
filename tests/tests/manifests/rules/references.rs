//! What one object says of another is so.

use serde_json::Value;

use crate::objects::{containers, find, list, of_kind, pods, selects, service_selector, text, title};

pub(super) fn broken(objects: &[Value]) -> Vec<String> {
    [accounts(objects), services(objects), budgets(objects), scaling(objects), volumes(objects), spreads(objects)]
        .concat()
}

/// An account of its own, without a token.
fn accounts(objects: &[Value]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut names: Vec<_> = pods(objects).iter().map(|pod| text(pod.spec, "/serviceAccountName")).collect();
    for name in &names {
        let account = find(objects, &format!("ServiceAccount/{name}"));
        let no_token = Some(&Value::Bool(false));
        if account.is_none_or(|account| account.get("automountServiceAccountToken") != no_token) {
            broken.push(format!("ServiceAccount/{name}: not there without a token"));
        }
    }
    names.sort_unstable();
    broken
        .extend(names.windows(2).filter(|two| two[0] == two[1]).map(|two| format!("{} is the account of two", two[0])));
    broken
}

/// A Service leads to the pods of one owner, at a port that they name.
fn services(objects: &[Value]) -> Vec<String> {
    let mut broken = Vec::new();
    for service in of_kind(objects, "Service") {
        let title = title(service);
        let selector = service_selector(service);
        let behind: Vec<_> = pods(objects).into_iter().filter(|pod| selects(&selector, pod.labels)).collect();
        let [pod] = &behind[..] else {
            broken.push(format!("{title}: leads to pods of {} owners", behind.len()));
            continue;
        };
        let ports: Vec<_> = containers(pod).into_iter().flat_map(|container| list(container, "/ports")).collect();
        for port in list(service, "/spec/ports") {
            let target = ports.iter().find(|other| text(other, "/name") == text(port, "/targetPort"));
            if target.is_none_or(|target| target.get("containerPort") != port.get("port")) {
                broken.push(format!("{title}: no container has its port"));
            }
        }
    }
    for deployment in of_kind(objects, "Deployment") {
        let own = deployment.pointer("/spec/selector").expect("it has one");
        let taken: Vec<_> =
            pods(objects).into_iter().filter(|pod| selects(own, pod.labels)).map(|pod| pod.of).collect();
        if taken != [title(deployment)] {
            broken.push(format!("{}: takes the pods of {taken:?}", title(deployment)));
        }
    }
    broken
}

/// A budget is for one owner, and leaves it a way to be moved.
fn budgets(objects: &[Value]) -> Vec<String> {
    let mut broken = Vec::new();
    for budget in of_kind(objects, "PodDisruptionBudget") {
        let selector = budget.pointer("/spec/selector").expect("it has one");
        let of = pods(objects).into_iter().filter(|pod| selects(selector, pod.labels)).count();
        if of != 1 {
            broken.push(format!("{}: is for {of} owners", title(budget)));
        }
        if budget.pointer("/spec/maxUnavailable").and_then(Value::as_u64) != Some(1) {
            broken.push(format!("{}: not one at a time", title(budget)));
        }
    }
    broken
}

/// An autoscaler has the count of replicas for itself, and something to measure by.
fn scaling(objects: &[Value]) -> Vec<String> {
    let mut broken = Vec::new();
    for scaler in of_kind(objects, "HorizontalPodAutoscaler") {
        let target =
            format!("{}/{}", text(scaler, "/spec/scaleTargetRef/kind"), text(scaler, "/spec/scaleTargetRef/name"));
        match find(objects, &target) {
            None => broken.push(format!("{}: scales {target}, which is not there", title(scaler))),
            Some(target) if target.pointer("/spec/replicas").is_some() => {
                broken.push(format!("{}: each apply would set the replicas of its target", title(scaler)));
            }
            Some(_) => {}
        }
        let least = scaler.pointer("/spec/minReplicas").and_then(Value::as_u64);
        if least.is_none_or(|least| least < 2) {
            broken.push(format!("{}: leaves one replica", title(scaler)));
        }
    }
    broken
}

/// Each ConfigMap and claim that a pod mounts is there. Secrets are the operator's.
fn volumes(objects: &[Value]) -> Vec<String> {
    let mut broken = Vec::new();
    for pod in pods(objects) {
        let volumes = list(pod.spec, "/volumes");
        for volume in volumes {
            let named =
                [("ConfigMap", "/configMap/name"), ("PersistentVolumeClaim", "/persistentVolumeClaim/claimName")];
            for (kind, place) in named {
                let name = text(volume, place);
                if !name.is_empty() && find(objects, &format!("{kind}/{name}")).is_none() {
                    broken.push(format!("{}: {kind}/{name} is not there", pod.of));
                }
            }
        }
        for mount in containers(&pod).into_iter().flat_map(|container| list(container, "/volumeMounts")) {
            let name = text(mount, "/name");
            if !volumes.iter().any(|volume| text(volume, "/name") == name) {
                broken.push(format!("{}: mounts {name}, which is no volume", pod.of));
            }
        }
    }
    broken
}

/// What spreads pods counts those pods.
fn spreads(objects: &[Value]) -> Vec<String> {
    let mut broken = Vec::new();
    for pod in pods(objects) {
        for constraint in list(pod.spec, "/topologySpreadConstraints") {
            let selector = constraint.get("labelSelector").expect("it has one");
            if !selects(selector, pod.labels) {
                broken.push(format!("{}: is spread by the pods of others", pod.of));
            }
        }
    }
    broken
}
