//! Mistakes that are planted into the production overlay, each of which must be seen.

use serde_json::{Value, json};

use super::broken;
use crate::{named, objects::title, sets};

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// A mistake of the vault: the place, what comes there (null takes it out), and a word of what
/// must be said.
type OfTheVault = (&'static str, Value, &'static str);

/// The same, of the object that it names.
type Mistake = (&'static str, &'static str, Value, &'static str);

fn in_its_pod() -> Vec<OfTheVault> {
    vec![
        ("/automountServiceAccountToken", json!(true), "automountServiceAccountToken"),
        ("/enableServiceLinks", json!(null), "enableServiceLinks"),
        ("/hostNetwork", json!(true), "hostNetwork"),
        ("/securityContext/runAsNonRoot", json!(null), "runAsNonRoot"),
        ("/securityContext/runAsUser", json!(0), "runAsUser"),
        ("/securityContext/seccompProfile", json!({"type": "Unconfined"}), "seccompProfile"),
        ("/terminationGracePeriodSeconds", json!(49), "grace"),
        ("/volumes/0/secret/defaultMode", json!(420), "group alone"),
        ("/volumes/0", json!({"name": "database", "hostPath": {"path": "/"}}), "another kind"),
        ("/serviceAccountName", json!("chat-gateway"), "account of two"),
        ("/serviceAccountName", json!("default"), "ServiceAccount/default"),
    ]
}

fn in_its_container() -> Vec<OfTheVault> {
    let secret = json!({"secretKeyRef": {"name": "key-vault-database", "key": "url"}});
    vec![
        ("/args/3", json!("--drain-delay-seconds=6"), "grace"),
        ("/args/2", json!("--probe-listen=127.0.0.1:9101"), "--probe-listen"),
        ("/args/0", json!("--database-url=postgres://a:b@c/d"), "database"),
        ("/image", json!("key-vault"), "version"),
        ("/image", json!("key-vault:latest"), "version"),
        ("/readinessProbe", json!(null), "readinessProbe"),
        ("/livenessProbe/httpGet/path", json!("/readyz"), "livenessProbe"),
        ("/resources/limits", json!(null), "limits/memory"),
        ("/securityContext/capabilities", json!({"drop": ["ALL"], "add": ["SYS_PTRACE"]}), "capabilities"),
        ("/securityContext/privileged", json!(true), "privileged"),
        ("/securityContext/runAsUser", json!(0), "runAsUser is set"),
        ("/securityContext/readOnlyRootFilesystem", json!(false), "readOnlyRootFilesystem"),
        ("/securityContext/allowPrivilegeEscalation", json!(null), "allowPrivilegeEscalation"),
        ("/env", json!([{"name": "KEY_VAULT_DATABASE_URL", "valueFrom": secret}]), "names no file"),
        ("/env", json!([{"name": "ARCHESTRA_CHAT_OPENAI_API_KEY", "value": "sk"}]), "names no file"),
        ("/envFrom", json!([{"secretRef": {"name": "key-vault-database"}}]), "variables"),
        ("/volumeMounts/0/subPath", json!("url"), "subPath"),
        ("/volumeMounts/0/readOnly", json!(null), "read only"),
        ("/volumeMounts/0/name", json!("data"), "no volume"),
    ]
}

fn elsewhere() -> Vec<Mistake> {
    let (vault, gateway, scaler) =
        ("Deployment/key-vault", "Deployment/chat-gateway", "HorizontalPodAutoscaler/chat-gateway");
    let (service, budget) = ("Service/key-vault", "PodDisruptionBudget/key-vault");
    let spread = "/spec/template/spec/topologySpreadConstraints/0/labelSelector/matchLabels";
    vec![
        (vault, "/spec/template/metadata/labels/app.kubernetes.io~1name", json!("chat-gateway"), "owners"),
        (vault, "/spec/strategy/rollingUpdate/maxUnavailable", json!(1), "rollout"),
        (vault, "/spec/strategy", json!({"type": "Recreate"}), "rollout"),
        (gateway, "/spec/replicas", json!(2), "each apply"),
        (gateway, spread, json!({"app.kubernetes.io/name": "key-vault"}), "spread by"),
        ("ServiceAccount/chat-gateway", "/automountServiceAccountToken", json!(true), "ServiceAccount/chat-gateway"),
        (service, "/spec/ports/0/port", json!(50052), "no container has its port"),
        (service, "/spec/selector", json!({"app.kubernetes.io/part-of": "archestra"}), "owners"),
        ("ConfigMap/key-vault-policy", "/metadata/name", json!("policy-8f7h"), "ConfigMap/key-vault-policy"),
        (budget, "/spec/maxUnavailable", json!(0), "one at a time"),
        (budget, "/spec/selector/matchLabels", json!({"app": "key-vault"}), "owners"),
        (scaler, "/spec/scaleTargetRef/name", json!("gateway"), "is not there"),
        (scaler, "/spec/minReplicas", json!(1), "one replica"),
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
    let of_the_vault = |below: &'static str| {
        move |(place, value, word): OfTheVault| ("Deployment/key-vault", format!("{below}{place}"), value, word)
    };
    let in_pods = in_its_pod().into_iter().map(of_the_vault(POD));
    let in_containers = in_its_container().into_iter().map(of_the_vault(CONTAINER));
    let others = elsewhere().into_iter().map(|(object, place, value, word)| (object, place.to_owned(), value, word));
    for (object, place, value, word) in in_pods.chain(in_containers).chain(others) {
        let mut objects = production.clone();
        let changed = objects.iter_mut().find(|other| title(other) == object).expect("it is there");
        put(changed, &place, value);
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
