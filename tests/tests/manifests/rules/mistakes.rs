//! Mistakes that are planted into the production overlay, each of which must be seen.

use serde_json::{Value, json};

use super::broken;
use crate::{named, objects::title, sets};

const VAULT: &str = "Deployment/key-vault";
const GATEWAY: &str = "Deployment/chat-gateway";

/// A mistake: the object, the place in it, what comes there (null takes it out), and a word of
/// what must be said.
type Mistake = (&'static str, &'static str, Value, &'static str);

fn mistakes() -> Vec<Mistake> {
    let pod = |place: &'static str, value, word| (VAULT, place, value, word);
    vec![
        pod("/spec/template/spec/automountServiceAccountToken", json!(true), "automountServiceAccountToken"),
        pod("/spec/template/spec/enableServiceLinks", json!(null), "enableServiceLinks"),
        pod("/spec/template/spec/hostNetwork", json!(true), "hostNetwork"),
        pod("/spec/template/spec/securityContext/runAsNonRoot", json!(null), "runAsNonRoot"),
        pod("/spec/template/spec/securityContext/runAsUser", json!(0), "runAsUser"),
        pod("/spec/template/spec/securityContext/seccompProfile", json!({"type": "Unconfined"}), "seccompProfile"),
        pod("/spec/template/spec/terminationGracePeriodSeconds", json!(49), "grace"),
        pod("/spec/template/spec/containers/0/args/3", json!("--drain-delay-seconds=6"), "grace"),
        pod("/spec/template/spec/containers/0/args/2", json!("--probe-listen=127.0.0.1:9101"), "--probe-listen"),
        pod("/spec/template/spec/containers/0/args/0", json!("--database-url=postgres://a:b@c/d"), "database"),
        pod("/spec/template/spec/containers/0/image", json!("key-vault"), "version"),
        pod("/spec/template/spec/containers/0/image", json!("key-vault:latest"), "version"),
        pod("/spec/template/spec/containers/0/readinessProbe", json!(null), "readinessProbe"),
        pod("/spec/template/spec/containers/0/livenessProbe/httpGet/path", json!("/readyz"), "livenessProbe"),
        pod("/spec/template/spec/containers/0/resources/limits", json!(null), "limits/memory"),
        pod(
            "/spec/template/spec/containers/0/securityContext/capabilities",
            json!({"drop": ["ALL"], "add": ["SYS_PTRACE"]}),
            "capabilities",
        ),
        pod("/spec/template/spec/containers/0/securityContext/privileged", json!(true), "privileged"),
        pod("/spec/template/spec/containers/0/securityContext/runAsUser", json!(0), "runAsUser is set"),
        pod(
            "/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem",
            json!(false),
            "readOnlyRootFilesystem",
        ),
        pod(
            "/spec/template/spec/containers/0/securityContext/allowPrivilegeEscalation",
            json!(null),
            "allowPrivilegeEscalation",
        ),
        pod(
            "/spec/template/spec/containers/0/env",
            json!([{"name": "KEY_VAULT_DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "key-vault-database", "key": "url"}}}]),
            "names no file",
        ),
        pod(
            "/spec/template/spec/containers/0/envFrom",
            json!([{"secretRef": {"name": "key-vault-database"}}]),
            "variables",
        ),
        pod("/spec/template/spec/containers/0/volumeMounts/0/subPath", json!("url"), "subPath"),
        pod("/spec/template/spec/containers/0/volumeMounts/0/readOnly", json!(null), "read only"),
        pod("/spec/template/spec/containers/0/volumeMounts/0/name", json!("data"), "no volume"),
        pod("/spec/template/spec/volumes/0/secret/defaultMode", json!(420), "group alone"),
        pod("/spec/template/spec/volumes/0", json!({"name": "database", "hostPath": {"path": "/"}}), "another kind"),
        pod("/spec/template/spec/serviceAccountName", json!("chat-gateway"), "account of two"),
        pod("/spec/template/spec/serviceAccountName", json!("default"), "ServiceAccount/default"),
        pod("/spec/template/metadata/labels/app.kubernetes.io~1name", json!("chat-gateway"), "owners"),
        pod("/spec/strategy/rollingUpdate/maxUnavailable", json!(1), "rollout"),
        pod("/spec/strategy", json!({"type": "Recreate"}), "rollout"),
        (GATEWAY, "/spec/replicas", json!(2), "each apply"),
        (
            GATEWAY,
            "/spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels",
            json!({"app.kubernetes.io/name": "key-vault"}),
            "spread by",
        ),
        ("ServiceAccount/chat-gateway", "/automountServiceAccountToken", json!(true), "ServiceAccount/chat-gateway"),
        ("Service/key-vault", "/spec/ports/0/port", json!(50052), "no container has its port"),
        ("Service/chat-gateway", "/spec/selector", json!({"app.kubernetes.io/part-of": "archestra"}), "owners"),
        ("ConfigMap/key-vault-policy", "/metadata/name", json!("key-vault-policy-8f7h"), "ConfigMap/key-vault-policy"),
        ("PodDisruptionBudget/key-vault", "/spec/maxUnavailable", json!(0), "one at a time"),
        ("PodDisruptionBudget/key-vault", "/spec/selector/matchLabels", json!({"app": "key-vault"}), "owners"),
        ("HorizontalPodAutoscaler/chat-gateway", "/spec/scaleTargetRef/name", json!("gateway"), "is not there"),
        ("HorizontalPodAutoscaler/chat-gateway", "/spec/minReplicas", json!(1), "one replica"),
        (
            "Job/key-vault-migrate",
            "/spec/template/spec/securityContext/runAsNonRoot",
            json!(false),
            "Job/key-vault-migrate",
        ),
    ]
}

#[tokio::test]
async fn every_planted_mistake_is_seen() {
    let Some((_, sets)) = sets().await else { return };
    let production = &named(&sets, "overlays/production").objects;
    for (object, place, value, word) in mistakes() {
        let mut objects = production.clone();
        let changed = objects.iter_mut().find(|other| title(other) == object).expect("it is there");
        put(changed, place, value);
        assert_ne!(&objects, production, "{object} {place} changes something");
        let seen = broken(&objects);
        assert!(seen.iter().any(|broken| broken.contains(word)), "{object} {place}: {seen:?}");
    }
}

/// Puts a value to a place whose parent is there, or takes out what is there.
fn put(object: &mut Value, place: &str, value: Value) {
    let (parent, name) = place.rsplit_once('/').expect("a place");
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{place} has a parent"));
    let name = name.replace("~1", "/");
    match parent {
        Value::Array(items) => items[name.parse::<usize>().expect("an index")] = value,
        Value::Object(fields) if value.is_null() => drop(fields.remove(&name)),
        Value::Object(fields) => drop(fields.insert(name, value)),
        _ => panic!("{place} is in a list or in an object"),
    }
}
