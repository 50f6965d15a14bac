//! Rows 1 and 2: the provider limits requests.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use system_tests::stage::row::Row;

use crate::{SLACK, assert_backs_off, attempts};

const WAIT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn row_01_a_limit_that_says_how_long_is_waited_for() {
    let row = Row::new(1, "429 with Retry-After: 2, once");
    row.holds_at_once(async |case| {
        case.says(case.api, [case.api.limited(2), case.api.whole(3)]);
        case.plainly().await.is_whole(case.api, 3);
        let [gap] = case.gaps()[..] else { panic!("two attempts: {:?}", case.gaps()) };
        assert!(gap >= WAIT && gap <= WAIT + WAIT / 2 + SLACK, "{gap:?} in place of {WAIT:?}");
    })
    .await;
}

#[tokio::test]
async fn row_01_a_limit_beyond_the_deadline_is_told_at_once() {
    let row = Row::new(1, "429 with Retry-After beyond the caller's deadline, or longer than is waited");
    row.holds(async |case| {
        for (says, deadline) in [(2, Duration::from_secs(1)), (60, Duration::from_mins(2))] {
            let case = case.another();
            case.says(case.api, [case.api.limited(says)]);
            let begin = Instant::now();
            let answer = case.asks_within(deadline, case.request(&[])).await;
            assert!(begin.elapsed() < SLACK, "at once, not after {:?}", begin.elapsed());
            let failure = answer.failed();
            assert_eq!(failure.class(), "ResourceExhausted PROVIDER_RATE_LIMITED");
            assert_eq!(failure.retry_after, Some(Duration::from_secs(says.into())));
            assert_eq!((case.tries(), failure.value("upstream_status")), (1, "429"));
        }
    })
    .await;
}

#[tokio::test]
async fn row_01_a_limit_beyond_the_deadline_is_taken_to_the_fallback() {
    let row = Row::new(1, "429 with Retry-After: 60, and a fallback");
    row.holds(async |case| {
        let other = case.api.fallback();
        case.says(case.api, [case.api.limited(60)]);
        case.says(other, [other.whole(3)]);
        let begin = Instant::now();
        case.asks(case.request(&[other])).await.is_whole(other, 3);
        assert!(begin.elapsed() < SLACK, "at once, not after {:?}", begin.elapsed());
        assert_eq!((case.tries(), case.attempts(other).len()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn row_02_a_limit_for_ever_is_never_hammered() {
    let all = Mutex::new(Vec::new());
    let row = Row::new(2, "429 without a hint, for ever");
    row.holds(async |case| {
        case.says(case.api, [case.api.error(429)]);
        let answer = case.plainly().await;
        let failure = answer.failed();
        assert_eq!(failure.class(), "ResourceExhausted PROVIDER_RATE_LIMITED");
        assert_eq!((case.tries(), attempts(failure)), (3, 3));
        assert_backs_off(&case.gaps());
        all.lock().expect("no panic").extend(case.gaps().iter().map(Duration::as_millis));

        let case = case.another();
        let other = case.api.fallback();
        case.says(case.api, [case.api.error(429)]);
        case.says(other, [other.whole(3)]);
        case.asks(case.request(&[other])).await.is_whole(other, 3);
        assert_eq!((case.tries(), case.attempts(other).len()), (3, 1));
        assert_backs_off(&case.gaps());
    })
    .await;
    let mut gaps = all.into_inner().expect("no panic");
    let count = gaps.len();
    gaps.sort_unstable();
    gaps.dedup();
    assert!(gaps.len() > count / 2, "jitter makes {count} waits differ: {gaps:?} ms");
}
