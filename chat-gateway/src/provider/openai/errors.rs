//! What a refusal of OpenAI means.
//!
//! <https://platform.openai.com/docs/guides/error-codes>. The code says more than the
//! status: no quota is a 429 like a rate limit, and an unknown model may be a 400.

use http::HeaderMap;

use crate::provider::{
    Rejection, RejectionKind, Reservation, Standing,
    rejection::{self, ErrorBody},
};

pub(super) fn classify(status: u16, headers: &HeaderMap, body: &[u8]) -> Rejection {
    let body = ErrorBody::parse(body);
    let (code, mut class, message) = (body.word("code"), body.word("type"), body.message());
    // The type of an event of the Responses API, which may be the error itself.
    if class == "error" {
        class.clear();
    }
    let kind = kind(status, &code, &class, &message.to_ascii_lowercase());
    let retry_after = rejection::retry_after(headers).filter(|_| rejection::waiting_helps(kind));
    let should_retry = rejection::should_retry(headers);
    Rejection { kind, code: if code.is_empty() { class } else { code }, message, retry_after, should_retry }
}

fn kind(status: u16, code: &str, class: &str, message: &str) -> RejectionKind {
    let is = |word: &str| code == word || class == word;
    if status == 402 || QUOTA.iter().any(|word| is(word)) {
        return RejectionKind::Quota;
    }
    if is("context_length_exceeded") || message.contains("maximum context length") {
        return RejectionKind::ContextLength;
    }
    if is("model_not_found") {
        return RejectionKind::ModelNotFound;
    }
    if is("invalid_api_key") {
        return RejectionKind::Key;
    }
    rejection::kind_of_status(status).unwrap_or_else(|| kind_of_words(code, class))
}

const QUOTA: [&str; 3] = ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"];

/// Inside a stream there is no status: the code, or else the type, stands for it.
fn kind_of_words(code: &str, class: &str) -> RejectionKind {
    kind_of_word(code).or_else(|| kind_of_word(class)).unwrap_or(RejectionKind::Internal)
}

fn kind_of_word(word: &str) -> Option<RejectionKind> {
    Some(match word {
        "rate_limit_exceeded" | "rate_limit_error" | "requests" | "tokens" => RejectionKind::RateLimited,
        "overloaded" | "overloaded_error" | "server_overloaded" | "slow_down" | "service_unavailable" => {
            RejectionKind::Overloaded
        }
        "timeout" | "request_timeout" | "vector_store_timeout" => RejectionKind::Timeout,
        "authentication_error" => RejectionKind::Key,
        "permission_error" | "permission_denied" | "unsupported_country_region_territory" => RejectionKind::Permission,
        "invalid_request_error"
        | "invalid_prompt"
        | "bio_policy"
        | "cyber_policy"
        | "misalignment_policy_violation"
        | "data_residency_mismatch"
        | "content_policy_violation" => RejectionKind::InvalidRequest,
        image if IMAGE.contains(&image) => RejectionKind::InvalidRequest,
        "not_found_error" => RejectionKind::ModelNotFound,
        "server_error" | "internal_error" | "api_error" => RejectionKind::Internal,
        // Servers that imitate the API put the status there.
        _ => rejection::kind_of_status(word.parse().ok()?)?,
    })
}

/// What may be wrong with an image, found out while the answer streams.
const IMAGE: [&str; 14] = [
    "empty_image_file",
    "failed_to_download_image",
    "image_content_policy_violation",
    "image_file_not_found",
    "image_file_too_large",
    "image_parse_error",
    "image_too_large",
    "image_too_small",
    "invalid_base64_image",
    "invalid_image",
    "invalid_image_format",
    "invalid_image_mode",
    "invalid_image_url",
    "unsupported_image_media_type",
];

/// What a refusal to list the models says about the key, beyond its kind.
pub(super) fn standing(rejection: &Rejection) -> Option<Standing> {
    // Of a restricted key without the scope for the list: a 403 or a 401, and a key that is valid.
    if rejection.message.to_ascii_lowercase().contains("missing scopes") {
        return Some(Standing::AcceptedWith(Reservation::NoList));
    }
    // Said to whole countries before the key is looked at.
    (rejection.code == "unsupported_country_region_territory").then_some(Standing::Unknown)
}
