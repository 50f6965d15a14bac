use super::{super::of, Standing::*, *};
use crate::message::Provider as Name;

const NO_LIST: Standing = AcceptedWith(Reservation::NoList);
const NO_QUOTA: Standing = AcceptedWith(Reservation::NoQuota);

#[test]
fn what_every_provider_says_alike() {
    for name in Name::ALL {
        for (status, body, expected) in [
            (200, "{}", WrongEndpoint),
            (200, r#"{"data":"none"}"#, WrongEndpoint),
            (200, "<html><body>Welcome</body></html>", WrongEndpoint),
            (200, "", WrongEndpoint),
            (204, "", WrongEndpoint),
            (301, "", WrongEndpoint),
            (302, "<html></html>", WrongEndpoint),
            (307, r#"{"error":{"message":"moved"}}"#, WrongEndpoint),
            (404, r#"{"error":{"message":"no such path"}}"#, WrongEndpoint),
            (405, "", WrongEndpoint),
            (401, "<html><body>Sign in</body></html>", WrongEndpoint),
            (403, "\n<!DOCTYPE html>", WrongEndpoint),
            (401, r#"{"error":{"message":"no"}}"#, Rejected),
            (401, "", Rejected),
            (402, r#"{"error":{"message":"pay"}}"#, NO_QUOTA),
            (403, r#"{"error":{"message":"you may not"}}"#, NO_LIST),
            (429, r#"{"error":{"message":"slow down"}}"#, RateLimited),
            (400, r#"{"error":{"message":"what?"}}"#, Unknown),
            (408, "", Unknown),
            (500, "", Unknown),
            (502, "<html>bad gateway</html>", Unknown),
            (503, "", Unknown),
            (504, "", Unknown),
            (529, "", Unknown),
        ] {
            let checked = judge(of(name), status, &HeaderMap::new(), body.as_bytes(), true);
            assert_eq!(checked.standing, expected, "{name} {status} {body}");
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one row a refusal")]
fn what_each_provider_says_in_its_own_way() {
    for (name, status, body, expected) in [
        (Name::Anthropic, 200, r#"{"data":[{"type":"model","id":"claude-sonnet-4-5"}],"has_more":false}"#, Accepted),
        (Name::Anthropic, 200, r#"{"models":[{"name":"models/gemini-2.5-flash"}]}"#, WrongEndpoint),
        (
            Name::Anthropic,
            401,
            r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
            Rejected,
        ),
        (
            Name::Anthropic,
            403,
            r#"{"type":"error","error":{"type":"permission_error","message":"not this resource"}}"#,
            NO_LIST,
        ),
        (Name::Anthropic, 403, r#"{"error":{"type":"forbidden","message":"Request not allowed"}}"#, Unknown),
        (
            Name::Anthropic,
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}}"#,
            Rejected,
        ),
        (
            Name::Anthropic,
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#,
            NO_QUOTA,
        ),
        (Name::Anthropic, 200, r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#, Rejected),
        (Name::OpenAi, 200, r#"{"object":"list","data":[{"id":"gpt-5","object":"model"}]}"#, Accepted),
        (Name::OpenAi, 200, r#"{"object":"list","data":[]}"#, Accepted),
        (Name::OpenAi, 200, r#"{"data":[{"name":"x"}]}"#, WrongEndpoint),
        (
            Name::OpenAi,
            403,
            r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: api.model.read.","type":"invalid_request_error","param":null,"code":"missing_scope"}}"#,
            NO_LIST,
        ),
        (
            Name::OpenAi,
            403,
            r#"{"error":{"message":"Country not supported","type":"request_forbidden","code":"unsupported_country_region_territory"}}"#,
            Unknown,
        ),
        (
            Name::OpenAi,
            401,
            r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: api.model.read","type":"invalid_request_error"}}"#,
            NO_LIST,
        ),
        (
            Name::OpenAi,
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            NO_QUOTA,
        ),
        (Name::Gemini, 200, r#"{"models":[{"name":"models/gemini-2.5-flash"}],"nextPageToken":"x"}"#, Accepted),
        (Name::Gemini, 200, r#"{"data":[{"id":"gpt-5"}]}"#, WrongEndpoint),
        (
            Name::Gemini,
            400,
            r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
            Rejected,
        ),
        (
            Name::Gemini,
            400,
            r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#,
            Unknown,
        ),
        (
            Name::Gemini,
            403,
            r#"{"error":{"code":403,"message":"Method doesn't allow unregistered callers","status":"PERMISSION_DENIED"}}"#,
            Rejected,
        ),
        (
            Name::Gemini,
            403,
            r#"{"error":{"code":403,"message":"blocked","status":"PERMISSION_DENIED","details":[{"reason":"API_KEY_SERVICE_BLOCKED"}]}}"#,
            Rejected,
        ),
        (
            Name::Gemini,
            403,
            r#"{"error":{"code":403,"message":"not enabled","status":"PERMISSION_DENIED","details":[{"reason":"SERVICE_DISABLED"}]}}"#,
            Rejected,
        ),
        (
            Name::Gemini,
            429,
            r#"{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"RequestsPerDayPerProject"}]}]}}"#,
            NO_QUOTA,
        ),
    ] {
        let checked = judge(of(name), status, &HeaderMap::new(), body.as_bytes(), true);
        assert_eq!(checked.standing, expected, "{name} {status} {body}");
    }
}

#[test]
fn a_list_that_broke_off_says_nothing() {
    let body = br#"{"object":"list","data":[{"id":"gpt-5","#;
    assert_eq!(judge(of(Name::OpenAi), 200, &HeaderMap::new(), body, false).standing, Unknown);
    assert_eq!(judge(of(Name::OpenAi), 200, &HeaderMap::new(), body, true).standing, WrongEndpoint);
}
