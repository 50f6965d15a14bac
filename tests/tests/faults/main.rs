//! What a correct gateway does under each fault of a provider: a row of the list of faults, a test or
//! two. Each row is played for every provider over HTTP/1.1 and HTTP/2, and what the caller got is
//! compared with what the provider saw: attempts, the gaps between them, who hung up, what is
//! still open.
//!
//! Rows that are about long waits take scaled-down ones, unless `FAULTS_FULL=1`.

mod breaker;
mod bytes;
mod crowds;
mod failures;
mod leaving;
mod limits;
mod refusals;
mod streams;
mod timers;
mod vault;

use std::time::Duration;

use system_tests::answer::Failure;

/// What a busy machine adds to a wait.
const SLACK: Duration = Duration::from_millis(1_500);

/// The waits between attempts that nobody asked to delay: 200 ms and 400 ms, and as much again of
/// jitter at most.
const BACKOFF: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];

/// Panics unless each gap is what the backoff makes it.
fn assert_backs_off(gaps: &[Duration]) {
    assert!(gaps.len() <= BACKOFF.len(), "three attempts at most: {gaps:?}");
    for (gap, wait) in gaps.iter().zip(BACKOFF) {
        // The gap begins when the request was sent, and the wait when the failure was read.
        assert!(*gap >= wait, "hammered after {gap:?} in place of {wait:?}: {gaps:?}");
        assert!(*gap <= wait * 2 + SLACK, "idle for {gap:?}: {gaps:?}");
    }
}

/// How many requests were sent to providers, as the caller is told.
fn attempts(failure: &Failure) -> usize {
    failure.value("attempts").parse().unwrap_or_else(|_| panic!("`attempts` is a number: {failure:?}"))
}
