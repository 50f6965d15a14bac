//! Every recorded answer of the providers comes out of `StreamChat`, through both
//! services, as the vendor's own library understood it.
//!
//! Compared: text, refusal, reasoning with its signatures and its hidden and encrypted
//! forms, tool calls, citations, parts and events without common form, their order, usage,
//! finish reason or error; with the body written as a whole and in pieces of 1, 2, 3, 7 and
//! 4096 bytes. `Chat` must give the same at once. The recordings' `README.md` defines the
//! rules and names the exceptions; no other id has one. What is a difference, and which
//! differences are none by rule, is in [`expected`].

mod changes;
mod expected;
mod whole;

use std::time::Instant;

use prost::Message as _;
use proto::{
    chat::{ChatRequest, DetectProviderRequest, OpenAiApi, StreamChatRequest},
    types::Provider,
};
use system_tests::{
    Links, Setup, System,
    answer::{Answer, ask},
    fake_provider::{Answer as Said, End},
    fixtures::{Fixtures, Recording, folder},
    skip_without,
};

#[tokio::test]
async fn recordings_come_out_as_recorded() {
    conforms(0).await;
}

#[tokio::test]
async fn recordings_come_out_as_recorded_in_single_bytes() {
    conforms(1).await;
}

#[tokio::test]
async fn recordings_come_out_as_recorded_in_writes_of_2_bytes() {
    conforms(2).await;
}

#[tokio::test]
async fn recordings_come_out_as_recorded_in_writes_of_3_bytes() {
    conforms(3).await;
}

#[tokio::test]
async fn recordings_come_out_as_recorded_in_writes_of_7_bytes() {
    conforms(7).await;
}

#[tokio::test]
async fn recordings_come_out_as_recorded_in_writes_of_4096_bytes() {
    conforms(4096).await;
}

/// `Chat` returns all at once what `StreamChat` streams, or fails alike.
#[tokio::test]
async fn chat_returns_what_is_streamed() {
    let Some((fixtures, mut stage)) = Stage::set().await else { return };
    let mut all = Vec::new();
    for recording in &fixtures.recordings {
        stage.serve(recording, fixtures.body(recording), 0);
        let request = stage.request(recording).await;
        let streamed = Answer::read(stage.system.chat.stream_chat(request.clone()).await).await;
        // All fields are the same, and have the same numbers.
        let request = ChatRequest::decode(request.encode_to_vec().as_slice()).expect("the same fields");
        let whole = stage.system.chat.chat(request).await.map(tonic::Response::into_inner).map_err(Into::into);
        let knows_ids = expected::knows_ids(fixtures.oracle(recording));
        all.extend(named(recording, whole::differences(&streamed, whole, knows_ids)));
    }
    println!("{} recordings compared, as a whole and streamed", fixtures.recordings.len());
    none(&all);
}

/// The comparison itself can fail: each recorded stream with one thing in it changed.
#[tokio::test]
async fn a_changed_recording_is_noticed() {
    let Some((fixtures, mut stage)) = Stage::set().await else { return };
    let (mut noticed, mut unnoticed) = (Vec::new(), Vec::new());
    for recording in fixtures.recordings.iter().filter(|recording| recording.kind == "stream") {
        let has_answer = fixtures.oracle(recording).is_some_and(|oracle| oracle.get("error").is_none());
        if !has_answer || expected::is_special(&recording.id) {
            continue;
        }
        let body = fixtures.body(recording);
        let unchanged = stage.differences(&fixtures, recording, body.clone(), 0).await;
        for (what, body) in changes::all(&recording.endpoint, &body) {
            let differences = stage.differences(&fixtures, recording, body, 0).await;
            let list = if differences == unchanged { &mut unnoticed } else { &mut noticed };
            list.push((what, recording.id.as_str()));
        }
    }
    for sort in ["text", "refusal", "reasoning", "signature", "arguments", "citation", "own part", "usage", "finish"] {
        let changes = noticed.iter().filter(|(what, _)| *what == sort).count();
        println!("{changes} recordings with {sort} changed were noticed");
    }
    assert!(unnoticed.is_empty(), "changed, and nobody noticed: {unnoticed:?}");
    assert!(!noticed.is_empty(), "no recording has anything to change");
}

/// What the recordings have beside the oracle is what the oracle speaks of.
#[test]
fn the_oracle_and_the_recordings_fit() {
    let Some(fixtures) = Fixtures::load() else { return skip_without("the folder of recordings") };
    let of = |recording: &Recording| named(recording, expected::contradictions(&fixtures, recording));
    none(&fixtures.recordings.iter().flat_map(of).collect::<Vec<_>>());
}

/// Models that Chat Completions does not have lead to Responses without being told.
#[tokio::test]
async fn models_of_responses_lead_there_by_themselves() {
    let Some((fixtures, mut stage)) = Stage::set().await else { return };
    let answers = |recording: &&Recording| recording.endpoint == "openai.responses" && recording.kind == "stream";
    let recording = fixtures.recordings.iter().find(answers).expect("the folder has recordings of Responses");
    stage.serve(recording, fixtures.body(recording), 0);
    for model in ["gpt-5-codex", "codex-mini-latest", "o1-pro", "gpt-5-pro", "o3-deep-research", "computer-use-preview"]
    {
        let answer = Answer::read(stage.system.chat.stream_chat(ask(model, None, "Hi")).await).await;
        assert!(answer.failure.is_none(), "{model}: {answer:?}");
        let path = stage.system.provider.last().path;
        assert!(path.ends_with("/responses"), "{model} leads to {path}");
    }
}

async fn conforms(write_size: usize) {
    let Some((fixtures, mut stage)) = Stage::set().await else { return };
    let began = Instant::now();
    let mut all = Vec::new();
    for recording in &fixtures.recordings {
        let body = fixtures.body(recording);
        all.extend(stage.differences(&fixtures, recording, body, write_size).await);
    }
    let (count, seconds) = (fixtures.recordings.len(), began.elapsed().as_secs_f64());
    let size = if write_size == 0 { "as a whole".to_owned() } else { format!("in writes of {write_size} bytes") };
    println!("{count} recordings compared, {size}, in {seconds:.1} s");
    none(&all);
    assert!(count > 0, "the folder has no recordings");
}

fn none(differences: &[String]) {
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

fn named(recording: &Recording, differences: Vec<String>) -> Vec<String> {
    differences.into_iter().map(|difference| format!("{}: {difference}", recording.id)).collect()
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
        let mut system = System::with(Setup::asking_once()).await;
        for provider in [Provider::Anthropic, Provider::Openai, Provider::Gemini] {
            system.add_key(provider, "key-of-the-conformance-test", Links { default: true, profiles: &[] }).await;
        }
        Some((fixtures, Self { system }))
    }

    /// Answers with `body` from now on, as the recording was answered.
    fn serve(&self, recording: &Recording, body: Vec<u8>, write_size: usize) {
        self.system.provider.always_answers(Said {
            status: recording.http_status,
            headers: recording.headers(),
            body,
            write_size,
            end: End::Clean,
            ..Said::stream("")
        });
    }

    /// Serves `body` as the answer to a chat, and compares what the caller got.
    async fn differences(
        &mut self,
        fixtures: &Fixtures,
        recording: &Recording,
        body: Vec<u8>,
        write_size: usize,
    ) -> Vec<String> {
        self.serve(recording, body, write_size);
        let request = self.request(recording).await;
        let answer = Answer::read(self.system.chat.stream_chat(request).await).await;
        let mut found = expected::compare(fixtures, recording, &answer);
        // Whose form the answer has follows from where the request went.
        let (path, asked) = (self.system.provider.last().path, endpoint_path(recording));
        if !path.contains(asked) {
            found.push(format!("it was asked at {path} instead of {asked}"));
        }
        named(recording, found)
    }

    /// A chat with the recorded model, over the recorded API.
    async fn request(&mut self, recording: &Recording) -> StreamChatRequest {
        let api = match recording.endpoint.as_str() {
            "openai.chat" => OpenAiApi::ChatCompletions,
            "openai.responses" => OpenAiApi::Responses,
            _ => OpenAiApi::Unspecified,
        };
        StreamChatRequest { openai_api: api.into(), ..ask(&self.model(recording).await, None, "Hi") }
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

/// Errors of `generateContent` are served on the stream.
fn endpoint_path(recording: &Recording) -> &'static str {
    match recording.endpoint.as_str() {
        "anthropic.messages" => "/messages",
        "openai.chat" => "/chat/completions",
        "openai.responses" => "/responses",
        _ => ":streamGenerateContent",
    }
}
