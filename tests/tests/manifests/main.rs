//! The manifests and the chart: they are valid, equal, safe, and what their documents say.
//!
//! The tools are packages of Python. Those that are libraries are asked by `chart.py`, with the
//! Python that `kubernetes-validate` is installed beside.

mod equality;
mod network;
mod objects;
mod promises;
mod rules;
mod scanners;
mod schemas;
mod secrets;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use objects::parse;
use tools::{Said, Tools, run};

const CHART: &str = "deploy/helm/archestra";

/// What is deployed: an overlay, or the chart with some values.
#[derive(Debug)]
struct Set {
    name: &'static str,
    objects: Vec<Value>,
}

/// Everything that is rendered, or nothing where the tools are missing.
async fn sets() -> Option<(Tools, Vec<Set>)> {
    let tools = Tools::find().await?;
    let overlay = |name| {
        let folder = at(&format!("deploy/kubernetes/overlays/{name}"));
        run("kubectl", ["kustomize".into(), folder])
    };
    let chart =
        |values, namespace: &str| tools.python(["render".into(), at(CHART), at(values), PathBuf::from(namespace)]);
    let rendered = [
        ("overlays/dev", overlay("dev").await),
        ("overlays/production", overlay("production").await),
        ("chart/dev", chart("deploy/helm/values-dev.yaml", "archestra-dev").await),
        ("chart/production", chart("deploy/helm/values-production.yaml", "archestra").await),
        ("chart/every-value", chart("tests/tests/manifests/every-value.yaml", "elsewhere").await),
    ];
    let set = |(name, said): (&'static str, Said)| Set { name, objects: parse(&said.well()) };
    let sets = rendered.into_iter().map(set).collect();
    Some((tools, sets))
}

/// A place in the repository.
fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file of the repository.
fn file(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The set of that name.
fn named<'a>(sets: &'a [Set], name: &str) -> &'a Set {
    sets.iter().find(|set| set.name == name).unwrap_or_else(|| panic!("{name} is rendered"))
}
