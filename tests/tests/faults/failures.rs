//! Rows 3, 4, 5 and 16: the provider fails before it answers.

use crate::{assert_backs_off, attempts};
use system_tests::{
    fake_provider::{Answer as Said, End},
    replicas::eventually,
    stage::{
        row::Row,
        wire::{Api, INPUT_TOKENS},
    },
};

#[tokio::test]
async fn row_03_a_failure_is_tried_again_once() {
    let row = Row::new(3, "500 once, then healthy").apis(&Api::ALL);
    row.holds(async |case| {
        case.says(case.api, [case.api.error(500), case.api.whole(3)]);
        case.plainly().await.is_whole(case.api, 3);
        assert_eq!(case.tries(), 2);
        assert_backs_off(&case.gaps());
    })
    .await;
}

#[tokio::test]
async fn row_04_overload_for_ever_is_told_or_goes_to_the_fallback() {
    let row = Row::new(4, "503 or 529 for ever");
    row.holds(async |case| {
        let overload = case.api.error(case.api.overloaded());
        case.says(case.api, [overload.clone()]);
        let answer = case.plainly().await;
        let failure = answer.failed();
        assert_eq!(failure.class(), "Unavailable PROVIDER_OVERLOADED");
        assert_eq!((case.tries(), attempts(failure)), (3, 3));
        assert_eq!(failure.value("upstream_status"), case.api.overloaded().to_string());
        assert_backs_off(&case.gaps());
        // So that no circuit breaks: that is another row.
        case.is_healthy_afterwards().await;

        let case = case.another();
        let other = case.api.fallback();
        case.says(case.api, [overload]);
        case.says(other, [other.whole(3)]);
        case.asks(case.request(&[other])).await.is_whole(other, 3);
        assert_eq!((case.tries(), case.attempts(other).len()), (3, 1));
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_04_if_all_fail_the_status_is_that_of_the_first() {
    let row = Row::new(4, "503 or 529 for ever, and the fallback refuses the key");
    row.holds(async |case| {
        let other = case.api.fallback();
        case.says(case.api, [case.api.error(case.api.overloaded())]);
        case.says(other, [other.error(403)]);
        let answer = case.asks(case.request(&[other])).await;
        let failure = answer.failed();
        assert_eq!(failure.class(), "Unavailable PROVIDER_OVERLOADED");
        assert_eq!((failure.value("model"), failure.value("api_key_id")), (case.api.model(), case.key(case.api)));
        assert_eq!((case.tries(), case.attempts(other).len(), attempts(failure)), (3, 1, 4));
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_05_a_reset_before_the_headers_is_tried_again() {
    let row = Row::new(5, "connection reset before headers, once").apis(&Api::ALL);
    row.holds(async |case| {
        let reset = Said::stream("").ending(End::ResetBeforeHeaders);
        case.says(case.api, [reset, case.api.whole(3)]);
        case.plainly().await.is_whole(case.api, 3);
        assert_eq!(case.tries(), 2);
        assert_backs_off(&case.gaps());
        case.nothing_stays_open().await;
    })
    .await;
}

#[tokio::test]
async fn row_05_a_reset_for_ever_is_unavailable() {
    let row = Row::new(5, "connection reset before headers, for ever");
    row.holds(async |case| {
        case.says(case.api, [Said::stream("").ending(End::ResetBeforeHeaders)]);
        let answer = case.plainly().await;
        assert_eq!(answer.failed().class(), "Unavailable PROVIDER_UNREACHABLE");
        assert!((1..=3).contains(&case.tries()), "{} attempts", case.tries());
        case.nothing_stays_open().await;
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_16_the_answer_names_who_really_answered_and_is_billed_alone() {
    let row = Row::new(16, "primary 503, fallback answers");
    row.holds(async |case| {
        let other = case.api.fallback();
        let before = (case.used(case.api).await, case.used(other).await);
        case.says(case.api, [case.api.error(503)]);
        case.says(other, [other.whole(7)]);
        let answer = case.asks(case.request(&[other])).await;
        answer.is_whole(other, 7);
        assert_eq!(answer.started.expect("started").api_key_id, case.key(other));
        // The key of the fallback is charged for the answer, and the other one for nothing.
        let of_other = eventually("the answer is in the ledger", async || {
            let row = case.used(other).await;
            (row.call_count > before.1.call_count).then_some(row)
        })
        .await;
        assert_eq!(of_other.call_count - before.1.call_count, 1);
        assert_eq!(of_other.input_tokens - before.1.input_tokens, INPUT_TOKENS);
        assert_eq!(of_other.output_tokens - before.1.output_tokens, 7);
        assert_eq!(of_other.failed_count, before.1.failed_count);
        let tries = i64::try_from(case.tries()).expect("a small number");
        let of_primary = eventually("the failures are in the ledger", async || {
            let row = case.used(case.api).await;
            (row.failed_count - before.0.failed_count >= tries).then_some(row)
        })
        .await;
        assert_eq!(of_primary.failed_count - before.0.failed_count, tries);
        assert_eq!(of_primary.input_tokens, before.0.input_tokens);
        assert_eq!(of_primary.output_tokens, before.0.output_tokens);
    })
    .await;
}
