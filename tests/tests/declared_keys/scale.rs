//! Many keys in one command: how far it is, what it waits for, and what an end in the middle leaves.

use std::{fmt::Write as _, path::PathBuf, process::Stdio, time::Duration};

use proto::keyvault::{AssignProfilesRequest, ListApiKeysRequest};
use system_tests::{ORGANIZATION, command, skip_without};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{Desk, text};

const TEAMS: usize = 40;
const PROVIDERS: [&str; 3] = ["anthropic", "openai", "gemini"];

/// A machine that is busy with other tests takes its time.
const APPLY_MAX: Duration = Duration::from_mins(1);

#[tokio::test]
async fn keys_of_forty_teams_are_one_command_with_a_bar() {
    if !Command::new("script")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .await
        .is_ok_and(|status| status.success())
    {
        return skip_without("script");
    }
    let desk = Desk::start().await;
    let file = teams(&desk);
    let binary = command("key-vault").as_std().get_program().to_string_lossy().into_owned();
    let apply = format!("stty cols 160; {binary} apply -f {} --server {}", text(&file), desk.vault.url());
    // On a terminal it asks, and is answered.
    let mut child = Command::new("script")
        .args(["-qec", &apply, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("script runs");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(b"y\n").await.expect("the answer is typed");
    let output = timeout(APPLY_MAX, child.wait_with_output()).await.expect("it ends").expect("its output is read");
    drop(stdin);

    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    for expected in ["120 create, 40 forbid. Go on? [y/N]", "160/160", "█", "made 160 changes"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert_eq!(desk.listed().await.len(), TEAMS * PROVIDERS.len());
    assert_eq!(desk.diff(&file).await.code, 0);
}

#[tokio::test]
async fn the_limit_of_the_vault_is_waited_for_and_said_once() {
    let desk = Desk::with(&["--mutations-per-second=1"]).await;
    desk.file("key", "sk-0123456789abcdefghijk");
    let keys =
        ["a", "b", "c"].map(|name| "  - {provider: openai, name: NAME, material: {file: key}}\n".replace("NAME", name));
    let file = desk.file("keys.yaml", &super::organization(&keys.concat()));

    let ran = desk.apply(&file, &[]).await;

    assert_eq!(ran.err.matches("waiting: the vault limits changes per second").count(), 1, "{}", ran.err);
    assert!(ran.err.contains("3/3 create acme openai \"c\"") && ran.err.contains("made 3 changes"), "{}", ran.err);
}

#[tokio::test]
async fn what_was_killed_in_the_middle_goes_on() {
    let mut desk = Desk::with(&["--mutations-per-second=40"]).await;
    let file = teams(&desk);
    let mut child = apply(&desk, &file);
    until_there_are(&mut desk, 50).await;
    child.kill().await.expect("it is killed");
    let left = desk.listed().await.len();
    assert!((50..120).contains(&left), "{left} keys");

    let ran = desk.apply(&file, &[]).await;

    assert!(ran.err.contains(&format!("{} create", 120 - left)), "{}", ran.err);
    let keys = desk.listed().await;
    assert_eq!(keys.len(), 120, "none is made twice");
    let revision = desk.revision().await;
    assert!(desk.apply(&file, &[]).await.err.contains("0 changes"));
    assert_eq!(desk.revision().await, revision);
}

#[tokio::test]
async fn what_somebody_else_changes_meanwhile_is_not_overwritten() {
    let mut desk = Desk::with(&["--mutations-per-second=40"]).await;
    let file = teams(&desk);
    let key = desk.file("old", "sk-old-0123456789abcdefgh");
    let old = [
        "keys",
        "add",
        "--provider",
        "openai",
        "--name",
        "old",
        "--key-file",
        text(&key),
        "--profile",
        "p",
        "--output",
        "json",
    ];
    let id = desk.run(&old).await.json()["api_key_id"].as_str().expect("an id").to_owned();
    let declared = std::fs::read_to_string(&file)
        .expect("the file")
        .replace("  policies:", "  - {provider: openai, name: old}\n  policies:");
    let file = desk.file("keys.yaml", &declared);
    let child = apply(&desk, &file);
    until_there_are(&mut desk, 50).await;
    assign(&mut desk, &id, "q").await;

    let output = timeout(APPLY_MAX, child.wait_with_output()).await.expect("it ends").expect("its output is read");

    let shown = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("ETAG_MISMATCH"), "{shown}");
    assert!(
        shown.contains(
            "made 160 of 161 changes. This one is not known to be made, and what follows it is not: unassign acme openai \"old\""
        ),
        "{shown}"
    );
    let keys = desk.listed().await;
    let old = keys.iter().find(|key| key["api_key_id"] == id.as_str()).expect("the key");
    assert_eq!(old["profile_ids"], serde_json::json!(["p", "q"]));
    // Whoever runs it again sees the new difference first.
    let diff = desk.diff(&file).await;
    assert!(diff.code == 6 && diff.out.contains("profiles: has p, q, the file says none"), "{diff:?}");
    desk.apply(&file, &[]).await;
    assert_eq!(desk.diff(&file).await.code, 0);
}

/// A file of three keys for each team, and a policy for each. All have the same material.
fn teams(desk: &Desk) -> PathBuf {
    desk.file("key", "sk-0123456789abcdefghijk");
    let (mut keys, mut policies) = (String::new(), String::new());
    for team in 0..TEAMS {
        for provider in PROVIDERS {
            writeln!(
                keys,
                "  - {{provider: {provider}, name: Team {team}, profiles: [team-{team}], material: {{file: key}}}}"
            )
            .expect("a text");
        }
        writeln!(policies, "  - {{profile: team-{team}, organization_default: forbid}}").expect("a text");
    }
    desk.file("keys.yaml", &super::organization(&format!("{keys}  policies:\n{policies}")))
}

/// An `apply` that runs.
fn apply(desk: &Desk, file: &std::path::Path) -> Child {
    command("key-vault")
        .args(["apply", "--yes", "-f", text(file), "--server", &desk.vault.url()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("key-vault runs")
}

async fn until_there_are(desk: &mut Desk, count: usize) {
    let enough = async {
        loop {
            let request =
                ListApiKeysRequest { organization_id: ORGANIZATION.to_owned(), page_size: 1_000, ..Default::default() };
            let keys = desk.keys.list_api_keys(request).await.expect("a list").into_inner().api_keys;
            if keys.len() >= count {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(APPLY_MAX, enough).await.expect("keys are made");
}

/// Gives a key to a profile, as soon as the vault takes it: the limit is shared with `apply`.
async fn assign(desk: &mut Desk, id: &str, profile: &str) {
    let request = AssignProfilesRequest {
        organization_id: ORGANIZATION.to_owned(),
        api_key_id: id.to_owned(),
        profile_ids: vec![profile.to_owned()],
        ..Default::default()
    };
    let done = async {
        while desk.keys.assign_profiles(request.clone()).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(APPLY_MAX, done).await.expect("the profile gets the key");
}
