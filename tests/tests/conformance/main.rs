//! Every recorded answer of the providers comes out of `StreamChat`, through both
//! services, as the vendor's own library understood it.
//!
//! Compared: text, tool calls, usage, finish reason or error; with the body written as a
//! whole, in single bytes, and in threes. The recordings' `README.md` defines the rules
//! and names the exceptions; no other id has one. What the gateway does not relay yet is
//! [`LATER`].

mod expected;

use proto::{chat::DetectProviderRequest, types::Provider};
use serde_json::Value;
use system_tests::{
    Links, System,
    answer::{Answer, ask},
    fake_provider::Answer as Said,
    fixtures::{Fixtures, Recording, folder},
    skip_without,
};

/// What is not compared yet, because the gateway does not relay it yet.
const LATER: [&str; 4] = [
    "the endpoint openai.responses",
    "reasoning text and its signatures",
    "citations",
    "built-in (server) tools and their results",
];

const ENDPOINTS: [&str; 4] =
    ["anthropic.messages", "openai.chat", "gemini.generateContent", "gemini.streamGenerateContent"];

#[tokio::test]
async fn recordings_come_out_as_recorded() {
    conforms(0).await;
}

#[tokio::test]
async fn recordings_come_out_as_recorded_when_written_byte_by_byte() {
    conforms(1).await;
}

#[tokio::test]
async fn recordings_come_out_as_recorded_when_written_in_threes() {
    conforms(3).await;
}

/// The comparison itself can fail: each recording with text, one letter of it changed.
#[tokio::test]
async fn a_changed_recording_is_noticed() {
    let Some((fixtures, mut stage)) = Stage::set().await else { return };
    let mut changed = 0;
    for recording in fixtures.recordings.iter().filter(|recording| covered(recording)) {
        let Some(body) = spoiled(&fixtures.body(recording)) else { continue };
        if recording.kind != "stream" || fixtures.oracle(recording).is_none() || expected::is_special(&recording.id) {
            continue;
        }
        let differences = stage.differences(&fixtures, recording, body, 0).await;
        assert!(!differences.is_empty(), "{} was changed, and nobody noticed", recording.id);
        changed += 1;
    }
    assert!(changed > 0, "no recording has text to change");
    println!("{changed} changed recordings were noticed");
}

async fn conforms(write_size: usize) {
    let Some((fixtures, mut stage)) = Stage::set().await else { return };
    let (mut compared, mut later) = (0, Vec::new());
    let mut all = Vec::new();
    for recording in &fixtures.recordings {
        if covered(recording) {
            let body = fixtures.body(recording);
            all.extend(stage.differences(&fixtures, recording, body, write_size).await);
            compared += 1;
        } else {
            later.push(recording.id.as_str());
        }
    }
    println!("{compared} recordings compared, in writes of {write_size} bytes (0: whole)");
    println!("not compared yet: {}; that is {} recordings: {}", LATER.join("; "), later.len(), later.join(" "));
    assert!(all.is_empty(), "{} differences:\n{}", all.len(), all.join("\n"));
    assert!(compared > 0, "the folder has no recording of the endpoints");
}

fn covered(recording: &Recording) -> bool {
    ENDPOINTS.contains(&recording.endpoint.as_str())
}

/// A system with a key for each provider.
struct Stage {
    system: System,
}

impl Stage {
    async fn set() -> Option<(Fixtures, Self)> {
        let Some(fixtures) = Fixtures::load() else {
            skip_without(&format!("the folder of recordings {}", folder().display()));
            return None;
        };
        let mut system = System::start().await;
        for provider in [Provider::Anthropic, Provider::Openai, Provider::Gemini] {
            system.add_key(provider, "key-of-the-conformance-test", Links { default: true, profiles: &[] }).await;
        }
        Some((fixtures, Self { system }))
    }

    /// Serves `body` as the answer to a chat, and compares what the caller got.
    async fn differences(
        &mut self,
        fixtures: &Fixtures,
        recording: &Recording,
        body: Vec<u8>,
        write_size: usize,
    ) -> Vec<String> {
        self.system.provider.always_answers(Said {
            status: recording.http_status,
            headers: recording.headers(),
            body,
            write_size,
            end: system_tests::fake_provider::End::Clean,
        });
        let model = self.model(recording).await;
        let outcome = self.system.chat.stream_chat(ask(&model, None, "Hi")).await;
        let answer = Answer::read(outcome).await;
        let problems = expected::compare(recording, fixtures.oracle(recording), &answer);
        problems.into_iter().map(|problem| format!("{}: {problem}", recording.id)).collect()
    }

    /// The recorded model; with its provider in front if the name alone does not tell.
    async fn model(&mut self, recording: &Recording) -> String {
        let usual = match recording.provider.as_str() {
            "anthropic" => "claude-sonnet-4-5",
            "openai" => "gpt-4o",
            _ => "gemini-2.5-flash",
        };
        let model = recording.model.clone().unwrap_or_else(|| usual.to_owned());
        let request = DetectProviderRequest { model: model.clone() };
        let found = self.system.chat.detect_provider(request).await.expect("an answer").into_inner();
        if found.provider() == Provider::Unspecified { format!("{}/{model}", recording.provider) } else { model }
    }
}

/// The body with the first letter of its first text changed. `None` if it has no text.
fn spoiled(body: &[u8]) -> Option<Vec<u8>> {
    let body = std::str::from_utf8(body).ok()?;
    let (line, event) = body.lines().find_map(|line| {
        let mut event: Value = serde_json::from_str(line.strip_prefix("data:")?).ok()?;
        let Value::String(text) = text_of(&mut event)? else { return None };
        let first = text.chars().next()?;
        text.replace_range(..first.len_utf8(), if first == 'x' { "y" } else { "x" });
        Some((line, event))
    })?;
    Some(body.replacen(line, &format!("data: {event}"), 1).into_bytes())
}

/// The text of an event, where each provider puts it.
fn text_of(event: &mut Value) -> Option<&mut Value> {
    if event["delta"]["type"] == "text_delta" {
        return event.pointer_mut("/delta/text");
    }
    if event.pointer("/choices/0/delta/content").is_some_and(Value::is_string) {
        return event.pointer_mut("/choices/0/delta/content");
    }
    if event.pointer("/candidates/0/content/parts/0/thought").is_some() {
        return None;
    }
    event.pointer_mut("/candidates/0/content/parts/0/text")
}
