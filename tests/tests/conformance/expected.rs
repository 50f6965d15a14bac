//! What a recording must come out as, from the vendor library's reading of it: the
//! mappings between the vendors' words and ours, written once more, apart from the code
//! under test.

use proto::chat::{FinishReason, Usage};
use serde_json::{Map, Value, json};
use system_tests::{answer::Answer, fixtures::Recording};

/// Recordings whose oracle is not compared, or not wholly.
pub(crate) fn is_special(id: &str) -> bool {
    matches!(id, "anthropic-016" | "anthropic-036" | "anthropic-037" | "gemini-028")
}

/// What is different from what it should be.
pub(crate) fn compare(recording: &Recording, oracle: Option<&Value>, answer: &Answer) -> Vec<String> {
    match (recording.id.as_str(), recording.kind.as_str(), oracle) {
        // A proxy's fault: a second message begins in the middle of the first.
        ("anthropic-037", ..) => expect_failure(answer, "Aborted STREAM_TRUNCATED", Some("PROVIDER_INTERNAL")),
        ("gemini-028", ..) => expect_failure(answer, "Unavailable PROVIDER_UNREACHABLE", None),
        // Several messages in one file: it ends, whole, at the first end.
        ("anthropic-036", ..) => {
            difference("finished", &json!(true), &json!(answer.finished.is_some())).into_iter().collect()
        }
        (_, "error", Some(oracle)) => expect_failure(answer, error_class(recording.http_status, &oracle["body"]), None),
        (_, "stream", Some(oracle)) if oracle.get("error").is_some() => {
            expect_failure(answer, error_class(0, &oracle["body"]), None)
        }
        (_, "stream", Some(oracle)) => stream(recording, oracle, answer),
        // Not a stream of events: never an answer.
        (_, "json" | "stream", None) => {
            difference("a status", &json!(true), &json!(answer.failure.is_some())).into_iter().collect()
        }
        (_, kind, _) => vec![format!("a recording of kind {kind:?} without an oracle")],
    }
}

fn stream(recording: &Recording, oracle: &Value, answer: &Answer) -> Vec<String> {
    if let Some(failure) = &answer.failure {
        return vec![format!("failed with {}: {}", failure.class(), failure.message)];
    }
    let choice = &oracle["choices"]["0"];
    let text = if recording.provider == "openai" { &choice["text"] } else { &oracle["text"] };
    let mut found = Vec::new();
    found.extend(difference("text", &json!(text.as_str().unwrap_or_default()), &json!(answer.text)));
    if recording.provider == "openai" {
        let refusal = choice["refusal"].as_str().unwrap_or_default();
        found.extend(difference("refusal", &json!(refusal), &json!(answer.refusal)));
    }
    found.extend(calls(recording, oracle, answer));
    let finished = answer.finished.clone().unwrap_or_default();
    let reason = match recording.provider.as_str() {
        "anthropic" => anthropic_finish(oracle),
        "openai" => openai_finish(oracle),
        _ => gemini_finish(oracle),
    };
    found.extend(difference("finish", &json!(reason.as_str_name()), &json!(finished.finish_reason().as_str_name())));
    let expected = match recording.provider.as_str() {
        "anthropic" => anthropic_usage(&oracle["usage"]),
        "openai" => openai_usage(&oracle["usage"]),
        _ => gemini_usage(&oracle["usage"]),
    };
    if expected != finished.usage {
        found.push(format!("usage: {:?} instead of {expected:?}", finished.usage));
    }
    if let Some(sequence) = oracle["stop_sequence"].as_str() {
        found.extend(difference("stop sequence", &json!(sequence), &json!(finished.stop_sequence)));
    }
    found
}

/// Id, name and arguments of each call. A null id means any that is not empty and not
/// another call's.
fn calls(recording: &Recording, oracle: &Value, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let expected = if recording.provider == "gemini" { gemini_calls(oracle) } else { plain_calls(oracle) };
    let names: Vec<_> = answer.calls.iter().map(|call| call.name.as_str()).collect();
    let expected_names: Vec<_> = expected.iter().map(|call| call.name.as_str()).collect();
    if names != expected_names {
        return vec![format!("calls: {names:?} instead of {expected_names:?}")];
    }
    for (n, (call, expected)) in answer.calls.iter().zip(&expected).enumerate() {
        if let Some(id) = &expected.id {
            found.extend(difference("id of a call", &json!(id), &json!(call.id)));
        }
        if answer.calls[..n].iter().any(|other| other.id == call.id) || call.id.is_empty() {
            found.push(format!("id of a call: {:?} is empty or another call's", call.id));
        }
        let arguments: Result<Value, _> = serde_json::from_str(&call.arguments);
        if recording.id == "anthropic-016" {
            // The answer ended inside the call; the library repairs what we hand on raw.
            if !call.incomplete || arguments.is_ok() {
                found.push("a cut call is not flagged, or was repaired".to_owned());
            }
            continue;
        }
        match arguments {
            Ok(arguments) => found.extend(difference("arguments", &expected.arguments, &arguments)),
            Err(_) => found.push(format!("arguments are not JSON: {}", call.arguments)),
        }
        found.extend(difference("incomplete", &json!(false), &json!(call.incomplete)));
    }
    found
}

struct Call {
    id: Option<String>,
    name: String,
    arguments: Value,
}

fn plain_calls(oracle: &Value) -> Vec<Call> {
    let calls = oracle["tool_calls"].as_array().cloned().unwrap_or_default();
    calls
        .into_iter()
        .map(|call| Call {
            id: call["id"].as_str().map(str::to_owned),
            name: call["name"].as_str().unwrap_or_default().to_owned(),
            arguments: match &call["args"] {
                Value::String(text) if text.is_empty() => json!({}),
                Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
                Value::Null => json!({}),
                arguments => arguments.clone(),
            },
        })
        .collect()
}

/// Calls whose arguments may come in parts: each named part with the `partial` values of
/// those that follow, by `json_path`, up to the closing part.
fn gemini_calls(oracle: &Value) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for part in oracle["tool_calls"].as_array().cloned().unwrap_or_default() {
        if let Some(name) = part["name"].as_str() {
            let arguments = if part["args"].is_null() { json!({}) } else { part["args"].clone() };
            calls.push(Call { id: part["id"].as_str().map(str::to_owned), name: name.to_owned(), arguments });
        }
        for piece in part["partial"].as_array().cloned().unwrap_or_default() {
            let call = calls.last_mut().expect("a piece follows a named part");
            let path = piece["json_path"].as_str().expect("a piece has a path");
            let place = place(&mut call.arguments, path);
            if let Some(text) = piece["string_value"].as_str() {
                let before = place.as_str().unwrap_or_default();
                *place = json!(format!("{before}{text}"));
            } else if !piece["number_value"].is_null() {
                *place = piece["number_value"].clone();
            } else if !piece["bool_value"].is_null() {
                *place = piece["bool_value"].clone();
            }
        }
    }
    calls
}

/// The place that a path such as `$.recipe.ingredients[0].amount` leads to.
fn place<'a>(mut root: &'a mut Value, path: &str) -> &'a mut Value {
    for step in path.trim_start_matches('$').replace('[', ".[").split('.').filter(|step| !step.is_empty()) {
        root = if let Some(index) = step.strip_prefix('[') {
            let index: usize = index.trim_end_matches(']').parse().expect("an index");
            if !root.is_array() {
                *root = json!([]);
            }
            let items = root.as_array_mut().expect("an array");
            while items.len() <= index {
                items.push(Value::Null);
            }
            &mut items[index]
        } else {
            if !root.is_object() {
                *root = Value::Object(Map::new());
            }
            root.as_object_mut().expect("an object").entry(step).or_insert(Value::Null)
        };
    }
    root
}

fn anthropic_finish(oracle: &Value) -> FinishReason {
    match oracle["finish"].as_str() {
        Some("end_turn") => FinishReason::Stop,
        Some("stop_sequence") => FinishReason::StopSequence,
        Some("max_tokens" | "model_context_window_exceeded") => FinishReason::Length,
        Some("tool_use") => FinishReason::ToolCalls,
        Some("refusal") => FinishReason::Refusal,
        Some("pause_turn") => FinishReason::Pause,
        _ => FinishReason::Other,
    }
}

fn openai_finish(oracle: &Value) -> FinishReason {
    let choice = &oracle["choices"]["0"];
    let refused = choice["refusal"].as_str().is_some_and(|text| !text.is_empty());
    let calls = oracle["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
    match choice["finish"].as_str() {
        Some("stop") if refused => FinishReason::Refusal,
        Some("stop") if calls => FinishReason::ToolCalls,
        Some("stop") => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        Some("tool_calls" | "function_call") => FinishReason::ToolCalls,
        Some("content_filter") => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}

fn gemini_finish(oracle: &Value) -> FinishReason {
    let calls = oracle["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
    if !oracle["prompt_block"].is_null() {
        return FinishReason::ContentFilter;
    }
    match oracle["finish"].as_str() {
        Some("STOP") if calls => FinishReason::ToolCalls,
        Some("STOP") => FinishReason::Stop,
        Some("MAX_TOKENS") => FinishReason::Length,
        Some(
            "SAFETY"
            | "RECITATION"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "MODEL_ARMOR"
            | "LANGUAGE"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
            | "IMAGE_OTHER",
        ) => FinishReason::ContentFilter,
        Some(
            "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MISSING_THOUGHT_SIGNATURE",
        ) => FinishReason::MalformedToolCall,
        Some("CONTINUATION") => FinishReason::Pause,
        _ => FinishReason::Other,
    }
}

fn anthropic_usage(usage: &Value) -> Option<Usage> {
    let count = |name: &str| usage[name].as_i64();
    let of = |name: &str| count(name).unwrap_or(0);
    let input = of("input_tokens") + of("cache_read_input_tokens") + of("cache_creation_input_tokens");
    usage.is_object().then(|| Usage {
        input_tokens: Some(input),
        cached_input_tokens: count("cache_read_input_tokens"),
        cache_write_tokens: count("cache_creation_input_tokens"),
        output_tokens: count("output_tokens"),
        reasoning_tokens: usage["output_tokens_details"]["thinking_tokens"].as_i64(),
        total_tokens: Some(input + of("output_tokens")),
    })
}

fn openai_usage(usage: &Value) -> Option<Usage> {
    usage.is_object().then(|| Usage {
        input_tokens: usage["prompt_tokens"].as_i64(),
        cached_input_tokens: usage["prompt_tokens_details"]["cached_tokens"].as_i64(),
        cache_write_tokens: usage["prompt_tokens_details"]["cache_write_tokens"].as_i64(),
        output_tokens: usage["completion_tokens"].as_i64(),
        reasoning_tokens: usage["completion_tokens_details"]["reasoning_tokens"].as_i64(),
        total_tokens: usage["total_tokens"].as_i64(),
    })
}

fn gemini_usage(usage: &Value) -> Option<Usage> {
    let count = |name: &str| usage[name].as_i64();
    // What neither part of was reported is not reported.
    let sum = |one: &str, other: &str| {
        let (one, other) = (count(one), count(other));
        one.or(other).map(|_| one.unwrap_or(0) + other.unwrap_or(0))
    };
    usage.is_object().then(|| Usage {
        input_tokens: sum("prompt_token_count", "tool_use_prompt_token_count"),
        cached_input_tokens: count("cached_content_token_count"),
        cache_write_tokens: None,
        output_tokens: sum("candidates_token_count", "thoughts_token_count"),
        reasoning_tokens: count("thoughts_token_count"),
        total_tokens: count("total_token_count"),
    })
}

/// Code and reason of a provider's error, from its status and its body. The oracle's body
/// of OpenAI is the inner object.
fn error_class(status: u16, body: &Value) -> &'static str {
    let error = if body["error"].is_object() { &body["error"] } else { body };
    let word = |name: &str| error[name].as_str().unwrap_or_default();
    let message = word("message");
    let key_invalid = error["details"]
        .as_array()
        .is_some_and(|details| details.iter().any(|detail| detail["reason"] == "API_KEY_INVALID"));
    let too_long = ["prompt is too long", "input token count", "maximum context length"];
    match (status, word("code")) {
        _ if key_invalid => "FailedPrecondition PROVIDER_KEY_INVALID",
        (_, "insufficient_quota") | (402, _) => "ResourceExhausted PROVIDER_QUOTA_EXHAUSTED",
        _ if message.contains("credit balance is too low") => "ResourceExhausted PROVIDER_QUOTA_EXHAUSTED",
        (_, "model_not_found") | (404, _) => "NotFound MODEL_NOT_FOUND",
        (_, "context_length_exceeded") => "InvalidArgument CONTEXT_LENGTH_EXCEEDED",
        (400, _) if too_long.iter().any(|text| message.contains(text)) => "InvalidArgument CONTEXT_LENGTH_EXCEEDED",
        (401, _) => "FailedPrecondition PROVIDER_KEY_INVALID",
        (403, _) => "FailedPrecondition PROVIDER_PERMISSION_DENIED",
        (429, _) if error.to_string().contains("PerDay") => "ResourceExhausted PROVIDER_QUOTA_EXHAUSTED",
        (429, _) => "ResourceExhausted PROVIDER_RATE_LIMITED",
        (400 | 413 | 422, _) => "InvalidArgument PROVIDER_INVALID_REQUEST",
        (503 | 529, _) => "Unavailable PROVIDER_OVERLOADED",
        (408 | 504, _) => "Unavailable PROVIDER_TIMEOUT",
        _ => "Unavailable PROVIDER_INTERNAL",
    }
}

fn expect_failure(answer: &Answer, class: &str, cause: Option<&str>) -> Vec<String> {
    let Some(failure) = &answer.failure else { return vec![format!("an answer instead of {class}")] };
    let mut found = Vec::new();
    found.extend(difference("failure", &json!(class), &json!(failure.class())));
    if let Some(cause) = cause {
        found.extend(difference("cause", &json!(cause), &json!(failure.value("cause"))));
    }
    found
}

fn difference(what: &str, expected: &Value, found: &Value) -> Option<String> {
    // 1 and 1.0 are one number to every provider.
    let same = expected == found || (expected.as_f64().is_some() && expected.as_f64() == found.as_f64());
    (!same).then(|| format!("{what}: {found} instead of {expected}"))
}
