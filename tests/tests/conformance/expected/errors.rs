//! What a provider's error must come out as, from its status and its body.

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::{answer::Answer, fixtures::Recording};

use super::{difference, list, word};

/// A failed call: its class, and what a caller reads of the provider's answer.
pub(super) fn compare(recording: &Recording, oracle: &Value, answer: &Answer) -> Vec<String> {
    let body = &oracle["body"];
    let class = class(recording.http_status, body);
    let mut found = differences(answer, class);
    let Some(failure) = &answer.failure else { return found };
    let status = recording.http_status.to_string();
    found.extend(difference("upstream_status", &json!(status), &json!(failure.value("upstream_status"))));
    if let Some(code) = code(recording, body) {
        found.extend(difference("upstream_code", &json!(code), &json!(failure.value("upstream_code"))));
    }
    if class.ends_with("PROVIDER_RATE_LIMITED") {
        let wait = wait(recording, body).map(|wait| wait.as_secs_f64());
        let said = failure.retry_after.map(|wait| wait.as_secs_f64());
        found.extend(difference("time to wait", &json!(wait), &json!(said)));
    }
    found
}

pub(super) fn differences(answer: &Answer, class: &str) -> Vec<String> {
    let Some(failure) = &answer.failure else { return vec![format!("an answer instead of {class}")] };
    difference("failure", &json!(class), &json!(failure.class())).into_iter().collect()
}

/// An answer that broke off.
pub(super) fn truncated(answer: &Answer, cause: &str) -> Vec<String> {
    let mut found = differences(answer, "Aborted STREAM_TRUNCATED");
    if let Some(failure) = &answer.failure {
        found.extend(difference("cause", &json!(cause), &json!(failure.value("cause"))));
    }
    found
}

/// Code and reason. The oracle's body of OpenAI is the inner object.
pub(super) fn class(status: u16, body: &Value) -> &'static str {
    let error = error(body);
    let message = word(error, "message").to_lowercase();
    let code = word(error, "code");
    let key_invalid = list(error, "details").iter().any(|detail| detail["reason"] == "API_KEY_INVALID");
    let too_long = ["prompt is too long", "input token count", "maximum context length"];
    match (status, code.as_str()) {
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

fn error(body: &Value) -> &Value {
    if body["error"].is_object() { &body["error"] } else { body }
}

/// The provider's own word for the error: its code, or else its type.
fn code(recording: &Recording, body: &Value) -> Option<String> {
    let error = error(body);
    let reason = list(error, "details").iter().find_map(|detail| detail["reason"].as_str());
    let found = match recording.provider.as_str() {
        "gemini" => reason.or(error["status"].as_str()),
        _ => error["code"].as_str().or(error["type"].as_str()),
    };
    found.map(str::to_owned)
}

/// How long the provider asks to wait: Gemini in the body, the others in a header.
fn wait(recording: &Recording, body: &Value) -> Option<Duration> {
    let delay = list(error(body), "details").iter().find_map(|detail| detail["retryDelay"].as_str());
    let seconds = |text: &str| text.parse().ok().map(Duration::from_secs_f64);
    match delay {
        Some(delay) => seconds(delay.trim_end_matches('s')),
        None => match recording.header("retry-after-ms").parse() {
            Ok(milliseconds) => Some(Duration::from_millis(milliseconds)),
            Err(_) => seconds(recording.header("retry-after")),
        },
    }
}
