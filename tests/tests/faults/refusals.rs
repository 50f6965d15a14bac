//! Rows 12, 13, 18 and 19: the provider refuses the request, its content or the key, or sends the
//! request elsewhere.

use std::time::Duration;

use proto::{
    chat::FinishReason,
    keyvault::{KeyMaterial, RotateApiKeyRequest},
};
use serde_json::json;
use system_tests::{
    FakeProvider, ORGANIZATION,
    fake_provider::Answer as Said,
    stage::{
        Case, material,
        row::Row,
        wire::{Api, data},
    },
};

use crate::attempts;

#[tokio::test]
async fn row_12_a_context_that_is_too_long_is_told_at_once() {
    let row = Row::new(12, "400 context too long").apis(&Api::ALL);
    row.holds(async |case| {
        let message = match case.api {
            Api::Messages => "prompt is too long: 210000 tokens > 200000 maximum",
            Api::ChatCompletions | Api::Responses => "This model's maximum context length is 128000 tokens.",
            Api::Gemini => "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
        };
        let other = case.api.fallback();
        case.says(case.api, [case.api.error_saying(400, message)]);
        case.says(other, [other.whole(3)]);
        let answer = case.asks(case.request(&[other])).await;
        assert_eq!(answer.failed().class(), "InvalidArgument CONTEXT_LENGTH_EXCEEDED");
        assert_eq!((case.tries(), case.attempts(other).len()), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn row_13_a_request_that_a_filter_refuses_is_not_routed_around_it() {
    let row = Row::new(13, "400 content filter").apis(&Api::ALL);
    row.holds(async |case| {
        let other = case.api.fallback();
        let why = "Output blocked by content filtering policy";
        case.says(case.api, [case.api.error_saying(400, why)]);
        case.says(other, [other.whole(3)]);
        let answer = case.asks(case.request(&[other])).await;
        let failure = answer.failed();
        assert_eq!(failure.class(), "InvalidArgument PROVIDER_INVALID_REQUEST");
        assert!(failure.message.contains(why), "the reason reaches the caller: {}", failure.message);
        assert_eq!((case.tries(), case.attempts(other).len()), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn row_13_an_answer_that_a_filter_withholds_says_so() {
    let row = Row::new(13, "200 content filter");
    row.holds(async |case| {
        let (said, reason) = match case.api {
            Api::Messages => (case.api.opening() + &case.api.stops_early("refusal"), FinishReason::Refusal),
            Api::Gemini => {
                let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}});
                (data(&[blocked]), FinishReason::ContentFilter)
            }
            Api::ChatCompletions | Api::Responses => {
                (case.api.opening() + &case.api.stops_early("content_filter"), FinishReason::ContentFilter)
            }
        };
        let other = case.api.fallback();
        case.says(case.api, [Said::stream(said)]);
        case.says(other, [other.whole(3)]);
        let answer = case.asks(case.request(&[other])).await;
        let finished = answer.finished.unwrap_or_else(|| panic!("a whole answer: {:?}", answer.failure));
        assert_eq!(finished.finish_reason(), reason);
        assert!(!finished.provider_finish_reason.is_empty(), "the provider's word reaches the caller");
        assert_eq!(answer.started.expect("started").provider(), case.api.provider());
        assert_eq!((case.tries(), case.attempts(other).len()), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn row_18_a_key_that_was_just_rotated_is_resolved_once_more() {
    let row = Row::new(18, "401 for a key that was just rotated");
    row.holds(async |case| {
        let before = case.another();
        before.says(case.api, [case.api.whole(1)]);
        before.plainly().await.is_whole(case.api, 1);

        let (old, new) = (material(case.api), format!("{}-rotated", material(case.api)));
        let (api, refused) = (case.api, old.clone());
        case.says_by(case.api, move |received| {
            // Late, so that the key is rotated while the request is on its way.
            let refusal = api.error(401).thinking(Duration::from_secs(1));
            if received.key() == refused { refusal } else { api.whole(3) }
        });
        let rotated = async {
            case.is_asked().await;
            rotate(&case, &new).await;
        };
        let (answer, ()) = tokio::join!(case.plainly(), rotated);
        answer.is_whole(case.api, 3);
        let keys: Vec<String> = case.attempts(case.api).iter().map(|attempt| attempt.key().to_owned()).collect();
        assert_eq!(keys, [old, new]);
    })
    .await;
}

async fn rotate(case: &Case, material: &str) {
    let request = RotateApiKeyRequest {
        organization_id: ORGANIZATION.to_owned(),
        api_key_id: case.key(case.api).to_owned(),
        material: Some(KeyMaterial { api_key: material.to_owned() }),
        ..Default::default()
    };
    case.stage.system.keys.clone().rotate_api_key(request).await.expect("the key is rotated");
}

#[tokio::test]
async fn row_18_a_key_that_stays_refused_is_named() {
    let row = Row::new(18, "401 for ever");
    row.holds(async |case| {
        case.says(case.api, [case.api.error(401)]);
        let answer = case.plainly().await;
        let failure = answer.failed();
        assert_eq!(failure.class(), "FailedPrecondition PROVIDER_KEY_INVALID");
        assert_eq!(failure.value("api_key_id"), case.key(case.api));
        assert_eq!((case.tries(), attempts(failure)), (2, 2));

        let case = case.another();
        let other = case.api.fallback();
        case.says(case.api, [case.api.error(401)]);
        case.says(other, [other.whole(3)]);
        case.asks(case.request(&[other])).await.is_whole(other, 3);
        assert_eq!((case.tries(), case.attempts(other).len()), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn row_19_no_redirect_is_followed() {
    let row = Row::new(19, "redirect to another host, five codes");
    row.holds(async |case| {
        let elsewhere = FakeProvider::start().await.expect("another server");
        for status in [301, 302, 303, 307, 308] {
            let case = case.another();
            let path = if status == 308 { "" } else { "/v1/messages" };
            let to = format!("{}{path}", elsewhere.url());
            case.says(case.api, [Said::json(status, "").header("location", &to)]);
            let answer = case.plainly().await;
            assert_eq!(answer.failed().class(), "Unavailable PROVIDER_INTERNAL", "{status}");
            assert_eq!(answer.failed().value("upstream_status"), status.to_string());
            case.is_healthy_afterwards().await;
        }
        assert!(elsewhere.received().is_empty(), "the key never leaves");
        assert_eq!(elsewhere.connected(), 0, "nor does anything else");
    })
    .await;
}
