//! What README.md shows works as it is shown: its commands run against the running pair.
//!
//! A block of commands is marked by a comment in the line before it, `<!-- runs: NAME -->`.
//! Only the binaries' folder and the two addresses differ from what a reader types.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use proto::{
    keyvault::{CreateApiKeyRequest, KeyMaterial},
    types::Provider,
};
use system_tests::{System, command, fake_provider::Answer, skip_without};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

/// Generating code with a cold Python takes seconds on a busy machine.
const BLOCK_MAX: Duration = Duration::from_secs(50);

/// A key that no provider issued, as a reader would paste it.
const KEY: &str = "sk-ant-of-the-readme-0123456789";

const HELLO: &str = "\
event: message_start
data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}

event: content_block_start
data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}

event: content_block_delta
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello, \"}}

event: content_block_delta
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"reader.\"}}

event: content_block_stop
data: {\"type\":\"content_block_stop\",\"index\":0}

event: message_delta
data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":4}}

event: message_stop
data: {\"type\":\"message_stop\"}

";

#[tokio::test]
async fn the_first_key_and_the_first_chat_of_the_readme_work() {
    let system = ready().await;

    let shown = run(&system, "first chat").await;

    assert!(shown.contains("Hello, reader."), "{shown}");
    assert!(shown.contains("chosen"), "the explanation follows: {shown}");
    assert_eq!(system.provider.last().header("x-api-key"), KEY);
}

#[tokio::test]
async fn a_key_of_one_profile_as_in_the_readme_is_used_for_it_alone() {
    let mut system = ready().await;
    store_default(&mut system, "sk-ant-of-the-organization").await;

    let shown = run(&system, "profile key").await;

    assert!(shown.contains("Hello, reader."), "{shown}");
    assert_eq!(system.provider.last().header("x-api-key"), KEY);
}

#[tokio::test]
async fn the_models_of_the_readme_are_listed() {
    let mut system = System::start().await;
    let list =
        r#"{"data":[{"type":"model","id":"claude-sonnet-4-5","display_name":"Claude Sonnet 4.5"}],"has_more":false}"#;
    system.provider.always_answers(Answer::json(200, list));
    store_default(&mut system, KEY).await;

    let shown = run(&system, "models").await;

    assert!(shown.contains("claude-sonnet-4-5") && shown.contains("Claude Sonnet 4.5"), "{shown}");
    assert!(
        shown.contains("openai: ") && shown.contains("NO_KEY_CONFIGURED"),
        "providers without a key are named: {shown}"
    );
}

#[tokio::test]
async fn the_contract_of_the_readme_is_called_through_reflection() {
    if !succeeds("buf", &["--version"]).await {
        return skip_without("buf");
    }
    let mut system = ready().await;
    store_default(&mut system, KEY).await;

    let shown = run(&system, "buf curl").await;

    assert!(shown.contains("\"provider\": \"PROVIDER_ANTHROPIC\""), "DetectProvider: {shown}");
    assert!(shown.contains("\"hint\": \"6789\""), "ListApiKeys: {shown}");
    assert!(shown.contains("\"text\": \"reader.\"") && shown.contains("\"finished\""), "StreamChat: {shown}");
    assert!(!shown.contains(KEY), "{shown}");
}

#[tokio::test]
async fn the_python_client_of_the_readme_works() {
    if !succeeds("python3", &["-c", "import grpc, grpc_status, grpc_tools"]).await {
        return skip_without("Python's grpcio, grpcio-status or grpcio-tools");
    }
    let system = ready().await;

    let shown = run(&system, "python").await;

    assert!(shown.contains("Stored key") && shown.contains("ending in '6789'"), "{shown}");
    assert!(shown.contains("Hello, reader.\n[FINISH_REASON_STOP, 7 tokens]"), "{shown}");
    assert!(shown.contains("reason MODEL_UNKNOWN of chat.archestra"), "{shown}");
    assert!(!shown.contains(KEY), "{shown}");
    assert_eq!(system.provider.last().header("x-api-key"), KEY);
}

#[test]
fn the_rust_snippet_of_the_readme_is_a_doctest() {
    let snippet = block(&readme(), "<!-- doctest of proto -->", "rust");
    let documented = file("proto/src/lib.rs");
    let lines = documented.lines().filter_map(|line| line.strip_prefix("//!"));
    let documented: Vec<_> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    assert!(documented.join("\n").contains(&snippet), "the example of proto/src/lib.rs is another:\n{snippet}");
}

#[test]
fn every_target_of_the_readme_is_in_the_makefile() {
    let makefile = file("Makefile");
    let text = readme();
    let targets: Vec<_> = text
        .split("make ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next())
        .filter(|target| !target.is_empty())
        .collect();
    assert!(targets.contains(&"run") && targets.contains(&"test"), "{targets:?}");
    for target in targets {
        assert!(makefile.contains(&format!("\n{target}:")), "make {target} is in the README only");
    }
}

/// A system whose provider answers.
async fn ready() -> System {
    let system = System::start().await;
    system.provider.always_answers(Answer::stream(HELLO));
    system
}

/// Stores a default key of the organization that the README speaks of.
async fn store_default(system: &mut System, material: &str) {
    let request = CreateApiKeyRequest {
        organization_id: "default".to_owned(),
        provider: Provider::Anthropic.into(),
        display_name: "First key".to_owned(),
        material: Some(KeyMaterial { api_key: material.to_owned() }),
        set_as_organization_default: true,
        ..Default::default()
    };
    system.keys.create_api_key(request).await.expect("the key is stored");
}

/// Runs a block of the README in the workspace's folder, with the key on its standard
/// input. Returns what it printed to both outputs; panics if it does not end well.
async fn run(system: &System, name: &str) -> String {
    let script = block(&readme(), &format!("<!-- runs: {name} -->"), "sh")
        .replace("target/debug/key-vault", &binary("key-vault"))
        .replace("target/debug/chat-gateway", &binary("chat-gateway"))
        .replace("http://127.0.0.1:50051", &system.vault.url())
        .replace("http://127.0.0.1:50052", &system.gateway.url());
    let mut shell = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{script}")])
        .env("KEY_VAULT_SERVER", system.vault.url())
        .env("CHAT_GATEWAY_SERVER", system.gateway.url())
        .env("ANTHROPIC_API_KEY", KEY)
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("bash runs");
    let mut input = shell.stdin.take().expect("standard input is piped");
    // A block that does not read it has closed it.
    let _ = input.write_all(format!("{KEY}\n").as_bytes()).await;
    drop(input);
    let output = timeout(BLOCK_MAX, shell.wait_with_output()).await.expect("it ends").expect("its output is read");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {}\n{script}\n{shown}", output.status);
    shown
}

/// The fenced block after a line of the README.
fn block(text: &str, mark: &str, language: &str) -> String {
    let after = text.split_once(mark).unwrap_or_else(|| panic!("README.md has no {mark}")).1;
    let opened = after.trim_start().strip_prefix("```").and_then(|rest| rest.strip_prefix(language));
    let body = opened.unwrap_or_else(|| panic!("a block of {language} follows {mark}"));
    body.trim_start_matches('\n').split_once("```").expect("the block ends").0.to_owned()
}

async fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    status.is_ok_and(|status| status.success())
}

fn binary(service: &str) -> String {
    command(service).as_std().get_program().to_string_lossy().into_owned()
}

fn readme() -> String {
    file("README.md")
}

fn file(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
