//! Many large requests at once: the gateway takes as many as it may, refuses the others, and
//! its memory stays within a multiple of what it may have in hand.

use std::{fs, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use proto::chat::{DetectProviderRequest, StreamChatRequest};
use system_tests::{
    System,
    answer::{Answer, Failure, ask},
};
use tokio::{task::JoinSet, time::timeout};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{CALLS_MAX, ENDPOINTS, Part, go::Connection, image, part, ready};

const MIB: usize = 1024 * 1024;

/// What the gateway may have in hand.
const IN_HAND: usize = 96 * MIB;

/// As many requests as fit, and all.
const FIT: usize = 3;
const REQUESTS: usize = 24;
const REQUEST_BYTES: usize = 30 * MIB;

/// How often.
const ROUNDS: usize = 3;

/// What a byte in hand takes at most: itself as it arrived, and one and a third as base64 in
/// the request to the provider. The rest is for what the allocator keeps.
const BYTES_PER_BYTE: usize = 3;

#[tokio::test]
async fn many_large_requests_take_no_more_memory_than_the_bytes_in_hand_allow() {
    let mut system = ready(&["--requests-bytes-max=96MiB"]).await;
    let address = system.gateway.url().trim_start_matches("http://").to_owned();
    let small = ask(ENDPOINTS[0].model, None, "Hi");
    chats(&mut system, small.clone()).await;
    let idle = peak(&system);
    let mut request = small.clone();
    request.messages[0].parts.push(part(Part::Image(image(REQUEST_BYTES))));
    let request = Bytes::from(request.encode_to_vec());
    let mut received = 1;

    for round in 1..=ROUNDS {
        system.provider.holds_back(true);
        let mut calls = JoinSet::new();
        for _ in 0..REQUESTS {
            let (address, request) = (address.clone(), request.clone());
            calls.spawn(async move { Connection::open(&address).await.stream_chat(request, CALLS_MAX).await });
        }
        for _ in FIT..REQUESTS {
            assert_overloaded(&calls.join_next().await.expect("a call").expect("no panic").expect_err("too many"));
        }
        received += FIT;
        timeout(CALLS_MAX, system.provider.has_received(received)).await.expect("those that fit are sent");
        // What is small has room beside them, until the next large one.
        let question = DetectProviderRequest { model: "gpt-4o".to_owned() };
        assert_eq!(
            system.chat.detect_provider(question).await.expect("an answer").into_inner().provider_model,
            "gpt-4o"
        );

        system.provider.holds_back(false);
        for _ in 0..FIT {
            let text = calls.join_next().await.expect("a call").expect("no panic").expect("an answer");
            assert_eq!(text, "I have read it.");
        }
        let taken = peak(&system).saturating_sub(idle);
        println!("round {round}: {} MiB above {} MiB for {} MiB in hand", taken / MIB, idle / MIB, IN_HAND / MIB);
        assert!(taken < BYTES_PER_BYTE * IN_HAND, "{} MiB", taken / MIB);
        system.provider.forgets();
    }
    chats(&mut system, small).await;
}

async fn chats(system: &mut System, request: StreamChatRequest) {
    let answer = Answer::read(system.chat.stream_chat(request).await).await;
    assert_eq!(answer.text, "I have read it.", "{answer:?}");
}

fn assert_overloaded(status: &Status) {
    let failure = Failure::from(status.clone());
    assert_eq!(failure.class(), "ResourceExhausted OVERLOADED", "{failure:?}");
    assert_eq!(failure.value("limit"), IN_HAND.to_string());
    assert!(!failure.trace_id.is_empty(), "RequestInfo has the trace id");
    let retry = status.get_details_retry_info().expect("RetryInfo").retry_delay;
    assert_eq!(retry, Some(Duration::from_secs(1)));
}

/// The most memory that the gateway has had at once.
fn peak(system: &System) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", system.gateway.id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}
