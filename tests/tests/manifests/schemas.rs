//! Every object is valid for three versions of Kubernetes, with no field that is unknown.

use std::{ffi::OsString, fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    objects::{text, title},
    sets,
    tools::{Said, Tools, run},
};

/// Kinds of others, whose schemas Kubernetes does not have.
const FOREIGN: &[(&str, &str)] = &[("cert-manager.io/v1", "Certificate"), ("cert-manager.io/v1", "Issuer")];

#[tokio::test]
async fn every_object_is_valid_for_three_versions_of_kubernetes() {
    let Some((tools, sets)) = sets().await else { return };
    let folder = TempDir::new().expect("a folder");
    let mut objects = 0;
    for set in &sets {
        let own: Vec<_> = set.objects.iter().filter(|object| !is_foreign(object)).collect();
        objects += own.len();
        write(folder.path(), &set.name.replace('/', "-"), &own);
    }

    let versions = versions(&tools).await;
    assert_eq!(versions.len(), 3);
    for version in &versions {
        let said = validate(folder.path(), version).await;
        assert!(said.well, "{version}: {}{}", said.output, said.errors);
        assert!(!said.output.contains("WARN"), "without a schema: {}", said.output);
        assert_eq!(said.output.matches(" passed ").count(), objects, "{version}: {}", said.output);
    }
    println!("{objects} objects are valid for {}", versions.join(", "));
}

#[tokio::test]
async fn a_field_that_is_unknown_or_of_another_type_is_seen() {
    let Some((tools, sets)) = sets().await else { return };
    let planted: [(&str, &str, Value); 3] = [
        ("/spec/template/spec", "enableServiceLink", json!(false)),
        ("/spec/template/spec", "terminationGracePeriodSeconds", json!("50 s")),
        ("/spec/strategy/rollingUpdate", "maxUnavailabel", json!(0)),
    ];
    let deployment = super::objects::find(&super::named(&sets, "overlays/production").objects, "Deployment/key-vault");
    for (place, field, value) in planted {
        let mut deployment = deployment.expect("it is there").clone();
        deployment.pointer_mut(place).expect("a place")[field] = value;
        let folder = TempDir::new().expect("a folder");
        write(folder.path(), "planted", &[&deployment]);
        for version in versions(&tools).await {
            let said = validate(folder.path(), &version).await;
            assert!(!said.well, "{field} is not seen by {version}: {}", said.output);
        }
    }
}

async fn versions(tools: &Tools) -> Vec<String> {
    tools.python(["versions"]).await.well().split_whitespace().map(ToOwned::to_owned).collect()
}

async fn validate(folder: &Path, version: &str) -> Said {
    let files = fs::read_dir(folder).expect("files").map(|file| file.expect("a file").path().into_os_string());
    let options = ["--strict", "--kubernetes-version", version].map(OsString::from);
    run("kubernetes-validate", options.into_iter().chain(files)).await
}

fn is_foreign(object: &Value) -> bool {
    let kind = (text(object, "/apiVersion"), text(object, "/kind"));
    // Only the kinds by name, so that a misspelt version or kind is no way around.
    let foreign = FOREIGN.contains(&kind);
    assert!(foreign || !kind.0.contains("cert-manager"), "{} of {}", title(object), kind.0);
    foreign
}

/// Writes objects to a file. JSON is YAML.
fn write(folder: &Path, name: &str, objects: &[&Value]) {
    let documents: Vec<_> = objects.iter().map(ToString::to_string).collect();
    fs::write(folder.join(format!("{name}.yaml")), documents.join("\n---\n")).expect("it is written");
}
