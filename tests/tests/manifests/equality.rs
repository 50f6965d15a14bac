//! The chart comes to what the overlays come to, object by object.

use serde_json::{Map, Value, json};

use super::{
    CHART, at, named,
    objects::{find, text, title},
    sets,
    tools::Said,
};

/// What only an object of the chart has: whose it is. And what Helm alone needs to know.
const LABELS: &[&str] = &["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"];
const ANNOTATIONS: &[(&str, &[&str])] = &[
    ("Job/key-vault-migrate", &["helm.sh/hook", "helm.sh/hook-weight", "helm.sh/hook-delete-policy"]),
    ("ServiceAccount/key-vault-migrate", &["helm.sh/hook", "helm.sh/hook-weight", "helm.sh/hook-delete-policy"]),
    ("PersistentVolumeClaim/key-vault-data", &["helm.sh/resource-policy"]),
];

/// What only an overlay has: Helm installs into a namespace that is there.
const NOT_OF_THE_CHART: &str = "Namespace";

#[tokio::test]
async fn the_chart_and_the_overlays_are_equal_for_equal_values() {
    let Some((_, sets)) = sets().await else { return };
    for name in ["dev", "production"] {
        let chart = &named(&sets, &format!("chart/{name}")).objects;
        let overlay = &named(&sets, &format!("overlays/{name}")).objects;
        let differences = differences(chart, overlay);
        assert!(differences.is_empty(), "{name}:\n{}", differences.join("\n"));
        println!("{name}: {} objects are equal", chart.len());
    }
}

#[tokio::test]
async fn a_difference_is_seen() {
    let Some((_, sets)) = sets().await else { return };
    let overlay = &named(&sets, "overlays/production").objects;
    let planted: [(&str, &str, Value); 4] = [
        ("Deployment/key-vault", "/spec/replicas", json!(2)),
        ("Deployment/chat-gateway", "/spec/template/spec/containers/0/args/3", json!("--drain-delay-seconds=6")),
        ("ConfigMap/key-vault-policy", "/data/policy.json", json!("{\"principals\": []}")),
        ("Service/key-vault", "/metadata/annotations", json!({"helm.sh/hook": "pre-install"})),
    ];
    for (object, pointer, value) in planted {
        let mut chart = named(&sets, "chart/production").objects.clone();
        let changed = chart.iter_mut().find(|other| title(other) == object).expect("it is there");
        match changed.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => changed["metadata"]["annotations"] = value,
        }
        let seen = differences(&chart, overlay);
        assert!(matches!(&seen[..], [one] if one.contains(object)), "{object} {pointer}: {seen:?}");
    }
    let fewer: Vec<_> =
        overlay.iter().filter(|object| title(object) != "NetworkPolicy/default-deny").cloned().collect();
    assert_eq!(differences(&fewer, overlay), ["NetworkPolicy/default-deny is only in the overlay"]);
}

#[tokio::test]
async fn the_chart_has_nothing_to_warn_of() {
    /// Severity 1 is information: that there is no icon.
    const INFORMATION: &str = "1 ";
    let Some((tools, _)) = sets().await else { return };
    for values in
        ["deploy/helm/values-dev.yaml", "deploy/helm/values-production.yaml", "tests/tests/manifests/every-value.yaml"]
    {
        let said = tools.python(["lint".into(), at(CHART), at(values)]).await.well();
        let worse: Vec<_> = said.lines().filter(|line| !line.starts_with(INFORMATION)).collect();
        assert!(worse.is_empty(), "{values}: {worse:?}");
    }
}

#[tokio::test]
async fn values_that_make_no_sense_are_refused() {
    let Some((tools, _)) = sets().await else { return };
    let folder = tempfile::TempDir::new().expect("a folder");
    for (values, word) in [
        ("keyVault: { replica: 2 }", "replica"),
        ("keyVault: { database: { kind: mysql } }", "kind"),
        ("keyVault: { replicas: 3, database: { kind: sqlite } }", "SQLite has one writer"),
        ("networkPolicies: { gatewayCallers: [{}] }", "gatewayCallers"),
        ("chatGateway: { policy: { principals: [{ name: a }] } }", "roles"),
        ("images: { keyVault: { digest: latest } }", "digest"),
    ] {
        let path = folder.path().join("values.yaml");
        std::fs::write(&path, values).expect("it is written");
        let Said { well, errors, .. } = tools.python(["render".into(), at(CHART), path, "archestra".into()]).await;
        assert!(!well && errors.contains(word), "{values}: {errors}");
    }
}

/// What differs, beside what is named above.
fn differences(chart: &[Value], overlay: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for object in chart {
        let title = title(object);
        match find(overlay, &title) {
            None => found.push(format!("{title} is only in the chart")),
            Some(other) => compare(&title, &without_helm(object), other, &mut found),
        }
    }
    let left = overlay.iter().filter(|object| text(object, "/kind") != NOT_OF_THE_CHART).map(title);
    found.extend(
        left.filter(|title| find(chart, title).is_none()).map(|title| format!("{title} is only in the overlay")),
    );
    found
}

/// Without what only Helm knows.
fn without_helm(object: &Value) -> Value {
    let title = title(object);
    let mut object = object.clone();
    let mut remove = |within: &str, names: &[&str]| {
        let Some(Value::Object(values)) = object["metadata"].get_mut(within) else { return };
        values.retain(|name, _| !names.contains(&name.as_str()));
        let is_empty = values.is_empty();
        if let Some(metadata) = object["metadata"].as_object_mut().filter(|_| is_empty) {
            metadata.remove(within);
        }
    };
    remove("labels", LABELS);
    for (_, names) in ANNOTATIONS.iter().filter(|(of, _)| *of == title) {
        remove("annotations", names);
    }
    object
}

fn compare(path: &str, chart: &Value, overlay: &Value, found: &mut Vec<String>) {
    match (chart, overlay) {
        (Value::Object(chart), Value::Object(overlay)) => compare_fields(path, chart, overlay, found),
        (Value::Array(chart), Value::Array(overlay)) if chart.len() == overlay.len() => {
            for (index, (chart, overlay)) in chart.iter().zip(overlay).enumerate() {
                compare(&format!("{path}/{index}"), chart, overlay, found);
            }
        }
        // A policy is JSON in a text.
        (Value::String(chart), Value::String(overlay)) if path.ends_with(".json") => {
            let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
            if parsed(chart) != parsed(overlay) {
                found.push(format!("{path}: {chart} and {overlay}"));
            }
        }
        _ if chart == overlay => {}
        _ => found.push(format!("{path}: {chart} and {overlay}")),
    }
}

fn compare_fields(path: &str, chart: &Map<String, Value>, overlay: &Map<String, Value>, found: &mut Vec<String>) {
    for (name, value) in chart {
        match overlay.get(name) {
            Some(other) => compare(&format!("{path}/{name}"), value, other, found),
            None => found.push(format!("{path}/{name} is only in the chart: {value}")),
        }
    }
    for (name, value) in overlay.iter().filter(|(name, _)| !chart.contains_key(*name)) {
        found.push(format!("{path}/{name} is only in the overlay: {value}"));
    }
}
