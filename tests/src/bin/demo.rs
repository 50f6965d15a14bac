//! The whole story, unattended: keys go in, profiles chat, and every step says what
//! happened. Ends with an error if a step is not as it should be.
//!
//! Both services are the real binaries; only the providers are played, so nothing leaves
//! this machine and no key is needed.

use std::{fmt::Display, io::Write as _, process::ExitCode};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result, ensure};
use proto::{
    chat::stream_chat_response::Event,
    keyvault::{ApiKey, CreateApiKeyRequest, ExplainResolutionRequest, KeyMaterial},
    types::{Provider, Source},
};
use serde_json::{Value, json};
use system_tests::{
    ORGANIZATION, Setup, System,
    answer::{Failure, ask},
    fake_provider::Answer,
};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const CYAN: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)));
const RED: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));

const ANTHROPIC_KEY: &str = "sk-ant-demo-0123456789abcdef-research";
const OPENAI_KEY: &str = "sk-demo-0123456789abcdef-everyone";
const SPARE_KEY: &str = "demo-gemini-0123456789abcdef-spare";
const ENVIRONMENT_KEY: &str = "demo-gemini-0123456789abcdef-environment";

#[tokio::main]
async fn main() -> ExitCode {
    match tell().await {
        Ok(()) => {
            say(&format!("\n{GREEN}{BOLD}Everything happened as it should.{BOLD:#}{GREEN:#}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("\n{RED}The demo failed:{RED:#} {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn tell() -> Result<()> {
    chapter("Both services start, and a server that plays the providers");
    let variable = ("ARCHESTRA_CHAT_GEMINI_API_KEY".to_owned(), ENVIRONMENT_KEY.to_owned());
    let mut system = System::try_with(Setup { vault_environment: vec![variable], ..Setup::default() }).await?;
    done(&format!("key-vault at {}, chat-gateway at {}", system.vault.url(), system.gateway.url()));

    chapter("An administrator stores a key of each provider");
    let research = store(&mut system, Provider::Anthropic, "Research", ANTHROPIC_KEY, false, &["research"]).await?;
    let everyone = store(&mut system, Provider::Openai, "Everyone", OPENAI_KEY, true, &[]).await?;
    store(&mut system, Provider::Gemini, "Spare", SPARE_KEY, false, &[]).await?;
    done("Research is assigned to the profile research; Everyone is the default for OpenAI");
    done("no Gemini key is linked to anything: the vault's environment has one");

    chapter("The profile research chats, once by each step of the resolution");
    system.provider.always_answers(Answer::stream(anthropic("I answer with the key of the profile.")));
    let expected = Expected { source: Source::Profile, id: &research.api_key_id, key: ANTHROPIC_KEY };
    chat(&mut system, "claude-sonnet-4-5", &expected).await?;
    system.provider.always_answers(Answer::stream(openai("I answer with the organization's default key.")));
    let expected = Expected { source: Source::OrganizationDefault, id: &everyone.api_key_id, key: OPENAI_KEY };
    chat(&mut system, "gpt-4o", &expected).await?;
    system.provider.always_answers(Answer::stream(gemini("I answer with the key of the environment.")));
    let expected = Expected { source: Source::Environment, id: "", key: ENVIRONMENT_KEY };
    chat(&mut system, "gemini-2.5-flash", &expected).await?;

    chapter("The vault explains why");
    explain(&mut system).await?;

    chapter("A model that is nobody's is refused before anything is sent");
    refuse(&mut system).await
}

async fn store(
    system: &mut System,
    provider: Provider,
    name: &str,
    key: &str,
    default: bool,
    profiles: &[&str],
) -> Result<ApiKey> {
    let request = CreateApiKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        provider: provider.into(),
        display_name: name.to_owned(),
        material: Some(KeyMaterial { api_key: key.to_owned() }),
        set_as_organization_default: default,
        profile_ids: profiles.iter().map(|profile| (*profile).to_owned()).collect(),
        ..Default::default()
    };
    let response = system.keys.create_api_key(request).await.map_err(failed)?.into_inner();
    let stored = response.api_key.context("the vault answered without a key")?;
    ensure!(key.ends_with(&stored.hint) && !stored.hint.is_empty(), "the hint is the key's end");
    done(&format!("{name} ({provider:?}): {} ends in {}", stored.api_key_id, stored.hint));
    Ok(stored)
}

/// Which key should answer.
struct Expected<'a> {
    source: Source,
    id: &'a str,
    key: &'a str,
}

async fn chat(system: &mut System, model: &str, expected: &Expected<'_>) -> Result<()> {
    let request = ask(model, Some("research"), "Which key do you answer with?");
    let mut events = system.chat.stream_chat(request).await.map_err(failed)?.into_inner();
    print(format!("  {CYAN}{model}{CYAN:#} "));
    let (mut started, mut finished) = (None, None);
    while let Some(response) = events.message().await.map_err(failed)? {
        match response.event {
            Some(Event::Started(event)) => started = Some(event),
            Some(Event::TextDelta(delta)) => print(delta.text),
            Some(Event::Finished(event)) => finished = Some(event),
            _ => {}
        }
    }
    say("");
    let started = started.context("the stream had no `started`")?;
    finished.context("the stream had no `finished`")?;
    ensure!(started.source() == expected.source, "the source is {:?}", started.source());
    ensure!(started.api_key_id == expected.id, "the key is {:?}", started.api_key_id);
    let sent = system.provider.last();
    let credential = ["x-api-key", "authorization", "x-goog-api-key"].map(|name| sent.header(name).to_owned());
    ensure!(credential.iter().any(|value| value.ends_with(expected.key)), "the provider saw another key");
    done(&format!("{:?}, and the provider saw that key", expected.source));
    Ok(())
}

async fn explain(system: &mut System) -> Result<()> {
    let request = ExplainResolutionRequest {
        organization_id: ORGANIZATION.to_owned(),
        profile_id: Some("research".to_owned()),
        provider: Provider::Gemini.into(),
    };
    let explained = system.resolution.explain_resolution(request).await.map_err(failed)?.into_inner();
    for step in &explained.steps {
        done(&format!("{:?}: {:?}, {}", step.source(), step.outcome(), step.detail));
    }
    let chosen = explained.chosen.context("a step was chosen")?;
    ensure!(chosen.source() == Source::Environment, "the step is {:?}", chosen.source());
    Ok(())
}

async fn refuse(system: &mut System) -> Result<()> {
    let before = system.provider.received().len();
    let outcome = system.chat.stream_chat(ask("azure/gpt-4o", Some("research"), "Hello?")).await;
    let failure = Failure::from(outcome.err().context("the model was not refused")?);
    ensure!(failure.reason == "MODEL_UNKNOWN", "the reason is {}", failure.reason);
    ensure!(system.provider.received().len() == before, "something was sent");
    done(&format!("{}: {}", failure.reason, failure.message));
    Ok(())
}

fn failed(status: tonic::Status) -> anyhow::Error {
    let failure = Failure::from(status);
    anyhow::anyhow!("{}: {}", failure.class(), failure.message)
}

fn anthropic(text: &str) -> String {
    let start = json!({"type": "message_start", "message": {"id": "msg_demo", "model": "claude-sonnet-4-5",
        "usage": {"input_tokens": 9, "output_tokens": 1}}});
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let delta =
        |word| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}});
    let end = [
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 8}}),
        json!({"type": "message_stop"}),
    ];
    events([start, block].into_iter().chain(words(text).map(delta)).chain(end))
}

fn openai(text: &str) -> String {
    let chunk = |choices: Value| json!({"id": "chatcmpl-demo", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": choices});
    let delta = |word| chunk(json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}]));
    let end = chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]));
    events(words(text).map(delta).chain([end])) + "data: [DONE]\n\n"
}

fn gemini(text: &str) -> String {
    let part = |word, reason: Option<&str>| {
        json!({"candidates": [{"content": {"role": "model", "parts": [{"text": word}]}, "finishReason": reason}],
            "modelVersion": "gemini-2.5-flash", "responseId": "demo"})
    };
    let last = words(text).count() - 1;
    events(words(text).enumerate().map(|(n, word)| part(word, (n == last).then_some("STOP"))))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

fn events(events: impl IntoIterator<Item = impl Display>) -> String {
    events.into_iter().fold(String::new(), |all, event| all + &format!("data: {event}\n\n"))
}

fn chapter(text: &str) {
    say(&format!("\n{BOLD}{text}{BOLD:#}"));
}

fn done(text: &str) {
    say(&format!("  {GREEN}✓{GREEN:#} {DIM}{text}{DIM:#}"));
}

fn say(text: &str) {
    print(format!("{text}\n"));
}

fn print(text: impl Display) {
    let mut out = anstream::stdout();
    // Whoever closed the pipe does not read on.
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}
