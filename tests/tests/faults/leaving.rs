//! Row 24: the caller's deadline, or its leaving, closes the provider's connection. How soon, is
//! measured in `cancellation.rs`.

use std::time::Duration;

use futures_util::FutureExt as _;
use system_tests::{
    fake_provider::{Answer as Said, End},
    stage::{Case, row::Row, whole},
};

/// Late enough for an answer to begin.
const DEADLINE: Duration = Duration::from_millis(800);

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
            let streamed = case.another();
            streamed.says(case.api, [said.clone()]);
            let answer = streamed.asks_within(DEADLINE, streamed.request(&[])).await;
            assert_eq!(answer.failed().class(), expected, "in window {window}");
            was_left(&streamed).await;

            let unary = case.another();
            unary.says(case.api, [said]);
            let mut request = tonic::Request::new(whole(unary.request(&[])));
            let timeout = format!("{}m", DEADLINE.as_millis());
            request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("a header"));
            let status = unary.stage.system.chat.clone().chat(request).await.expect_err("it never ends");
            let failure = system_tests::answer::Failure::from(status);
            assert_eq!(failure.class(), expected, "in window {window}");
            was_left(&unary).await;
        }
    })
    .await;
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
                        system_tests::answer::Answer::read(client.stream_chat(request).await).await;
                    }
                };
                let asked = async {
                    while case.tries() == 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                // The call is dropped once the provider has it.
                tokio::select! {
                    () = call.fuse() => panic!("it never ends"),
                    () = asked => {}
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
    system_tests::replicas::eventually("the provider sees the gateway leave", async || provider.left(only.number))
        .await;
}
