//! What a refusal means.

use super::*;
use crate::provider::RejectionKind;

#[test]
fn each_refusal_has_its_meaning() {
    use RejectionKind as Kind;
    let low = "Your credit balance is too low to access the Anthropic API.";
    for (status, code, message, kind) in [
        (400, "invalid_request_error", "bad", Kind::InvalidRequest),
        (400, "invalid_request_error", low, Kind::Quota),
        (400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum", Kind::ContextLength),
        (401, "authentication_error", "invalid x-api-key", Kind::Key),
        (402, "billing_error", "", Kind::Quota),
        (403, "permission_error", "", Kind::Permission),
        (404, "not_found_error", "model: x", Kind::ModelNotFound),
        (408, "", "", Kind::Timeout),
        (413, "request_too_large", "", Kind::InvalidRequest),
        (422, "", "", Kind::InvalidRequest),
        (429, "rate_limit_error", "", Kind::RateLimited),
        (500, "api_error", "", Kind::Internal),
        (500, "overloaded_error", "", Kind::Overloaded),
        (502, "", "", Kind::Internal),
        (503, "", "", Kind::Overloaded),
        (504, "timeout_error", "", Kind::Timeout),
        (529, "overloaded_error", "Overloaded", Kind::Overloaded),
        (418, "", "", Kind::InvalidRequest),
        (599, "", "", Kind::Internal),
    ] {
        let body = json!({ "type": "error", "error": { "type": code, "message": message } }).to_string();
        let rejection = Anthropic.classify(status, &HeaderMap::new(), body.as_bytes());
        assert_eq!((rejection.kind, rejection.code.as_str(), rejection.message.as_str()), (kind, code, message));
    }
    for body in ["", "<html>413</html>"] {
        assert_eq!(Anthropic.classify(413, &HeaderMap::new(), body.as_bytes()).kind, Kind::InvalidRequest);
    }
}

#[test]
fn a_wait_is_believed_where_waiting_helps() {
    let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static("7"))]);
    let seven = Some(std::time::Duration::from_secs(7));
    assert_eq!(Anthropic.classify(429, &headers, b"").retry_after, seven);
    assert_eq!(Anthropic.classify(529, &headers, b"").retry_after, seven);
    assert_eq!(Anthropic.classify(401, &headers, b"").retry_after, None);
}
