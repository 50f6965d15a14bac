//! A vault becomes as a file says, and stays so.

use std::path::{Path, PathBuf};

use proto::{
    keyvault::{ResolveKeyRequest, key_resolution_service_client::KeyResolutionServiceClient},
    types::Provider,
};
use system_tests::{ORGANIZATION, command};

use super::{Desk, organization, text};

#[tokio::test]
async fn the_example_applies_and_the_second_time_changes_nothing() {
    let desk = Desk::start().await;
    for name in ["research-anthropic", "support-openai", "trial-gemini"] {
        desk.file(name, &format!("sk-of-{name}-0123456789\n"));
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/keys.yaml");
    let apply = async || {
        let folder = text(desk.folder.path());
        let mut child = command("key-vault");
        child.args([
            "apply",
            "--yes",
            "-f",
            text(&example),
            "--material-folder",
            folder,
            "--server",
            &desk.vault.url(),
        ]);
        let output = child.env("ACME_ANTHROPIC_KEY", "sk-ant-shared-0123456789abc").output().await.expect("it runs");
        let shown = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{shown}");
        shown
    };

    let first = apply().await;

    assert!(first.contains("made 6 changes: 4 create, 2 forbid"), "{first}");
    assert!(!first.contains("sk-"), "no key is shown: {first}");
    let keys = desk.listed().await;
    let states: Vec<_> = keys.iter().map(|key| (key["display_name"].clone(), key["state"].clone())).collect();
    assert!(states.contains(&("Trial".into(), "STATE_DISABLED".into())), "{states:?}");
    assert_eq!(keys.len(), 4, "{keys:?}");
    let explained = desk.run(&["explain", "--profile", "support", "--provider", "anthropic"]).await;
    assert!(explained.out.contains("forbidden"), "{explained:?}");
    assert_eq!(resolved(&desk, Some("research"), Provider::Anthropic).await, "sk-of-research-anthropic-0123456789");

    let revision = desk.revision().await;
    let second = apply().await;
    assert!(second.contains("0 changes"), "{second}");
    assert_eq!(desk.revision().await, revision);
    let diff = desk.diff(&example).await;
    assert_eq!((diff.code, diff.out.as_str(), diff.err.as_str()), (0, "", ""));
}

#[tokio::test]
async fn a_drift_is_shown_by_diff_and_ended_by_apply() {
    let (desk, file) = research().await;
    let id = desk.id_of("Research").await;
    for change in [
        &["profiles", "unassign", "--key", &id, "a"][..],
        &["profiles", "assign", "--key", &id, "c"],
        &["defaults", "set", &id],
        &["policy", "set", "--environment", "forbid"],
    ] {
        let ran = desk.run(change).await;
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let revision = desk.revision().await;

    let diff = desk.diff(&file).await;

    assert_eq!((diff.code, diff.err.as_str()), (6, ""), "{diff:?}");
    for expected in [
        "profiles: has b, c, the file says a, b",
        "default: is, the file says it is not",
        "environment forbid, the file says organization_default allow, environment allow",
    ] {
        assert!(diff.out.contains(expected), "{expected}: {}", diff.out);
    }
    let for_programs = desk.run(&["apply", "--dry-run", "--output", "json", "-f", text(&file)]).await;
    let plan: serde_json::Value = serde_json::from_str(&for_programs.out).expect("JSON");
    let actions: Vec<_> = plan["changes"].as_array().expect("changes").iter().map(|change| &change["action"]).collect();
    assert_eq!(for_programs.code, 6);
    assert_eq!(actions, ["assign", "unassign", "clear default", "allow"]);
    assert_eq!(plan["changes"][0]["api_key_id"], id.as_str());
    assert_eq!(desk.revision().await, revision, "looking changes nothing");

    desk.apply(&file, &[]).await;
    assert_eq!(desk.diff(&file).await.code, 0);
}

#[tokio::test]
async fn a_version_that_is_one_higher_rotates_and_one_that_is_not_next_is_refused() {
    let (desk, _) = research().await;
    desk.file("key", "sk-second-0123456789abcdef");
    let declared = |version| {
        let key = "  - {provider: openai, name: Research, profiles: [a, b], material: {file: key}, version: VERSION}\n";
        desk.file("keys.yaml", &organization(&key.replace("VERSION", version)))
    };

    desk.apply(&declared("2"), &["--keep-previous-for", "0"]).await;

    assert_eq!(resolved(&desk, Some("a"), Provider::Openai).await, "sk-second-0123456789abcdef");
    let key = &desk.listed().await[0];
    assert_eq!((&key["version"], &key["previous_version"]), (&"2".into(), &"0".into()), "{key}");
    assert_eq!(desk.diff(&declared("2")).await.code, 0);
    for version in ["1", "4"] {
        let ran = desk.run(&["apply", "--yes", "-f", text(&declared(version))]).await;
        assert_eq!(ran.code, 4, "{ran:?}");
        assert!(ran.err.contains("keys.yaml:4:") && ran.err.contains("write 2, or 3 to rotate it"), "{ran:?}");
    }
}

#[tokio::test]
async fn profiles_that_change_places_are_never_without_a_key_of_their_own() {
    let desk = Desk::start().await;
    desk.file("key", "sk-0123456789abcdefghijk");
    let declared = |first: &str, second: &str| {
        let keys = [("one", first), ("two", second)].map(|(name, profile)| {
            format!("  - {{provider: openai, name: {name}, profiles: [{profile}], material: {{file: key}}}}\n")
        });
        desk.file("keys.yaml", &organization(&keys.concat()))
    };
    desk.apply(&declared("a", "b"), &[]).await;
    let before: u64 = desk.revision().await.parse().expect("a number");

    let ran = desk.apply(&declared("b", "a"), &[]).await;

    assert!(ran.err.contains("made 2 changes: 2 assign"), "{ran:?}");
    assert_eq!(desk.revision().await, (before + 2).to_string(), "each moves in one step");
    assert_eq!(desk.diff(&declared("b", "a")).await.code, 0);
}

#[tokio::test]
async fn what_the_file_does_not_name_stays_unless_it_is_to_be_pruned() {
    let (desk, file) = research().await;
    let other = desk.file("other.yaml", &organization("  - {provider: openai, name: Other, material: {file: key}}\n"));
    desk.apply(&other, &[]).await;

    let kept = desk.apply(&file, &[]).await;
    assert!(kept.err.contains("left alone, as the file does not name them: 1 key (\"Other\")"), "{kept:?}");
    let unasked = desk.run(&["apply", "--prune", "-f", text(&file)]).await;
    assert_eq!(unasked.code, 1, "{unasked:?}");
    assert!(unasked.err.contains("without a terminal") && unasked.out.contains("is not in the file"), "{unasked:?}");
    assert_eq!(desk.listed().await.len(), 2);

    desk.apply(&file, &["--prune"]).await;
    assert_eq!(desk.listed().await.len(), 1);
    assert_eq!(desk.run(&["diff", "--prune", "-f", text(&file)]).await.code, 0);
}

/// A vault with one key of two profiles, and the file that says so.
async fn research() -> (Desk, PathBuf) {
    let desk = Desk::start().await;
    desk.file("key", "sk-first-0123456789abcdef");
    let key = "  - {provider: openai, name: Research, profiles: [a, b], material: {file: key}}\n  policies:\n  - environment: allow\n";
    let file = desk.file("research.yaml", &organization(key));
    desk.apply(&file, &[]).await;
    (desk, file)
}

/// The material that a call gets.
async fn resolved(desk: &Desk, profile: Option<&str>, provider: Provider) -> String {
    let mut resolution = KeyResolutionServiceClient::connect(desk.vault.url()).await.expect("the vault answers");
    let request = ResolveKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        profile_id: profile.map(str::to_owned),
        provider: provider.into(),
    };
    let key = resolution.resolve_key(request).await.expect("a key").into_inner();
    key.material.expect("material").api_key
}
