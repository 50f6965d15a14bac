//! Secrets: what pods mount is what the document lists, what arguments read is in them, and the
//! certificates that are made by hand are as those of cert-manager.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;
use system_tests::skip_without;
use tempfile::TempDir;

use super::{
    at, file, named,
    objects::{Pod, containers, list, of_kind, pods, text},
    sets,
    tools::{find, run},
};

/// Secrets by name, each with its keys.
type Secrets = BTreeMap<String, BTreeSet<String>>;

const DOCUMENT: &str = "deploy/kubernetes/README.md";
const SCRIPT: &str = "deploy/kubernetes/make-certificates";

/// The table of the document.
fn documented() -> Secrets {
    let document = file(DOCUMENT);
    let rows =
        document.lines().filter_map(|line| line.strip_prefix("| `")).filter(|line| line.matches('|').count() == 3);
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect();
    rows.filter_map(|row| {
        let (name, rest) = row.split_once('`')?;
        Some((name.to_owned(), quoted(rest.split('|').nth(1)?)))
    })
    .collect()
}

/// What a pod mounts: secrets and where.
fn mounted<'a>(pod: &Pod<'a>) -> Vec<(&'a str, &'a str)> {
    let mounts: Vec<_> = containers(pod).into_iter().flat_map(|container| list(container, "/volumeMounts")).collect();
    let mut found = Vec::new();
    for volume in list(pod.spec, "/volumes") {
        let of = |mount: &&&Value| text(mount, "/name") == text(volume, "/name");
        let secret = text(volume, "/secret/secretName");
        if !secret.is_empty() {
            found.extend(mounts.iter().filter(of).map(|mount| (secret, text(mount, "/mountPath"))));
        }
    }
    found
}

#[tokio::test]
async fn every_secret_that_is_mounted_is_documented_with_the_keys_that_are_read() {
    let Some((_, sets)) = sets().await else { return };
    let documented = documented();
    let mut used = BTreeSet::new();
    for name in ["overlays/dev", "overlays/production"] {
        for pod in pods(&named(&sets, name).objects) {
            for (secret, place) in mounted(&pod) {
                let keys = documented.get(secret).unwrap_or_else(|| panic!("{secret} is not in {DOCUMENT}"));
                used.insert(secret);
                let read = read_below(&pod, place);
                assert!(!read.is_empty(), "{name} {}: nothing reads {secret}", pod.of);
                for key in read {
                    assert!(keys.contains(key), "{name} {}: {secret} has no {key}", pod.of);
                }
            }
        }
    }
    // Two are there for people and for cert-manager.
    let unused: Vec<_> = documented.keys().filter(|name| !used.contains(name.as_str())).collect();
    assert_eq!(unused, ["identities-authority", "key-vault-administrator"]);
}

/// The files of a folder that the arguments of a pod name.
fn read_below<'a>(pod: &Pod<'a>, folder: &str) -> Vec<&'a str> {
    let arguments =
        containers(pod).into_iter().flat_map(|container| list(container, "/args")).filter_map(Value::as_str);
    let paths = arguments.filter_map(|argument| argument.split_once('=')).map(|(_, path)| path);
    paths.filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/')).collect()
}

#[tokio::test]
async fn every_path_that_is_read_is_mounted() {
    let Some((_, sets)) = sets().await else { return };
    for set in &sets {
        for pod in pods(&set.objects) {
            for container in containers(&pod) {
                let places: Vec<_> =
                    list(container, "/volumeMounts").iter().map(|mount| text(mount, "/mountPath")).collect();
                let arguments = list(container, "/args")
                    .iter()
                    .chain(list(container, "/env").iter().filter_map(|env| env.get("value")));
                for argument in arguments.filter_map(Value::as_str) {
                    let path =
                        argument.split_once('=').map_or(argument, |(_, value)| value).trim_start_matches("sqlite:");
                    if !path.starts_with('/') {
                        continue;
                    }
                    let within = Path::new(path).parent().expect("a folder");
                    assert!(
                        places.iter().any(|place| Path::new(place) == within),
                        "{} {}: {argument}",
                        set.name,
                        pod.of
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn certificates_made_by_hand_are_as_those_of_cert_manager() {
    let Some((_, sets)) = sets().await else { return };
    if find("openssl").is_none() {
        return skip_without("openssl");
    }
    let folder = TempDir::new().expect("a folder");
    let at_folder = |path: &str| folder.path().join(path).into_os_string();
    run(at(SCRIPT), [folder.path().as_os_str(), "archestra".as_ref()]).await.well();

    let production = &named(&sets, "overlays/production").objects;
    for certificate in of_kind(production, "Certificate").filter(|it| it.pointer("/spec/isCA").is_none()) {
        let secret = text(certificate, "/spec/secretName");
        let path = |name: &str| at_folder(&format!("{secret}/{name}"));
        run("openssl", ["verify".into(), "-CAfile".into(), path("ca.crt"), path("tls.crt")]).await.well();

        let shown = run(
            "openssl",
            [
                "x509".into(),
                "-noout".into(),
                "-ext".into(),
                "subjectAltName,keyUsage,extendedKeyUsage".into(),
                "-in".into(),
                path("tls.crt"),
            ],
        );
        let shown = shown.await.well();
        let line = shown.lines().find(|line| line.contains("URI:") || line.contains("DNS:")).expect("names");
        let names = line.split(',').map(str::trim).map(ToOwned::to_owned).collect::<BTreeSet<_>>();
        let of = |place, prefix: &'static str| {
            list(certificate, place).iter().filter_map(Value::as_str).map(move |name| format!("{prefix}:{name}"))
        };
        assert_eq!(
            names,
            of("/spec/uris", "URI").chain(of("/spec/dnsNames", "DNS")).collect::<BTreeSet<_>>(),
            "{secret}"
        );
        let usages: Vec<_> = list(certificate, "/spec/usages").iter().filter_map(Value::as_str).collect();
        assert_eq!(
            usages.contains(&"server auth"),
            shown.contains("TLS Web Server Authentication"),
            "{secret}: {shown}"
        );
        assert_eq!(
            usages.contains(&"client auth"),
            shown.contains("TLS Web Client Authentication"),
            "{secret}: {shown}"
        );
    }
    // The authority signs again.
    let authority = || std::fs::read(folder.path().join("authority/tls.crt")).expect("a certificate");
    let before = authority();
    run(at(SCRIPT), [folder.path().as_os_str(), "archestra".as_ref()]).await.well();
    assert_eq!(before, authority());
}

#[test]
fn no_secret_is_in_what_is_deployed() {
    /// How what is secret begins, or is named.
    const SECRET: &[&str] =
        &["-----BEGIN", "kind: Secret", "stringData", "secretGenerator", "secretKeyRef", "secretRef"];
    let mut folders = vec![at("deploy/kubernetes"), at("deploy/helm")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).expect("a text");
            let found: Vec<_> = SECRET.iter().filter(|word| text.contains(**word)).collect();
            assert!(found.is_empty(), "{}: {found:?}", path.display());
        }
    }
    assert!(files > 20, "{files} files are read");
}
