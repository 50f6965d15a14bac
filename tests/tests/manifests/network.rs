//! Who reaches whom, as the policies of a set come to for each pod.

use serde_json::Value;

use super::{
    named,
    objects::{find, list, of_kind, pods, selects, text},
    sets,
};

/// What may come in and go out, in words. Order does not matter.
type Ways = Vec<String>;

const DNS: &str = "out to kube-system/k8s-app=kube-dns at 53 UDP, 53";
const PROMETHEUS: &str = "in from monitoring/app.kubernetes.io/name=prometheus at 9101, 9102";

fn vault() -> Vec<&'static str> {
    vec![DNS, PROMETHEUS, "in from app.kubernetes.io/name=chat-gateway, key-vault-administrator=true at 50051"]
}

fn gateway() -> Vec<&'static str> {
    vec![
        DNS,
        PROMETHEUS,
        "in from chat-gateway-caller=true/* at 50052",
        "out to app.kubernetes.io/name=key-vault at 50051",
        "out to 0.0.0.0/0 but 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16, ::/0 but ::1/128 fc00::/7 fe80::/10 at 443",
    ]
}

#[tokio::test]
async fn only_gateways_reach_the_vault_and_only_gateways_leave_the_cluster() {
    let Some((_, sets)) = sets().await else { return };
    let database = "out to postgresql/* at 5432";
    let expected = [
        ("overlays/dev", "Deployment/key-vault", vault()),
        ("overlays/dev", "Deployment/chat-gateway", gateway()),
        ("overlays/production", "Deployment/key-vault", [vault(), vec![database]].concat()),
        ("overlays/production", "Deployment/chat-gateway", gateway()),
        ("overlays/production", "Job/key-vault-migrate", vec![DNS, database]),
    ];
    let mut pods_of_overlays = 0;
    for name in ["overlays/dev", "overlays/production"] {
        pods_of_overlays += pods(&named(&sets, name).objects).len();
    }
    assert_eq!(pods_of_overlays, expected.len(), "each pod is in the table");
    for (set, owner, mut ways) in expected {
        let objects = &named(&sets, set).objects;
        assert!(is_denied(objects), "{set}: what has no line is refused");
        ways.sort_unstable();
        assert_eq!(ways_of(objects, owner), ways, "{set} {owner}");
    }
}

#[tokio::test]
async fn a_policy_that_opens_a_way_is_seen() {
    let Some((_, sets)) = sets().await else { return };
    let objects = &named(&sets, "overlays/production").objects;
    let closed = ways_of(objects, "Deployment/key-vault");
    for (name, place) in
        [("NetworkPolicy/key-vault", "/spec/ingress/0/from"), ("NetworkPolicy/dns", "/spec/egress/0/to")]
    {
        let mut open = objects.clone();
        let policy = open.iter_mut().find(|other| super::objects::title(other) == name).expect("it is there");
        let (rule, field) = place.rsplit_once('/').expect("a place");
        policy.pointer_mut(rule).and_then(Value::as_object_mut).expect("a rule").remove(field);
        let ways = ways_of(&open, "Deployment/key-vault");
        assert_ne!(ways, closed, "{name}");
        assert!(ways.iter().any(|way| way.contains("anyone")), "{ways:?}");
    }
    let open: Vec<_> = objects
        .iter()
        .filter(|object| super::objects::title(object) != "NetworkPolicy/default-deny")
        .cloned()
        .collect();
    assert!(!is_denied(&open));
}

/// Whether all pods are under a policy that lets nothing in or out.
fn is_denied(objects: &[Value]) -> bool {
    let deny = find(objects, "NetworkPolicy/default-deny");
    deny.and_then(|deny| deny.get("spec")).is_some_and(|spec| {
        spec.get("podSelector").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
            && list(spec, "/policyTypes").len() == 2
            && spec.get("ingress").is_none()
            && spec.get("egress").is_none()
    })
}

/// All ways of the pods of an owner.
fn ways_of(objects: &[Value], owner: &str) -> Ways {
    let pods = pods(objects);
    let pod = pods.iter().find(|pod| pod.of == owner).expect("it is there");
    let mut ways = Ways::new();
    for policy in of_kind(objects, "NetworkPolicy") {
        if !selects(&policy["spec"]["podSelector"], pod.labels) {
            continue;
        }
        for (rules, peers, word) in [("/spec/ingress", "from", "in from"), ("/spec/egress", "to", "out to")] {
            for rule in list(policy, rules) {
                ways.push(format!("{word} {} at {}", all(rule.get(peers), peer), all(rule.get("ports"), port)));
            }
        }
    }
    ways.sort_unstable();
    ways
}

/// A list in words. One that is missing or empty means everything.
fn all(list: Option<&Value>, word: fn(&Value) -> String) -> String {
    let words: Vec<_> = list.and_then(Value::as_array).into_iter().flatten().map(word).collect();
    if words.is_empty() { "anyone".to_owned() } else { words.join(", ") }
}

fn port(port: &Value) -> String {
    let number = port.get("port").map_or_else(|| "anyone".into(), ToString::to_string);
    if text(port, "/protocol") == "TCP" { number } else { format!("{number} {}", text(port, "/protocol")) }
}

fn peer(peer: &Value) -> String {
    if let Some(block) = peer.get("ipBlock") {
        let except: Vec<_> = list(block, "/except").iter().filter_map(Value::as_str).collect();
        return format!("{} but {}", text(block, "/cidr"), except.join(" "));
    }
    let selected = |selector: &Value| {
        let labels = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
        let words: Vec<_> =
            labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        if words.is_empty() { "*".to_owned() } else { words.join("&") }
    };
    let pods = peer.get("podSelector").map_or_else(|| "*".to_owned(), selected);
    match peer.get("namespaceSelector").map(selected) {
        Some(namespace) => format!("{}/{pods}", namespace.trim_start_matches("kubernetes.io/metadata.name=")),
        None => pods,
    }
}
