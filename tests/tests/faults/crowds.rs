//! Many chats at once: what a provider allows on a connection is no ceiling, and what the
//! gateway has no room for is shed.

use std::time::Duration;

use futures_util::future::join_all;
use system_tests::{
    answer::Answer,
    fake_provider::{Answer as Said, End, Http},
    replicas::eventually,
    stage::{Case, Stage, wire::Api},
};

/// Three times what the provider carries on a connection of HTTP/2.
const CROWD: usize = 150;

const BEGIN_MAX: Duration = Duration::from_secs(20);

/// A stream that has begun, and goes on for ever.
fn goes_on(api: Api) -> Said {
    Said::stream(format!("{}{}", api.opening(), api.tokens(0..1))).ending(End::Silence)
}

#[tokio::test]
async fn a_limit_of_streams_on_a_connection_is_no_ceiling() {
    let stage = Stage::start(Http::Two, &[]).await;
    let cases: Vec<Case> = (0..CROWD).map(|_| stage.case(Api::Messages)).collect();
    let chats = cases.iter().map(|case| {
        case.says(case.api, [goes_on(case.api)]);
        let mut client = stage.system.chat.clone();
        let request = case.request(&[]);
        async move { client.stream_chat(request).await.expect("it begins").into_inner() }
    });

    let streams =
        tokio::time::timeout(BEGIN_MAX, join_all(chats)).await.expect("all begin, and none waits for another");

    let connections = stage.system.provider.open_connections();
    println!("{} streams at once over {connections} connections", streams.len());
    assert_eq!(stage.system.provider.open_requests(), CROWD);
    assert!(connections <= CROWD / 16, "few connections for many streams");
}

#[tokio::test]
async fn chats_that_there_is_no_room_for_are_shed() {
    let stage = Stage::start(Http::Two, &["--chats-max=2"]).await;
    let begin = async || {
        let case = stage.case(Api::Messages);
        case.says(case.api, [goes_on(case.api)]);
        stage.system.chat.clone().stream_chat(case.request(&[])).await
    };
    let (first, second) = (begin().await.expect("it begins"), begin().await.expect("it begins"));

    let shed = Answer::read(begin().await).await;

    let failure = shed.failed();
    assert_eq!(failure.class(), "ResourceExhausted OVERLOADED");
    assert_eq!(failure.value("limit"), "2");
    assert!(failure.retry_after.is_some());
    assert_eq!(stage.system.provider.open_requests(), 2, "nothing was sent for it");
    drop((first, second));
    eventually("there is room again", || async { begin().await.ok() }).await;
}
