//! The alerts: that Prometheus takes them, that each fires and stays silent when it should, and
//! that this would be seen.

use std::collections::{BTreeMap, BTreeSet};

use system_tests::prometheus::{Checked, deployed, is_installed, promtool};

use super::file;

const ALERTS: &str = "deploy/observability/alerts.yaml";
const CASES: &str = "deploy/observability/alerts_test.yaml";

/// An alert, as the rules have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Alert {
    /// Its name.
    pub(super) name: String,
    /// Where its page is.
    pub(super) page: String,
    text: String,
}

/// All alerts.
pub(super) fn alerts() -> Vec<Alert> {
    let text = file(ALERTS);
    let alerts = text.split("- alert: ").skip(1);
    let alert = |text: &str| {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
            line.unwrap_or_default().trim().to_owned()
        };
        let name = text.lines().next().unwrap_or_default().trim().to_owned();
        // A folded text has its words on several lines.
        let words: Vec<_> = text.split_whitespace().collect();
        Alert { name, page: value("runbook_url:"), text: words.join(" ") }
    };
    alerts.map(alert).collect()
}

#[test]
fn every_alert_says_whom_it_wakes_and_why() {
    assert!(alerts().len() > 20, "the rules are read");
    for Alert { name, page, text } in alerts() {
        for part in ["severity: ", "acts: ", "summary: ", "description: ", "First look: "] {
            assert!(text.contains(part), "{name} has no {part}");
        }
        let severities = ["critical", "warning"].map(|severity| text.contains(&format!("severity: {severity}")));
        assert!(severities.contains(&true), "{name} is neither critical nor a warning");
        assert_eq!(page, format!("docs/runbooks/{name}.md"));
    }
}

#[test]
fn every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for case in file(CASES).split("- expr: 'ALERTS{alertname=\"").skip(1) {
        let name = case.split('"').next().unwrap_or_default().to_owned();
        let cases = if case.contains("exp_samples: []") { &mut silent } else { &mut fires };
        cases.insert(name);
    }
    let all: BTreeSet<_> = alerts().into_iter().map(|alert| alert.name).collect();
    assert_eq!(fires, all, "fires");
    assert_eq!(silent, all, "stays silent");
}

#[tokio::test]
async fn prometheus_takes_the_rules_and_the_configuration() {
    if !is_installed().await {
        return;
    }
    for check in [["check", "rules", "alerts.yaml"], ["check", "config", "prometheus.yaml"]] {
        let Checked { well, text } = promtool(&check, &deployed(), "").await.expect("promtool runs");
        assert!(well, "{check:?}: {text}");
        assert!(text.contains(&format!("{} rules found", alerts().len())), "{check:?}: {text}");
    }
}

#[tokio::test]
async fn every_case_of_the_alerts_holds() {
    if !is_installed().await {
        return;
    }
    let Checked { well, text } =
        promtool(&["test", "rules", "alerts_test.yaml"], &deployed(), "").await.expect("promtool runs");
    assert!(well, "{text}");
}

/// Each row spoils the rules in one place; the cases of that alert must see it.
#[tokio::test]
async fn a_wrong_rule_is_seen_by_its_cases() {
    if !is_installed().await {
        return;
    }
    let (rules, cases) = (file(ALERTS), file(CASES));
    let planted = [
        ("VaultSealed", "keyvault_sealed{job=\"key-vault\"} == 1", "keyvault_sealed{job=\"key-vault\"} == 0"),
        (
            "ProviderRefusesKey",
            "keyvault_key_cooldown_total{job=\"chat-gateway\"} offset 10m) > 0",
            "keyvault_key_cooldown_total{job=\"chat-gateway\"} offset 10m) > 1",
        ),
        ("ReplicaBehind", "offset 1m)", "offset 0s)"),
        ("SecretsManagerAway", "healthy{job=\"key-vault\"} == 0", "healthy{job=\"vault\"} == 0"),
        ("UsageDropped", "usage_dropped_total{", "usage_droped_total{"),
    ];
    for (name, right, wrong) in planted {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(rules.matches(right).count(), 1, "{right} is in the rules once");
        std::fs::write(folder.path().join("alerts.yaml"), rules.replace(right, wrong)).expect("a file");
        std::fs::write(folder.path().join("cases.yaml"), of(&cases, name)).expect("a file");
        let arguments = ["test", "rules", "cases.yaml"];
        let Checked { well, text } = promtool(&arguments, folder.path(), "").await.expect("promtool runs");
        assert!(!well && text.contains(name), "{wrong} is not seen: {text}");
    }
}

/// The head of the cases, and those whose name begins with an alert's.
fn of(cases: &str, name: &str) -> String {
    let mut blocks = cases.split("\n  - name: '");
    let head = blocks.next().unwrap_or_default().to_owned();
    let chosen = blocks.filter(|block| block.starts_with(name));
    chosen.fold(head, |all, block| all + "\n  - name: '" + block)
}

/// A query of an alert with its comparisons to numbers removed: what they compare.
///
/// The text is in the form in which Prometheus prints it: operators stand between blanks, and no
/// label has one.
pub(super) fn without_comparisons(query: &str) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut words = query.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let compares = ["==", "!=", ">", "<", ">=", "<="].contains(&word);
        let number = words.peek().map(|next| next.trim_end_matches(')'));
        if compares && number.is_some_and(|number| number.parse::<f64>().is_ok()) {
            let next = words.next().unwrap_or_default();
            let brackets = &next[next.trim_end_matches(')').len()..];
            if let Some(last) = kept.last_mut() {
                last.push_str(brackets);
            }
        } else {
            kept.push(word.to_owned());
        }
    }
    kept.join(" ")
}

#[test]
fn comparisons_are_removed_and_nothing_else() {
    let rows = BTreeMap::from([
        ("a{b=\"c\"} == 1", "a{b=\"c\"}"),
        ("(a / b > 0.0144 and c > 1e-05) or d", "(a / b and c) or d"),
        ("count(up{job=\"x\"} == 1) or vector(0)", "count(up{job=\"x\"}) or vector(0)"),
        ("scalar(max(r offset 1m)) - r > 0", "scalar(max(r offset 1m)) - r"),
        ("a == on (b) c", "a == on (b) c"),
    ]);
    for (query, expected) in rows {
        assert_eq!(without_comparisons(query), expected);
    }
}
