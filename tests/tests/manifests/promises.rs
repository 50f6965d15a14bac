//! What the overlays promise beside the rules for all: counts, kinds, budgets, identities.

use serde_json::{Value, json};

use super::{
    file, named,
    objects::{find, list, of_kind, text},
    sets,
};

#[tokio::test]
async fn production_has_three_vaults_behind_a_name_and_gateways_that_grow() {
    let Some((_, sets)) = sets().await else { return };
    let objects = &named(&sets, "overlays/production").objects;
    let expected = [
        ("Deployment/key-vault", "/spec/replicas", json!(3)),
        (
            "Deployment/key-vault",
            "/spec/template/spec/topologySpreadConstraints/0/whenUnsatisfiable",
            json!("DoNotSchedule"),
        ),
        ("Service/key-vault", "/spec/clusterIP", json!("None")),
        ("Service/key-vault", "/spec/ports/0/port", json!(50051)),
        ("Service/chat-gateway", "/spec/ports/0/port", json!(50052)),
        ("HorizontalPodAutoscaler/chat-gateway", "/spec/minReplicas", json!(2)),
        ("PodDisruptionBudget/key-vault", "/spec/maxUnavailable", json!(1)),
        ("PodDisruptionBudget/chat-gateway", "/spec/maxUnavailable", json!(1)),
        ("Job/key-vault-migrate", "/spec/template/spec/restartPolicy", json!("Never")),
    ];
    for (object, place, value) in expected {
        let found = find(objects, object).unwrap_or_else(|| panic!("{object}")).pointer(place);
        assert_eq!(found, Some(&value), "{object} {place}");
    }
}

#[tokio::test]
async fn dev_has_one_of_each_and_a_volume() {
    let Some((_, sets)) = sets().await else { return };
    let objects = &named(&sets, "overlays/dev").objects;
    for (object, place, value) in [
        ("Deployment/key-vault", "/spec/replicas", json!(1)),
        ("Deployment/key-vault", "/spec/strategy", json!({"type": "Recreate"})),
        ("Deployment/chat-gateway", "/spec/replicas", json!(1)),
        ("PersistentVolumeClaim/key-vault-data", "/spec/accessModes", json!(["ReadWriteOnce"])),
    ] {
        let found = find(objects, object).unwrap_or_else(|| panic!("{object}")).pointer(place);
        assert_eq!(found, Some(&value), "{object} {place}");
    }
}

#[tokio::test]
async fn both_namespaces_hold_their_pods_to_the_restricted_standard() {
    let Some((_, sets)) = sets().await else { return };
    for name in ["overlays/dev", "overlays/production"] {
        let objects = &named(&sets, name).objects;
        let namespace = of_kind(objects, "Namespace").next().expect("a namespace");
        for mode in ["enforce", "audit", "warn"] {
            let level = text(namespace, &format!("/metadata/labels/pod-security.kubernetes.io~1{mode}"));
            assert_eq!(level, "restricted", "{name} {mode}");
        }
        let own = text(namespace, "/metadata/name");
        let mut others = objects.iter().filter(|object| text(object, "/kind") != "Namespace");
        assert!(others.all(|object| text(object, "/metadata/namespace") == own), "{name}: all are in it");
    }
}

#[tokio::test]
async fn each_certificate_has_the_one_name_that_the_policies_know() {
    let Some((_, sets)) = sets().await else { return };
    let objects = &named(&sets, "overlays/production").objects;
    let mut identities = Vec::new();
    for certificate in of_kind(objects, "Certificate") {
        let uris = list(certificate, "/spec/uris");
        let names = list(certificate, "/spec/dnsNames");
        assert!(uris.len() <= 1, "exactly one makes an identity");
        assert!(uris.is_empty() || names.is_empty(), "{certificate}");
        identities.extend(uris.iter().filter_map(Value::as_str));
    }
    let policy = file("deploy/kubernetes/overlays/production/policies/key-vault.json");
    let policy: Value = serde_json::from_str(&policy).expect("JSON");
    let mut known: Vec<_> = list(&policy, "/principals")
        .iter()
        .flat_map(|principal| list(principal, "/uri_sans"))
        .filter_map(Value::as_str)
        .collect();
    identities.sort_unstable();
    known.sort_unstable();
    assert_eq!(identities, known);

    let gateway = find(objects, "Deployment/chat-gateway").expect("it is there");
    let container = &list(gateway, "/spec/template/spec/containers")[0];
    let url = super::objects::option(container, "--vault-url").expect("it asks a vault");
    let host = url.strip_prefix("https://").and_then(|rest| rest.split(':').next()).expect("https");
    let server = find(objects, "Certificate/key-vault-tls").expect("it is there");
    assert!(list(server, "/spec/dnsNames").contains(&json!(host)), "{host}");
}

#[test]
fn the_policies_are_ones_that_the_services_take() {
    for overlay in ["dev", "production"] {
        let policy = |service: &str| {
            let path = super::at(&format!("deploy/kubernetes/overlays/{overlay}/policies/{service}.json"));
            let schema: Value = serde_json::from_str(&file(&format!("{service}/policy.schema.json"))).expect("JSON");
            let policy: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("a policy")).expect("JSON");
            let roles = schema.pointer("/$defs/Role").expect("roles are described").to_string();
            for role in list(&policy, "/principals").iter().flat_map(|principal| list(principal, "/roles")) {
                assert!(roles.contains(&format!("\"{}\"", text(role, "/role"))), "{overlay} {service}: {role}");
            }
        };
        policy("key-vault");
        policy("chat-gateway");
    }
}
