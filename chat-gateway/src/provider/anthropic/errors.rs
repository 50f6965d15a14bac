//! What a refusal of Anthropic means.
//!
//! <https://platform.claude.com/docs/en/api/errors>. The status decides, but for what
//! only the type or the text tells: overload, no credit, too long a prompt. Inside a
//! stream there is no status, and the type decides.

use http::HeaderMap;

use crate::provider::{
    Rejection, RejectionKind, Standing,
    rejection::{self, ErrorBody},
};

pub(super) fn classify(status: u16, headers: &HeaderMap, body: &[u8]) -> Rejection {
    let body = ErrorBody::parse(body);
    let (code, message) = (body.word("type"), body.message());
    let kind = kind(status, &code, &message.to_ascii_lowercase());
    let retry_after = rejection::retry_after(headers).filter(|_| rejection::waiting_helps(kind));
    Rejection { kind, code, message, retry_after, should_retry: rejection::should_retry(headers) }
}

fn kind(status: u16, code: &str, message: &str) -> RejectionKind {
    if status == 402 || code == "billing_error" || message.contains("credit balance is too low") {
        return RejectionKind::Quota;
    }
    if message.contains("prompt is too long") || message.contains("exceed context limit") {
        return RejectionKind::ContextLength;
    }
    if code == "overloaded_error" {
        return RejectionKind::Overloaded;
    }
    rejection::kind_of_status(status).unwrap_or_else(|| kind_of_type(code))
}

fn kind_of_type(code: &str) -> RejectionKind {
    match code {
        "invalid_request_error" | "request_too_large" => RejectionKind::InvalidRequest,
        "authentication_error" => RejectionKind::Key,
        "permission_error" => RejectionKind::Permission,
        "not_found_error" => RejectionKind::ModelNotFound,
        "rate_limit_error" => RejectionKind::RateLimited,
        "timeout_error" => RejectionKind::Timeout,
        _ => RejectionKind::Internal,
    }
}

/// What a refusal to list the models says about the key, beyond its kind.
pub(super) fn standing(rejection: &Rejection) -> Option<Standing> {
    // A 400 or a 403 that is about the account and not about the request.
    let closed = rejection.message.to_ascii_lowercase().contains("organization has been disabled");
    if closed {
        return Some(Standing::Rejected);
    }
    // Said to whole countries before the key is looked at. What a key may not do is a
    // `permission_error`.
    (rejection.code == "forbidden").then_some(Standing::Unknown)
}
