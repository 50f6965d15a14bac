//! What a refusal of Gemini means.
//!
//! <https://ai.google.dev/gemini-api/docs/troubleshooting>, and `google.rpc` for the
//! details. A bad key is a 400 with the reason `API_KEY_INVALID`, no key a 403. A limit
//! that counts per day is a quota: waiting for minutes does not help.

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use crate::provider::{
    Rejection, RejectionKind, Standing,
    rejection::{self, ErrorBody},
};

pub(super) fn classify(status: u16, headers: &HeaderMap, body: &[u8]) -> Rejection {
    let body = ErrorBody::parse(body);
    let details = body.list("details");
    let reason = texts(details, "reason").next().unwrap_or_default();
    let word = body.word("status");
    let message = body.message();
    let kind = match refined(reason, details, &message.to_ascii_lowercase()) {
        Some(kind) if fits(kind, status) => kind,
        Some(_) | None => rejection::kind_of_status(status)
            .or_else(|| rejection::kind_of_status(body.word("code").parse().ok()?))
            .unwrap_or_else(|| kind_of_word(&word)),
    };
    let retry_after = wait(details).or_else(|| rejection::retry_after(headers));
    let code = if reason.is_empty() { word } else { reason.to_owned() };
    let retry_after = retry_after.filter(|_| rejection::waiting_helps(kind));
    Rejection { kind, code, message, retry_after, should_retry: rejection::should_retry(headers) }
}

/// What the details and the text tell beyond the status.
fn refined(reason: &str, details: &[Value], message: &str) -> Option<RejectionKind> {
    if reason == "API_KEY_INVALID" || KEY_TEXTS.iter().any(|text| message.contains(text)) {
        return Some(RejectionKind::Key);
    }
    if message.contains("input token count") && message.contains("exceeds") {
        return Some(RejectionKind::ContextLength);
    }
    let violations = details.iter().filter_map(|detail| detail["violations"].as_array()).flatten();
    let mut quotas = violations.filter_map(|violation| violation["quotaId"].as_str());
    quotas.any(|quota| quota.contains("PerDay")).then_some(RejectionKind::Quota)
}

/// Of a key that is wrong, expired, blocked as leaked, or was not sent.
const KEY_TEXTS: [&str; 5] = [
    "api key not valid",
    "api key expired",
    "reported as leaked",
    "unregistered callers",
    "without established identity",
];

/// A text is only believed where it can be said: another status may quote it.
fn fits(kind: RejectionKind, status: u16) -> bool {
    match kind {
        RejectionKind::Key => matches!(status, 200 | 400 | 401 | 403),
        RejectionKind::ContextLength => matches!(status, 200 | 400 | 413),
        RejectionKind::Quota => matches!(status, 200 | 429),
        RejectionKind::InvalidRequest
        | RejectionKind::ModelNotFound
        | RejectionKind::Permission
        | RejectionKind::RateLimited
        | RejectionKind::Overloaded
        | RejectionKind::Internal
        | RejectionKind::Timeout => true,
    }
}

/// `google.rpc.Code` by name, for an error without any number.
fn kind_of_word(word: &str) -> RejectionKind {
    match word {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => RejectionKind::InvalidRequest,
        "UNAUTHENTICATED" => RejectionKind::Key,
        "PERMISSION_DENIED" => RejectionKind::Permission,
        "NOT_FOUND" => RejectionKind::ModelNotFound,
        "RESOURCE_EXHAUSTED" => RejectionKind::RateLimited,
        "UNAVAILABLE" => RejectionKind::Overloaded,
        "DEADLINE_EXCEEDED" => RejectionKind::Timeout,
        _ => RejectionKind::Internal,
    }
}

/// `google.rpc.RetryInfo`: a number of seconds with an `s`.
fn wait(details: &[Value]) -> Option<Duration> {
    let delay = texts(details, "retryDelay").next()?;
    rejection::seconds(delay.strip_suffix('s')?.parse().ok()?)
}

fn texts<'a>(details: &'a [Value], field: &'static str) -> impl Iterator<Item = &'a str> {
    details.iter().filter_map(move |detail| detail[field].as_str())
}

/// What a refusal to list the models says about the key, beyond its kind: Google knows the key,
/// and has closed the API to it or to its project.
pub(super) fn standing(rejection: &Rejection) -> Option<Standing> {
    const CLOSED: [&str; 3] = ["SERVICE_DISABLED", "CONSUMER_SUSPENDED", "CONSUMER_INVALID"];
    let code = rejection.code.as_str();
    // `API_KEY_SERVICE_BLOCKED`, `API_KEY_IP_ADDRESS_BLOCKED` and their like.
    let blocked = code.starts_with("API_KEY_") && code.ends_with("_BLOCKED");
    (blocked || CLOSED.contains(&code)).then_some(Standing::Rejected)
}
