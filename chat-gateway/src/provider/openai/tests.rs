use serde_json::{Value, json};

use super::*;
use crate::{
    message::{Message, UserPart},
    provider::RejectionKind,
};

#[test]
fn a_chat_goes_to_chat_completions() {
    let user = UserPart::Text("Hi".to_owned());
    let chat = Chat { messages: vec![Message::User(vec![user.into()])], ..Chat::default() };
    let outbound = OpenAi.request("gpt-4o", &chat).unwrap();
    assert_eq!((outbound.path.as_str(), outbound.headers.len()), ("/chat/completions", 0));
    let body: Value = serde_json::from_slice(&outbound.body).unwrap();
    assert_eq!(body["messages"], json!([{ "role": "user", "content": "Hi" }]));
}

#[test]
fn the_key_goes_into_a_header_that_is_not_shown() {
    let (name, value) = OpenAi.credential(&KeyMaterial::new("sk-1".to_owned())).unwrap();
    assert_eq!(
        (name, value.as_bytes(), value.is_sensitive()),
        (header::AUTHORIZATION, b"Bearer sk-1".as_slice(), true)
    );
}

#[test]
fn each_refusal_has_its_meaning() {
    use RejectionKind as Kind;
    let long = "This model's maximum context length is 8192 tokens.";
    for (status, class, code, message, kind) in [
        (400, "invalid_request_error", "unsupported_value", "bad", Kind::InvalidRequest),
        (400, "invalid_request_error", "context_length_exceeded", "", Kind::ContextLength),
        (400, "invalid_request_error", "", long, Kind::ContextLength),
        (400, "invalid_request_error", "model_not_found", "", Kind::ModelNotFound),
        (401, "invalid_request_error", "invalid_api_key", "", Kind::Key),
        (401, "", "", "", Kind::Key),
        (402, "", "", "", Kind::Quota),
        (403, "", "unsupported_country_region_territory", "", Kind::Permission),
        (404, "invalid_request_error", "model_not_found", "", Kind::ModelNotFound),
        (408, "", "", "", Kind::Timeout),
        (413, "", "", "", Kind::InvalidRequest),
        (422, "", "", "", Kind::InvalidRequest),
        (429, "tokens", "rate_limit_exceeded", "", Kind::RateLimited),
        (429, "insufficient_quota", "insufficient_quota", "", Kind::Quota),
        (429, "insufficient_quota", "", "", Kind::Quota),
        (500, "server_error", "", "", Kind::Internal),
        (502, "", "", "", Kind::Internal),
        (503, "", "slow_down", "", Kind::Overloaded),
        (504, "", "", "", Kind::Timeout),
    ] {
        let error = json!({ "message": message, "type": class, "code": code, "param": null });
        // The inner error by itself means the same.
        for body in [json!({ "error": error }), error] {
            let rejection = OpenAi.classify(status, &HeaderMap::new(), body.to_string().as_bytes());
            let word = if code.is_empty() { class } else { code };
            assert_eq!((rejection.kind, rejection.code.as_str(), rejection.message.as_str()), (kind, word, message));
        }
    }
    assert_eq!(OpenAi.classify(502, &HeaderMap::new(), b"<html>").kind, Kind::Internal);
}
