//! What a recording must come out as, from the vendor library's reading of it: the
//! mappings between the vendors' words and ours, written once more, apart from the code
//! under test.
//!
//! The oracle is the truth. What it does not tell is read from the recording itself, anew:
//! the whole objects of parts that have no common form, the values of Gemini's signatures,
//! where Gemini's text comes from, which summary of OpenAI's reasoning ends where. Where
//! both know something and say different things, that is a difference too.
//!
//! Differences by rule, no recording named:
//!
//! - Several choices or candidates: only the first is compared. The gateway asks for one.
//! - An item of OpenAI's reasoning without summary and without content may come as a block
//!   with its id alone, or not at all: the oracle knows no more of it than that it is there.
//! - OpenAI encrypts the content of a reasoning item anew whenever it sends the item. The
//!   oracle keeps the copy of the last event; the one of `response.output_item.done` is as
//!   good and there earlier, so it is right too. No other copy is.
//! - The oracle runs several summaries of one item together; the contract has a blank line
//!   between them.
//! - In a citation's own object, a field that is null is the same as one that is absent.
//! - What Gemini says again in a later event, such as a citation, may come again or not.

mod anthropic;
mod differences;
mod errors;
mod gemini;
mod openai_chat;
mod responses;

use std::collections::BTreeMap;

use proto::chat::{Citation, FinishReason, Usage};
use serde_json::{Value, json};
use system_tests::{
    answer::Answer,
    fixtures::{Fixtures, Recording, events},
};

use differences::difference;

/// Recordings whose oracle is not compared, or not wholly.
pub(crate) fn is_special(id: &str) -> bool {
    matches!(id, "anthropic-036" | "anthropic-037" | "gemini-028")
}

/// What an answer must be.
#[derive(Debug, Default)]
struct Expected {
    /// The model that answers. Empty if the provider does not say.
    model: String,
    text: String,
    refusal: String,
    reasoning: Thoughts,
    calls: Vec<Call>,
    /// Signatures of texts, calls and parts without common form, for Gemini of thoughts too.
    signatures: Vec<String>,
    citations: Citations,
    /// The parts in their order, where the oracle knows it.
    order: Option<Vec<Piece>>,
    /// Parts without common form: the type and the whole object.
    own_parts: Vec<(String, Value)>,
    /// What is said beside the parts. Nothing else is.
    beside: BTreeMap<String, HowOften>,
    finish: FinishReason,
    /// The provider's own word for it: one of these.
    words: Vec<String>,
    stop_sequence: String,
    /// What `provider_details` has, at least.
    details: Value,
    usage: Option<Usage>,
    /// What `provider_usage` has, at least. Null if there is none.
    provider_usage: Value,
    /// Where the oracle and the recording do not fit.
    contradictions: Vec<String>,
}

#[derive(Debug)]
enum Thoughts {
    Blocks(Vec<Thought>),
    /// All text, in blocks that the oracle does not tell apart.
    Text(String),
}

impl Default for Thoughts {
    fn default() -> Self {
        Self::Blocks(Vec::new())
    }
}

#[derive(Debug, Default)]
struct Thought {
    text: String,
    /// One of these, or none if there are none.
    signatures: Vec<String>,
    redacted_data: String,
    id: String,
}

#[derive(Debug)]
struct Call {
    /// `None`: any that is not empty and not another call's.
    id: Option<String>,
    name: String,
    arguments: Arguments,
}

#[derive(Debug)]
enum Arguments {
    Json(Value),
    /// The answer ended inside the call: the fragments as they came.
    Cut(String),
}

#[derive(Debug)]
enum Citations {
    /// These, in this order, with all their fields.
    Exactly(Vec<Citation>),
    /// These, each once or more: source, place and words.
    These(Vec<Citation>),
}

impl Default for Citations {
    fn default() -> Self {
        Self::Exactly(Vec::new())
    }
}

/// A part of an answer, as far as its place in the order is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    /// `text`, `refusal`, `reasoning`, `call`, or the type of a part without common form.
    kind: String,
    /// The text, if it is known to the part.
    text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HowOften {
    Times(usize),
    OnceOrMore,
    /// It is allowed, and says nothing that must be relayed.
    IfAtAll,
}

/// Whether the recording and what the oracle says of it fit. Needs no answer.
pub(crate) fn contradictions(fixtures: &Fixtures, recording: &Recording) -> Vec<String> {
    match fixtures.oracle(recording) {
        Some(oracle) if recording.kind == "stream" && oracle.get("error").is_none() && !is_special(&recording.id) => {
            expected(fixtures, recording, oracle).contradictions
        }
        _ => Vec::new(),
    }
}

/// What is different from what it should be.
pub(crate) fn compare(fixtures: &Fixtures, recording: &Recording, answer: &Answer) -> Vec<String> {
    let oracle = fixtures.oracle(recording);
    match (recording.id.as_str(), recording.kind.as_str(), oracle) {
        // A proxy's fault: a second message begins in the middle of the first.
        ("anthropic-037", ..) => errors::truncated(answer, "PROVIDER_INTERNAL"),
        // No output and no end.
        ("gemini-028", ..) => errors::differences(answer, "Unavailable PROVIDER_UNREACHABLE"),
        // Several messages in one file: it ends, whole, at the first end.
        ("anthropic-036", ..) => anthropic::first_message(&events(&fixtures.body(recording)), answer),
        (_, "error", Some(oracle)) => errors::compare(recording, oracle, answer),
        (_, "stream", Some(oracle)) if oracle.get("error").is_some() => {
            errors::differences(answer, errors::class(0, &oracle["body"]))
        }
        (_, "stream", Some(oracle)) => {
            let mut found = differences::all(&expected(fixtures, recording, oracle), answer);
            found.extend(request_id(recording, answer));
            found
        }
        // Not a stream of events: a status, never an answer.
        (_, "json" | "stream", None) => {
            let began = answer.started.is_some() || answer.finished.is_some();
            let failed = answer.failure.is_some() && !began;
            difference("a status and no answer", &json!(true), &json!(failed)).into_iter().collect()
        }
        (_, kind, _) => vec![format!("a recording of kind {kind:?} without an oracle")],
    }
}

fn expected(fixtures: &Fixtures, recording: &Recording, oracle: &Value) -> Expected {
    let body = fixtures.body(recording);
    let events = events(&body);
    let mut expected = match recording.endpoint.as_str() {
        "anthropic.messages" => anthropic::expected(&recording.id, oracle, &events),
        "openai.chat" => openai_chat::expected(oracle, &events),
        "openai.responses" => responses::expected(oracle, &events),
        "gemini.generateContent" | "gemini.streamGenerateContent" => gemini::expected(oracle, &events),
        other => panic!("{}: nobody knows the endpoint {other}", recording.id),
    };
    oracle["model"].as_str().unwrap_or_default().clone_into(&mut expected.model);
    expected
}

/// The header by which the provider's support finds the request.
fn request_id(recording: &Recording, answer: &Answer) -> Option<String> {
    let sent = match recording.provider.as_str() {
        "anthropic" => recording.header("request-id"),
        "openai" => recording.header("x-request-id"),
        _ => return None,
    };
    // Without it, something else may stand for it.
    let found = answer.started.as_ref().filter(|_| !sent.is_empty())?.provider_request_id.as_str();
    difference("request id", &json!(sent), &json!(found))
}

/// Whether the oracle knows every call's id: the gateway makes those that a provider lacks.
pub(crate) fn knows_ids(oracle: Option<&Value>) -> bool {
    let calls = oracle.and_then(|oracle| oracle["tool_calls"].as_array()).map(Vec::as_slice).unwrap_or_default();
    calls.iter().all(|call| call["id"].is_string())
}

/// A call with its arguments as text or as JSON; Gemini's are read in its own module.
fn call(call: &Value) -> Call {
    let arguments = match &call["args"] {
        Value::String(text) if text.trim().is_empty() => json!({}),
        Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        Value::Null => json!({}),
        arguments => arguments.clone(),
    };
    Call {
        id: call["id"].as_str().map(str::to_owned),
        name: call["name"].as_str().unwrap_or_default().to_owned(),
        arguments: Arguments::Json(arguments),
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// Joins texts that follow each other: nothing tells them apart in our stream.
fn merged(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    for piece in pieces {
        match all.last_mut() {
            Some(last) if last.kind == piece.kind && matches!(piece.kind.as_str(), "text" | "refusal") => {
                last.text = last.text.take().zip(piece.text).map(|(one, other)| one + &other);
            }
            _ => all.push(piece),
        }
    }
    all
}
