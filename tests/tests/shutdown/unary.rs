//! Calls that are no streams, or have no caller any more.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use proto::chat::stream_chat_response::Event;
use system_tests::{
    System,
    answer::{Answer, Failure},
    replicas::eventually,
    stage::wire::text,
};

use super::{API, ENDLESS, assert_cut, assert_refused, drained, question, system, used, value, whole};

/// How many tokens come within the drain time, and how many of these chats there are.
const TOKENS: usize = 20;
const CHATS: usize = 8;

/// When a provider refuses: the gateway has begun to stop by then.
const REFUSED_AFTER: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unary_chats_and_those_that_drain_end_as_streams_do() {
    let system = system(&[], &["--drain-seconds=4"]).await;
    let unary = |name: &'static str, tokens| {
        let mut client = system.chat.clone();
        tokio::spawn(async move { client.chat(whole(question(name, tokens))).await.map_err(Failure::from) })
    };
    let (short, endless, unbegun) = (unary("short", TOKENS), unary("long", ENDLESS), unary("unbegun", 0));
    let mut client = system.chat.clone();
    let silent = tokio::spawn(async move { Answer::read(client.stream_chat(question("silent", 0)).await).await });
    // Two whose callers leave, and two unary ones that drain too and whose callers stay.
    leaves(&system, "left", TOKENS).await;
    leaves(&system, "left-endless", ENDLESS).await;
    let stays = |name: &'static str, tokens| {
        let mut client = system.chat.clone();
        tokio::spawn(async move { client.chat(whole(drained(name, tokens))).await.map_err(Failure::from) })
    };
    let (drains, drains_endless) = (stays("drains", TOKENS), stays("drains-endless", ENDLESS));
    system.provider.has_received(CHATS).await;

    let System { vault, gateway, provider, .. } = system;
    let (status, log) = gateway.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");

    for whole in [short, drains] {
        let answer = whole.await.expect("no panic").expect("it ends in time").into_inner();
        let said = answer.message.expect("a message").parts.into_iter().filter_map(|part| match part.part {
            Some(proto::chat::content_part::Part::Text(part)) => Some(part.text),
            _ => None,
        });
        assert_eq!(said.collect::<String>(), text(0..TOKENS));
    }
    for cut in [endless, drains_endless] {
        assert_cut(&cut.await.expect("no panic").expect_err("it is cut"));
    }
    assert_refused(&unbegun.await.expect("no panic").expect_err("it had not begun"));
    let silent = silent.await.expect("no panic");
    assert_refused(silent.failed());
    assert!(silent.started.is_none());

    let mut hung_up: Vec<_> = provider
        .received()
        .iter()
        .filter(|received| provider.left(received.number).is_some())
        .map(|received| value(received, "name"))
        .collect();
    hung_up.sort();
    assert_eq!(hung_up, ["drains-endless", "left-endless", "long", "silent", "unbegun"], "each was asked once");
    let used = used(&vault).await;
    let chats = i64::try_from(CHATS).expect("a small number");
    assert_eq!((used.call_count, used.partial_count), (chats, 5));
}

/// Begins a chat that drains, and leaves once it has begun.
async fn leaves(system: &System, name: &str, tokens: usize) {
    let mut events = system.chat.clone().stream_chat(drained(name, tokens)).await.expect("it begins").into_inner();
    while let Some(response) = events.message().await.expect("an event") {
        if matches!(response.event, Some(Event::TextDelta(_))) {
            return;
        }
    }
    panic!("{name} has no text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_does_not_hold_the_gateway_and_is_counted() {
    let system = system(&[], &["--drain-seconds=1"]).await;
    // The caller takes the head of the answer, and then nothing of its connection.
    let events = system.chat.clone().stream_chat(question("unread", ENDLESS)).await.expect("it begins");
    system.provider.has_begun(1).await;
    let System { vault, gateway, provider, .. } = system;
    let (status, log) = gateway.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    provider.is_idle(Duration::from_secs(2)).await.expect("the provider's connection is closed");
    eventually("it is counted", async || (used(&vault).await.partial_count == 1).then_some(())).await;
    drop(events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_is_tried_again_if_that_ends_in_time_and_not_otherwise() {
    let system = system(&[], &["--drain-seconds=8"]).await;
    let tries = AtomicUsize::new(0);
    system.provider.answers_by(move |received| {
        let refusal = if value(received, "name") == "later" { API.limited(15) } else { API.error(API.overloaded()) };
        let first = value(received, "name") == "later" || tries.fetch_add(1, Ordering::Relaxed) == 0;
        if first { refusal.thinking(REFUSED_AFTER) } else { API.whole(2) }
    });
    let asks = |name: &'static str| {
        let mut client = system.chat.clone();
        tokio::spawn(async move { Answer::read(client.stream_chat(question(name, 2)).await).await })
    };
    let (soon, later) = (asks("soon"), asks("later"));
    system.provider.has_received(2).await;
    let asked = Instant::now();
    let (status, log) = system.gateway.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    soon.await.expect("no panic").is_whole(API, 2);
    assert_eq!(later.await.expect("no panic").failed().class(), "ResourceExhausted PROVIDER_RATE_LIMITED");
    assert!(asked.elapsed() < Duration::from_secs(7), "nobody waited for a time that does not come");
}
