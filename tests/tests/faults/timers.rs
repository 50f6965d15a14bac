//! Rows 6, 7 and 9: the provider is slow, or says nothing.

use std::time::{Duration, Instant};

use system_tests::{
    fake_provider::{Answer as Said, End},
    stage::row::{Row, wait},
};

use crate::SLACK;

const LIMIT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn row_06_silence_before_the_headers_ends_at_its_timer() {
    let row = Row::new(6, "accepts and says nothing").options(&["--headers-timeout=0.5"]);
    row.holds(async |case| {
        let silence = Said::stream("").ending(End::SilenceBeforeHeaders);
        case.says(case.api, [silence]);
        let begin = Instant::now();
        let answer = case.plainly().await;
        let took = begin.elapsed();
        assert_eq!(answer.failed().class(), "DeadlineExceeded FIRST_EVENT_TIMEOUT");
        assert!(took >= LIMIT && took < LIMIT + SLACK, "{took:?}");
        let [only] = &case.attempts(case.api)[..] else { panic!("no second attempt at this model") };
        case.nothing_stays_open().await;
        assert!(case.stage.system.provider.left(only.number).is_some(), "the provider sees the gateway leave");
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_06_silence_before_the_headers_goes_to_the_fallback() {
    let row = Row::new(6, "accepts and says nothing, and a fallback").options(&["--headers-timeout=0.5"]);
    row.holds(async |case| {
        let other = case.api.fallback();
        case.says(case.api, [Said::stream("").ending(End::SilenceBeforeHeaders)]);
        case.says(other, [other.whole(3)]);
        case.asks(case.request(&[other])).await.is_whole(other, 3);
        assert_eq!((case.tries(), case.attempts(other).len()), (1, 1));
        case.nothing_stays_open().await;
    })
    .await;
}

#[tokio::test]
async fn row_07_a_late_first_token_is_waited_for() {
    let late = wait(Duration::from_secs(2), Duration::from_secs(20));
    let what = format!("first token after {} s", late.as_secs());
    let row = Row::new(7, &what);
    row.holds_at_once(async |case| {
        let rest = [case.api.tokens(0..3), case.api.closing(3)].concat();
        case.says(case.api, [Said::stream(case.api.opening()).and_after(late, rest)]);
        let begin = Instant::now();
        case.plainly().await.is_whole(case.api, 3);
        assert!(begin.elapsed() >= late);
        assert_eq!(case.tries(), 1);
    })
    .await;
}

#[tokio::test]
async fn row_07_a_late_first_token_ends_at_a_limit_that_is_set() {
    let late = wait(Duration::from_secs(2), Duration::from_secs(20));
    let what = format!("first token after {} s, a limit of 0.5 s", late.as_secs());
    let row = Row::new(7, &what).options(&["--first-event-timeout=0.5"]);
    row.holds(async |case| {
        let said = Said::stream(case.api.opening()).and_after(late, case.api.tokens(0..3));
        case.says(case.api, [said]);
        let begin = Instant::now();
        let answer = case.plainly().await;
        let took = begin.elapsed();
        assert_eq!(answer.failed().class(), "DeadlineExceeded FIRST_EVENT_TIMEOUT");
        assert!(took >= LIMIT && took < LIMIT + SLACK, "{took:?}");
        assert_eq!(case.tries(), 1, "no second attempt at this model");
        case.nothing_stays_open().await;
        case.is_healthy_afterwards().await;
    })
    .await;
}

#[tokio::test]
async fn row_07_a_late_first_token_goes_to_the_fallback_at_a_limit_that_is_set() {
    let late = wait(Duration::from_secs(2), Duration::from_secs(20));
    let what = format!("first token after {} s, a limit of 0.5 s and a fallback", late.as_secs());
    let row = Row::new(7, &what).options(&["--first-event-timeout=0.5"]);
    row.holds(async |case| {
        let other = case.api.fallback();
        case.says(case.api, [Said::stream(case.api.opening()).and_after(late, case.api.tokens(0..3))]);
        case.says(other, [other.whole(3)]);
        let begin = Instant::now();
        case.asks(case.request(&[other])).await.is_whole(other, 3);
        assert!(begin.elapsed() < LIMIT + SLACK, "{:?}", begin.elapsed());
        assert_eq!((case.tries(), case.attempts(other).len()), (1, 1));
        case.nothing_stays_open().await;
    })
    .await;
}

#[tokio::test]
async fn row_09_a_stall_ends_at_the_idle_timer() {
    let row = Row::new(9, "stalls mid-stream, connection open").options(&["--idle-timeout=0.5"]);
    row.holds(async |case| {
        let beginning = case.api.opening() + &case.api.tokens(0..5);
        case.says(case.api, [Said::stream(beginning).ending(End::Silence)]);
        let begin = Instant::now();
        let answer = case.asks(case.request(&[case.api.fallback()])).await;
        let took = begin.elapsed();
        answer.is_truncated(case.api, 5, "IDLE_TIMEOUT");
        assert!(took >= LIMIT && took < LIMIT + SLACK, "{took:?}");
        let [only] = &case.attempts(case.api)[..] else { panic!("an answer that has begun is not asked for again") };
        case.nothing_stays_open().await;
        assert!(case.stage.system.provider.left(only.number).is_some(), "the provider sees the gateway leave");
        case.is_healthy_afterwards().await;
    })
    .await;
}
