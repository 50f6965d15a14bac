//! What `/metrics` shows, against what `docs/observability.md` says of it.

use std::collections::{BTreeMap, BTreeSet};

use super::file;

const DOCUMENT: &str = "docs/observability.md";

/// A metric: its kind, and the labels that its series have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

/// Metrics by their names.
pub(super) type Metrics = BTreeMap<String, Metric>;

/// What the document says that a service has.
pub(super) fn documented(service: &str) -> Metrics {
    let text = file(DOCUMENT);
    let mut metrics = Metrics::new();
    for section in text.split("\n### ") {
        if section.starts_with("Both services\n") || section.starts_with(&format!("{service}\n")) {
            metrics.extend(section.lines().filter_map(row));
        }
    }
    assert!(metrics.len() > 10, "{DOCUMENT} has tables of {service}");
    metrics
}

/// `` | `name` | kind | `label`, `label` | meaning | ``
fn row(line: &str) -> Option<(String, Metric)> {
    let cells: Vec<_> = line.split('|').map(str::trim).collect();
    let [_, name, kind, labels, ..] = cells[..] else { return None };
    let name = name.strip_prefix('`')?.strip_suffix('`')?;
    let labels = labels.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect();
    Some((name.to_owned(), Metric { kind: kind.to_owned(), labels }))
}

/// What the text of `/metrics` has.
pub(super) fn shown(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
            kind.clone_into(&mut metrics.entry(name.to_owned()).or_default().kind);
        } else if let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let name = [Some(name), part].into_iter().flatten().find(|name| metrics.contains_key(*name));
            let name = name.unwrap_or_else(|| panic!("no type before {line}"));
            let labels = names(rest).filter(|label| label != "le");
            metrics.get_mut(name).expect("it is there").labels.extend(labels);
        }
    }
    metrics
}

/// The names in `name="value",name="value"} 1`. Values may have anything but quotes.
fn names(labels: &str) -> impl Iterator<Item = String> {
    let odd = labels.split('"').step_by(2);
    odd.filter_map(|part| part.trim_start_matches(',').strip_suffix('=')).map(ToOwned::to_owned)
}

/// How a service differs from what is said of it.
pub(super) fn differences(service: &str, shown: &Metrics) -> Vec<String> {
    let documented = documented(service);
    let mut all = Vec::new();
    for name in shown.keys().chain(documented.keys()).collect::<BTreeSet<_>>() {
        match (documented.get(name), shown.get(name)) {
            (Some(said), Some(is)) if said != is => {
                all.push(format!("{service}: {name} is said {said:?}, and is {is:?}"));
            }
            (Some(_), None) => all.push(format!("{service}: {name} is in {DOCUMENT} only")),
            (None, Some(is)) => all.push(format!("{service}: {name} is not in {DOCUMENT}: {is:?}")),
            _ => {}
        }
    }
    all
}

#[test]
fn differences_are_found_both_ways() {
    let text = "# HELP up_total x\n# TYPE up_total counter\nup_total{a=\"b c\",d=\"\"} 1\n\
        # TYPE wait_seconds histogram\nwait_seconds_bucket{le=\"1.0\",m=\"x\"} 1\nwait_seconds_sum{m=\"x\"} 2\n";
    let shown = shown(text);
    let labels = |name: &str| shown[name].labels.iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(labels("up_total"), ["a", "d"]);
    assert_eq!((labels("wait_seconds"), shown["wait_seconds"].kind.as_str()), (vec!["m"], "histogram"));
    let differences = differences("key-vault", &shown);
    assert!(differences.iter().any(|line| line.contains("wait_seconds is not in")), "{differences:?}");
    assert!(differences.iter().any(|line| line.contains("keyvault_sealed is in")), "{differences:?}");
}
