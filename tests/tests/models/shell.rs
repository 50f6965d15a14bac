//! What a person at a shell has of the lists: a command that prints them, and completion.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use proto::types::Provider;
use serde_json::json;
use system_tests::{
    FakeProvider, Links, ORGANIZATION, Setup, System,
    client::Ran,
    command,
    fake_provider::{Answer, End},
};

use super::{GEMINI_KEY, OPENAI_KEY, lists, with_keys};

/// Runs `chat-gateway` for a gateway.
async fn chat_gateway(server: &str, arguments: &[&str]) -> Ran {
    ran(command("chat-gateway").args(arguments), server).await
}

async fn ran(command: &mut tokio::process::Command, server: &str) -> Ran {
    let command = command.env("CHAT_GATEWAY_SERVER", server).env("CHAT_GATEWAY_ORGANIZATION", ORGANIZATION);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("the command runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn the_command_prints_models_and_says_what_it_could_not_list() {
    let mut system = System::start().await;
    system.add_key(Provider::Openai, OPENAI_KEY, Links { default: true, ..Links::default() }).await;
    system.add_key(Provider::Gemini, GEMINI_KEY, Links { profiles: &["p1"], ..Links::default() }).await;
    system.provider.answers_by(lists);
    let url = system.gateway.url();

    let shown = chat_gateway(&url, &["models", "--profile", "p1"]).await;
    let rows: Vec<_> = shown.out.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "MODEL PROVIDER NAME READS PRODUCES",
        "ft:gpt-4o:acme::x openai",
        "gpt-5 openai",
        "gemini-2.5-flash gemini Gemini 2.5 Flash 1048576 65536",
    ];
    assert_eq!((rows.as_slice(), shown.code), (expected.map(str::to_owned).as_slice(), 0), "{shown:?}");
    assert!(shown.err.contains("anthropic: ") && shown.err.contains("NO_KEY_CONFIGURED"), "{shown:?}");
    assert!(!shown.err.contains("gemini"), "{shown:?}");

    let all = chat_gateway(&url, &["models", "--profile", "p1", "--all", "--provider", "openai"]).await;
    let rows: Vec<_> = all.out.lines().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "MODEL PROVIDER NAME READS PRODUCES CHATS",
        "ft:gpt-4o:acme::x openai yes",
        "gpt-5 openai yes",
        "tts-1 openai no",
    ];
    assert_eq!((rows.as_slice(), all.err.as_str()), (expected.map(str::to_owned).as_slice(), ""), "{all:?}");

    let json = chat_gateway(&url, &["models", "--provider", "openai", "--output", "json"]).await;
    assert_eq!(json.json()["providers"][0]["models"][1]["name"], "gpt-5", "{json:?}");
    assert_eq!(json.err, "");

    let none = chat_gateway(&url, &["models", "--provider", "anthropic"]).await;
    assert_eq!((none.code, none.out.as_str()), (1, ""), "{none:?}");
    assert!(none.err.contains("NO_KEY_CONFIGURED"), "{none:?}");
    let refused = chat_gateway(&url, &["models", "--organization", "a b"]).await;
    assert_eq!(refused.code, 4, "{refused:?}");
}

/// What a shell is offered, asked as Bash asks: `words` as it takes them apart, the last of which
/// is completed.
async fn offered(server: &str, words: &[&str]) -> Vec<String> {
    let mut command = command("chat-gateway");
    command.arg("--").args(words).env("COMPLETE", "bash");
    command.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string()).env("_CLAP_IFS", "\n");
    let ran = ran(&mut command, server).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    ran.out.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_shell_is_offered_the_names_of_models() {
    let system = with_keys(Setup::default()).await;
    let url = system.gateway.url();
    let chats = ["anthropic/fable-1", "claude-sonnet-4-5", "ft:gpt-4o:acme::x", "gpt-5", "gemini-2.5-flash"];
    assert_eq!(offered(&url, &["chat-gateway", "chat", "--model", ""]).await, chats);
    assert_eq!(offered(&url, &["chat-gateway", "chat", "-m", "cl"]).await, ["claude-sonnet-4-5"]);
    assert_eq!(offered(&url, &["chat-gateway", "chat", "hello", "--model", "=", "gpt"]).await, ["gpt-5"]);
    assert_eq!(offered(&url, &["chat-gateway", "chat", "--model", "ft", ":", "gpt"]).await, ["gpt-4o:acme::x"]);
    assert_eq!(offered(&url, &["chat-gateway", "chat", "--model", "openai/gp"]).await, ["openai/gpt-5"]);
    assert_eq!(offered(&url, &["chat-gateway", "detect", "t"]).await, ["tts-1"]);
    assert_eq!(offered(&url, &["chat-gateway", "chat", "--model", "x"]).await, [""; 0]);

    let address = url.strip_prefix("http://").expect("a URL");
    let (host, port) = address.split_once(':').expect("a port");
    let named = ["chat-gateway", "chat", "--server", "http", ":", &format!("//{host}"), ":", port, "--model", "gp"];
    assert_eq!(offered("http://127.0.0.1:1", &named).await, ["gpt-5"], "the gateway that the command line names");
    let nobodys = ["chat-gateway", "chat", "--organization", "nobodys", "--model", ""];
    assert_eq!(offered(&url, &nobodys).await, [""; 0], "the organization that the command line names");
}

/// A shell puts what it is offered on its command line as it is.
#[tokio::test]
async fn no_name_of_a_model_commands_the_shell() {
    let mut system = System::start().await;
    system.add_key(Provider::Openai, OPENAI_KEY, Links { default: true, ..Links::default() }).await;
    let names = ["gpt-5", "gpt-$(id)", "gpt-`id`", "gpt-;id", "gpt-&id", "gpt-\nid", "gpt-'", "gpt 5", "gpt-é"];
    let models: Vec<_> = names.iter().map(|name| json!({"id": name})).collect();
    system.provider.always_answers(Answer::json(200, json!({"data": models}).to_string()));
    assert_eq!(offered(&system.gateway.url(), &["chat-gateway", "chat", "--model", ""]).await, ["gpt-5"]);
}

#[tokio::test]
async fn the_shell_is_offered_everything_else_as_before() {
    let nowhere = "http://127.0.0.1:1";
    assert_eq!(offered(nowhere, &["chat-gateway", "mod"]).await, ["models"]);
    assert_eq!(offered(nowhere, &["chat-gateway", "chat", "--eff"]).await, ["--effort"]);
    assert_eq!(offered(nowhere, &["chat-gateway", "chat", "--output", "j"]).await, ["json"]);
    assert_eq!(
        offered(nowhere, &["chat-gateway", "models", "--provider", ""]).await,
        ["anthropic", "openai", "gemini"]
    );
    assert!(offered(nowhere, &["chat-gateway", "chat", "--file", "Car"]).await.contains(&"Cargo.toml".to_owned()));
    assert!(
        offered(nowhere, &["chat-gateway", "serve", "--model-l"]).await.contains(&"--model-list-timeout".to_owned())
    );
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_has_no_models() {
    let silent = FakeProvider::start().await.expect("a port");
    silent.always_answers(Answer::json(200, "").ending(End::SilenceBeforeHeaders));
    for server in ["http://127.0.0.1:1", &silent.url(), "https://127.0.0.1:1"] {
        let begun = Instant::now();
        assert_eq!(offered(server, &["chat-gateway", "chat", "--model", ""]).await, [""; 0], "{server}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{server}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn the_script_for_bash_completes_models_in_bash() {
    let system = with_keys(Setup::default()).await;
    let script = chat_gateway("http://127.0.0.1:1", &["completions", "bash"]).await;
    assert_eq!(script.code, 0, "{script:?}");
    let press = "COMP_WORDS=(chat-gateway chat --model cl); COMP_CWORD=3; COMP_TYPE=9\n\
                 _clap_complete_chat_gateway chat-gateway cl --model; echo \"${COMPREPLY[@]}\"";
    let mut bash = tokio::process::Command::new("bash");
    let shown = ran(bash.args(["--norc", "-c", &format!("{}\n{press}", script.out)]), &system.gateway.url()).await;
    assert_eq!(shown.out.trim(), "claude-sonnet-4-5", "{shown:?}");

    for shell in ["elvish", "fish", "powershell", "zsh"] {
        let script = chat_gateway("http://127.0.0.1:1", &["completions", shell]).await;
        assert!(script.code == 0 && script.out.contains("COMPLETE") && script.out.contains(shell), "{script:?}");
    }
}
