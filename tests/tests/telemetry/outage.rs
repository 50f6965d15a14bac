//! A collector that is down, slow or hangs costs callers nothing, memory little, and the end of a
//! process a moment.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use proto::{chat::chat_service_client::ChatServiceClient, types::Provider};
use system_tests::{
    Links, Setup, System,
    answer::{Answer, ask},
    collector::{Collector, Manner},
    resident::Resident,
    stage::wire::Api,
};
use tonic::transport::Channel;

use super::desk::{exporting, key};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

/// Chats of each of two systems that are compared.
const PAIRS: usize = 300;

/// What a collector may cost the slowest of them. One that is waited for costs seconds.
const COST_MAX: Duration = Duration::from_millis(250);

/// Chats that fill any queue of spans.
const FILLING: usize = 1_000;

/// Chats whose spans nobody takes.
const UNTAKEN: usize = 20_000;

/// What all their spans may take in memory: far less than the spans are.
const GROWTH_MAX_KIB: f64 = 32.0 * 1024.0;

const AT_ONCE: usize = 8;

/// How long the end of a process may take that cannot send its last spans.
const END_MAX: Duration = Duration::from_secs(12);

async fn system(collector: Option<&str>) -> System {
    let setup = Setup { folder_in_memory: true, ..Setup::default() };
    let mut system = System::with(collector.map_or(setup.clone(), |url| exporting(setup, url))).await;
    system.add_key(Provider::Openai, &key(Provider::Openai), Links { default: true, profiles: &[] }).await;
    system.provider.always_answers(Api::ChatCompletions.whole(2));
    system
}

async fn chat(client: &ChatServiceClient<Channel>) -> Duration {
    let mut client = client.clone();
    let start = Instant::now();
    let answer = Answer::read(client.stream_chat(ask(Api::ChatCompletions.model(), None, "Hi")).await).await;
    answer.is_whole(Api::ChatCompletions, 2);
    start.elapsed()
}

async fn chats(system: &System, count: usize) {
    let chats = stream::iter(0..count).map(|_| chat(&system.chat));
    chats.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    system.provider.forgets();
}

/// The time that 99 of 100 chats do not need.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Compares chats in pairs: one of a system whose collector is away, one of a system without.
async fn assert_costs_nothing(what: &str, url: &str, is_met: impl Future<Output = ()>) {
    let (with, without) = (system(Some(url)).await, system(None).await);
    chats(&with, FILLING).await;
    chats(&without, FILLING).await;
    is_met.await;
    let (mut times, mut others) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        if pair % 2 == 0 {
            times.push(chat(&with.chat).await);
            others.push(chat(&without.chat).await);
        } else {
            others.push(chat(&without.chat).await);
            times.push(chat(&with.chat).await);
        }
    }
    let (time, other) = (p99(times), p99(others));
    println!("a collector that {what}: p99 {time:?}, without {other:?}");
    assert!(time < other * 2 + COST_MAX, "a collector that {what}: p99 {time:?}, without {other:?}");
    for process in [with.gateway, with.vault] {
        let start = Instant::now();
        let (status, log) = process.stop().await;
        assert!(status.success(), "{status:?}: {log}");
        let end = start.elapsed();
        println!("a collector that {what}: the process ends after {end:?}");
        assert!(end < END_MAX, "a collector that {what}: the process ends after {end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_down_costs_callers_nothing() {
    assert_costs_nothing("is down", NOBODY, async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_slow_costs_callers_nothing() {
    let collector = Collector::start().await;
    collector.set(Manner::Slow(Duration::from_secs(2)));
    assert_costs_nothing("is slow", &collector.url(), collector.is_asked(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_costs_callers_nothing() {
    let collector = Collector::start().await;
    collector.set(Manner::Refuses);
    assert_costs_nothing("refuses", &collector.url(), collector.is_asked(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_costs_callers_nothing() {
    let collector = Collector::start().await;
    collector.set(Manner::Hangs);
    assert_costs_nothing("hangs", &collector.url(), collector.is_asked(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_nobody_takes_do_not_fill_memory() {
    let collector = Collector::start().await;
    collector.set(Manner::Hangs);
    let system = system(Some(&collector.url())).await;
    // The queues are full, and whatever else grows once has grown.
    chats(&system, UNTAKEN / 10).await;
    collector.is_asked(1).await;
    let processes = [("gateway", &system.gateway), ("vault", &system.vault)];
    let before = processes.map(|(_, process)| Resident::of(process.id()).now());
    let start = Instant::now();
    chats(&system, UNTAKEN).await;
    println!("{UNTAKEN} chats in {:?}", start.elapsed());
    for ((name, process), before) in processes.into_iter().zip(before) {
        let growth = Resident::of(process.id()).now() - before;
        println!("the {name} had {before} KiB, and has {growth} more");
        assert!(growth < GROWTH_MAX_KIB, "the {name} had {before} KiB, and has {growth} more");
    }
    // And a collector that is well again gets what comes now.
    collector.set(Manner::Takes);
    chats(&system, 1).await;
    collector.eventually("spans", |collector| (!collector.spans().is_empty()).then_some(())).await;
}
