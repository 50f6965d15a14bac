//! Row 24: the caller's deadline, or its leaving, closes the provider's connection. How soon, is
//! measured in `cancellation.rs`.

use std::time::Duration;

use futures_util::FutureExt as _;
use system_tests::{
    answer::{Answer, Failure},
    fake_provider::{Answer as Said, End},
    replicas::eventually,
    stage::{Case, row::Row, whole},
};

/// Late enough for an answer to begin.
const DEADLINE: Duration = Duration::from_millis(800);

/// How often a call with a deadline is made, until the gateway says that it has passed.
const TRIES: usize = 8;

/// The three windows of a stream: before the headers, before the first token, mid-stream.
fn windows(case: &Case) -> [Said; 3] {
    [
        Said::stream("").ending(End::SilenceBeforeHeaders),
        Said::stream(case.api.opening()).ending(End::Silence),
        Said::stream(case.api.opening() + &case.api.tokens(0..5)).ending(End::Silence),
    ]
}

#[tokio::test]
async fn row_24_the_callers_deadline_closes_the_connection_in_every_window() {
    let row = Row::new(24, "caller's deadline in every window, streamed and unary");
    row.holds_at_once(async |case| {
        for (window, said) in windows(&case).into_iter().enumerate() {
            let expected = if window == 2 { "Aborted STREAM_TRUNCATED" } else { "DeadlineExceeded TOTAL_TIMEOUT" };
            for is_unary in [false, true] {
                is_told(&case, is_unary, &said, expected).await;
            }
        }
    })
    .await;
}

/// Asks with a deadline, and reads what became of it. The timer of this client is as long, and
/// comes first now and then on a busy machine: such a call is made again.
async fn is_told(case: &Case, is_unary: bool, said: &Said, expected: &str) {
    const WITHOUT_A_REASON: &str = "Cancelled ";
    let mut classes = Vec::new();
    for _ in 0..TRIES {
        let case = case.another();
        case.says(case.api, [said.clone()]);
        let class = if is_unary {
            let mut request = tonic::Request::new(whole(case.request(&[])));
            let timeout = format!("{}m", DEADLINE.as_millis());
            request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("a header"));
            let status = case.stage.system.chat.clone().chat(request).await.expect_err("it never ends");
            Failure::from(status).class()
        } else {
            case.asks_within(DEADLINE, case.request(&[])).await.failed().class()
        };
        was_left(&case).await;
        classes.push(class);
        if classes.last().is_some_and(|class| class != WITHOUT_A_REASON) {
            break;
        }
    }
    assert_eq!(classes.last().map(String::as_str), Some(expected), "{classes:?}");
}

#[tokio::test]
async fn row_24_a_caller_who_leaves_closes_the_connection_in_every_window() {
    let row = Row::new(24, "caller leaves in every window, streamed and unary");
    row.holds_at_once(async |case| {
        for said in windows(&case) {
            for is_unary in [false, true] {
                let case = case.another();
                case.says(case.api, [said.clone()]);
                let mut client = case.stage.system.chat.clone();
                let request = case.request(&[]);
                let call = async {
                    if is_unary {
                        drop(client.chat(whole(request)).await);
                    } else {
                        Answer::read(client.stream_chat(request).await).await;
                    }
                };
                // The call is dropped once the provider has it.
                tokio::select! {
                    () = call.fuse() => panic!("it never ends"),
                    () = case.is_asked() => {}
                }
                was_left(&case).await;
            }
        }
    })
    .await;
}

/// The provider saw its only caller leave.
async fn was_left(case: &Case) {
    let [only] = &case.attempts(case.api)[..] else { panic!("{} attempts", case.tries()) };
    let provider = &case.stage.system.provider;
    eventually("the provider sees the gateway leave", async || provider.left(only.number)).await;
}
