//! Row 15: the provider is down for a while.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use system_tests::stage::{
    Case,
    row::{Row, wait},
};

/// Chats while the provider is down.
const CHATS: u32 = 20;

/// As many failures in a row open the circuit.
const OPENS_AFTER: usize = 5;

/// The longest time between two probes.
const PROBE_MAX: Duration = Duration::from_secs(15);

#[tokio::test]
async fn row_15_a_provider_that_is_down_is_left_alone_and_used_again() {
    let down = wait(Duration::from_secs(4), Duration::from_mins(1));
    let what = format!("down for {} s, then healthy, under twenty requests", down.as_secs());
    let row = Row::new(15, &what);
    row.holds_at_once(async |case| {
        let healthy_at = Instant::now() + down;
        let chats = join_all((0..CHATS).map(|n| chat(&case, down / CHATS * n, healthy_at))).await;

        let mut attempts: Vec<Instant> =
            chats.iter().flat_map(|chat| chat.attempts(chat.api)).map(|attempt| attempt.at).collect();
        attempts.sort_unstable();
        let while_down = attempts.iter().filter(|at| **at < healthy_at).count();
        let few = OPENS_AFTER + probes(down) + 3;
        assert!(while_down <= few, "{while_down} attempts reached a dead provider, {few} would be few");
        assert!(while_down > OPENS_AFTER, "it is probed: {while_down} attempts");

        let used_again = used_again(&case, healthy_at).await;
        assert!(used_again <= PROBE_MAX.min(down * 2) + Duration::from_secs(3), "used again after {used_again:?}");
        for _ in 0..3 {
            case.is_healthy_afterwards().await;
        }
    })
    .await;
}

/// Probes in a time: after 1 s, 2 s, 4 s and so on.
fn probes(within: Duration) -> usize {
    let waits = std::iter::successors(Some(Duration::from_secs(1)), |wait| Some((*wait * 2).min(PROBE_MAX)));
    let times = waits.scan(Duration::ZERO, |at, wait| {
        *at += wait;
        Some(*at)
    });
    times.take_while(|at| *at < within).count()
}

/// One of the chats while the provider is down, from its beginning on.
async fn chat(case: &Case, begins: Duration, healthy_at: Instant) -> Case {
    let chat = case.another();
    says_down_until(&chat, healthy_at);
    tokio::time::sleep(begins).await;
    let answer = chat.plainly().await;
    match &answer.failure {
        None => answer.is_whole(chat.api, 3),
        Some(failure) => {
            assert_eq!(failure.code, tonic::Code::Unavailable, "{failure:?}");
            assert!(failure.reason.starts_with("PROVIDER_"), "{failure:?}");
            assert!(chat.tries() > 0 || failure.retry_after.is_some(), "says when to come again: {failure:?}");
        }
    }
    chat
}

fn says_down_until(case: &Case, healthy_at: Instant) {
    let api = case.api;
    case.says_by(api, move |_| if Instant::now() < healthy_at { api.error(503) } else { api.whole(3) });
}

/// How long after its recovery the provider answers a chat.
async fn used_again(case: &Case, healthy_at: Instant) -> Duration {
    loop {
        let chat = case.another();
        says_down_until(&chat, healthy_at);
        let answer = chat.plainly().await;
        let after = Instant::now().saturating_duration_since(healthy_at);
        if answer.failure.is_none() {
            return after;
        }
        assert!(after < PROBE_MAX * 2, "never used again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
