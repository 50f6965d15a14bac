//! Rows 8, 10, 11, 14 and 17: the stream of an answer breaks.

use system_tests::{
    fake_provider::{Answer as Said, End},
    stage::{
        row::Row,
        wire::{Api, text},
    },
};

use crate::{assert_backs_off, attempts};

#[tokio::test]
async fn row_08_a_cut_answer_is_never_a_finished_one() {
    let row = Row::new(8, "cut after 40 of 60 tokens").apis(&Api::ALL);
    row.holds(async |case| {
        let begun = case.api.opening() + &case.api.tokens(0..40);
        case.says(case.api, [Said::stream(begun).ending(End::Cut)]);
        let other = case.api.fallback();
        case.says(other, [other.whole(60)]);
        let answer = case.asks(case.request(&[other])).await;
        answer.is_truncated(case.api, 40, "PROVIDER_UNREACHABLE");
        assert_eq!((case.tries(), case.attempts(other).len()), (1, 0), "a repeat would be billed twice");
        case.nothing_stays_open().await;
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_10_what_cannot_be_read_is_a_clean_failure() {
    let row = Row::new(10, "malformed bytes or JSON mid-stream").apis(&Api::ALL);
    row.holds(async |case| {
        for malformed in [&b"data: {\"type\": nonsense\n\n"[..], b"data: \xff\xfe\x00\x80\n\n", b"data: {\n\n"] {
            let case = case.another();
            let body = [case.api.opening().as_bytes(), case.api.tokens(0..5).as_bytes(), malformed].concat();
            let rest = case.api.tokens(5..8) + &case.api.closing(8);
            case.says(case.api, [Said::stream([&body, rest.as_bytes()].concat())]);
            case.plainly().await.is_truncated(case.api, 5, "PROVIDER_INTERNAL");
            assert_eq!(case.tries(), 1);
            case.nothing_stays_open().await;
            case.is_healthy_afterwards().await;
        }
    })
    .await;
}

#[tokio::test]
async fn row_11_an_end_without_its_terminal_event_is_truncated() {
    let row = Row::new(11, "ends without its terminal event").apis(&Api::ALL);
    row.holds(async |case| {
        case.says(case.api, [Said::stream(case.api.opening() + &case.api.tokens(0..5))]);
        case.plainly().await.is_truncated(case.api, 5, "PROVIDER_UNREACHABLE");
        assert_eq!(case.tries(), 1);
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_14_a_stream_that_is_cut_before_output_is_begun_anew_elsewhere() {
    let row = Row::new(14, "cut before output, then the fallback refuses");
    row.holds(async |case| {
        let other = case.api.fallback();
        case.says(case.api, [Said::stream(case.api.opening()).ending(End::Cut)]);
        case.says(other, [other.error(403)]);
        let answer = case.asks(case.request(&[other])).await;
        let failure = answer.failed();
        assert_eq!(failure.class(), "Unavailable PROVIDER_UNREACHABLE", "the first error is not masked");
        assert_eq!(failure.value("model"), case.api.model());
        let [fallback] = &case.attempts(other)[..] else { panic!("the fallback is asked once") };
        assert_eq!((case.tries(), attempts(failure)), (3, 4));
        // From the start: nothing of the first answer goes along.
        let body = String::from_utf8_lossy(&fallback.body);
        assert!(!body.contains("\"assistant\"") && !body.contains("\"role\":\"model\""), "{body}");
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_14_a_stream_that_is_cut_after_output_is_not_continued() {
    let row = Row::new(14, "cut after output, a fallback that refuses the prefix");
    row.holds(async |case| {
        let other = case.api.fallback();
        case.says(case.api, [Said::stream(case.api.opening() + &case.api.tokens(0..5)).ending(End::Cut)]);
        case.says(other, [other.error_saying(400, "the last message must not be the assistant's")]);
        let answer = case.asks(case.request(&[other])).await;
        answer.is_truncated(case.api, 5, "PROVIDER_UNREACHABLE");
        assert_eq!((case.tries(), case.attempts(other).len()), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn row_17_an_error_event_before_output_is_the_error_that_it_stands_for() {
    let row = Row::new(17, "error event first in a 200 stream").apis(&Api::ALL);
    row.holds(async |case| {
        let overload = Said::stream(case.api.opening() + &case.api.error_event(503));
        case.says(case.api, [overload.clone(), case.api.whole(3)]);
        case.plainly().await.is_whole(case.api, 3);
        assert_eq!(case.tries(), 2);
        assert_backs_off(&case.gaps());

        let case = case.another();
        case.says(case.api, [overload.clone()]);
        let answer = case.plainly().await;
        assert_eq!(answer.failed().class(), "Unavailable PROVIDER_OVERLOADED");
        assert_eq!((case.tries(), attempts(answer.failed())), (3, 3));
        case.is_healthy_afterwards().await;

        let case = case.another();
        let other = case.api.fallback();
        case.says(case.api, [overload]);
        case.says(other, [other.whole(3)]);
        case.asks(case.request(&[other])).await.is_whole(other, 3);
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_17_an_error_event_after_output_aborts_with_its_cause() {
    let row = Row::new(17, "error event mid-stream in a 200 stream").apis(&Api::ALL);
    row.holds(async |case| {
        let other = case.api.fallback();
        let broken = case.api.opening() + &case.api.tokens(0..5) + &case.api.error_event(503);
        case.says(case.api, [Said::stream(broken)]);
        case.says(other, [other.whole(3)]);
        let answer = case.asks(case.request(&[other])).await;
        answer.is_truncated(case.api, 5, "PROVIDER_OVERLOADED");
        assert_eq!(answer.text, text(0..5));
        assert_eq!((case.tries(), case.attempts(other).len()), (1, 0));
        case.nothing_stays_open().await;
        case.is_healthy_afterwards().await;
    })
    .await;
}
