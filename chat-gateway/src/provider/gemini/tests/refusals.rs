//! What refusals and errors mean.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::provider::{Broken, RejectionKind};

#[test]
fn an_error_in_the_stream_is_the_error_it_stands_for() {
    use RejectionKind as Kind;
    for (error, kind) in [
        (r#"{"code":503,"message":"M","status":"UNAVAILABLE"}"#, Kind::Overloaded),
        (r#"{"message":"M","status":"UNAVAILABLE"}"#, Kind::Overloaded),
        (r#"{"code":429,"message":"M","status":"RESOURCE_EXHAUSTED"}"#, Kind::RateLimited),
        (r#"{"code":400,"message":"M","details":[{"reason":"API_KEY_INVALID"}]}"#, Kind::Key),
        (r#"{"code":500,"message":"M","status":"INTERNAL"}"#, Kind::Internal),
        (r#"{"message":"M","status":"BRAND_NEW"}"#, Kind::Internal),
    ] {
        for data in [format!(r#"{{"error":{error}}}"#), format!(r#"[{{"error":{error}}}]"#)] {
            match answer(&[&data]).broken {
                Some(Broken::Rejected(rejection)) => {
                    assert_eq!((rejection.kind, rejection.message.as_str()), (kind, "M"), "{data}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn each_refusal_has_its_meaning() {
    use RejectionKind as Kind;
    let none = json!([]);
    let key = json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID" }]);
    let per_day = json!([{ "violations": [{ "quotaId": "PerMinute" }, { "quotaId": "RequestsPerDay-FreeTier" }] }]);
    let long = "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).";
    let missing = "Method doesn't allow unregistered callers (callers without established identity).";
    for (status, word, message, details, kind) in [
        (400, "INVALID_ARGUMENT", "bad", &none, Kind::InvalidRequest),
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", &key, Kind::Key),
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", &none, Kind::Key),
        (400, "INVALID_ARGUMENT", long, &none, Kind::ContextLength),
        (400, "FAILED_PRECONDITION", "User location is not supported.", &none, Kind::InvalidRequest),
        (401, "UNAUTHENTICATED", "", &none, Kind::Key),
        (403, "PERMISSION_DENIED", "", &none, Kind::Permission),
        (403, "PERMISSION_DENIED", missing, &none, Kind::Key),
        (404, "NOT_FOUND", "models/x is not found", &none, Kind::ModelNotFound),
        (429, "RESOURCE_EXHAUSTED", "", &none, Kind::RateLimited),
        (429, "RESOURCE_EXHAUSTED", "", &per_day, Kind::Quota),
        (500, "INTERNAL", "", &none, Kind::Internal),
        (503, "UNAVAILABLE", "The model is overloaded.", &none, Kind::Overloaded),
        (504, "DEADLINE_EXCEEDED", "", &none, Kind::Timeout),
    ] {
        let error = json!({ "error": { "code": status, "message": message, "status": word, "details": details } });
        for body in [error.clone(), json!([error])] {
            let rejection = Gemini.classify(status, &HeaderMap::new(), body.to_string().as_bytes());
            assert_eq!((rejection.kind, rejection.message.as_str()), (kind, message));
            assert_eq!(rejection.code, if *details == key { "API_KEY_INVALID" } else { word });
        }
    }
    assert_eq!(Gemini.classify(503, &HeaderMap::new(), b"").kind, Kind::Overloaded);
}

#[test]
fn the_wait_stands_in_the_details() {
    let body = json!({ "error": { "code": 429, "details": [{ "retryDelay": "48.5s" }] } }).to_string();
    let rejection = Gemini.classify(429, &HeaderMap::new(), body.as_bytes());
    assert_eq!(rejection.retry_after, Some(Duration::from_millis(48_500)));
}
