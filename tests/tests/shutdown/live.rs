//! A hundred live streams.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proto::chat::{DetectProviderRequest, chat_service_client::ChatServiceClient};
use system_tests::{
    Process, System,
    answer::{Answer, Failure},
    replicas::eventually,
    stage::wire::text,
    vault_stage::chat_client,
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{API, ENDLESS, assert_cut, assert_refused, begins_to_stop, collector::Collector, question, system, used};

const STREAMS: usize = 100;

/// The drain time, as an option and as it is.
const DRAIN: &str = "--drain-seconds=5";
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What a process may take beyond it: to cut, to report, to send its spans.
const ENDING_MAX: Duration = Duration::from_secs(10);

/// How many tokens a stream has. Every other one ends 2 to 4 s after it began, and so within the
/// drain time; the rest would go on for a minute.
fn tokens(stream: usize) -> usize {
    if stream.is_multiple_of(2) { 20 + stream / 5 } else { ENDLESS }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_can_end_in_time_are_whole_and_the_others_are_told() {
    let collector = Collector::start().await;
    let otlp = format!("--otlp-endpoint={}", collector.url);
    let system = system(&[], &[DRAIN, &otlp]).await;
    let streams = (0..STREAMS).map(|stream| {
        let mut client = system.chat.clone();
        async move { Answer::read(client.stream_chat(question(&stream.to_string(), tokens(stream))).await).await }
    });
    let streams = tokio::spawn(join_all(streams.collect::<Vec<_>>()));
    system.provider.has_begun(STREAMS).await;
    assert_eq!(system.provider.open_requests(), STREAMS, "all are under way");

    let System { vault, gateway, chat, provider, .. } = system;
    let asked = Instant::now();
    gateway.is_told("TERM").await;
    begins_to_stop(&gateway).await;
    // On the connection that has all the streams, and on new ones.
    is_refused(&chat).await;
    for _ in 0..10 {
        assert_refused(&call(&chat).await.expect_err("it stops"));
        assert_refused(&call(&chat_client(&gateway)).await.expect_err("it stops"));
    }
    assert_eq!(health(&gateway).await, ServingStatus::NotServing);

    let mut cut = 0;
    let news = async {
        // Clients are told to leave their connections meanwhile: also who comes anew has a reason.
        for _ in 0..20 {
            assert_refused(&call(&chat_client(&gateway)).await.expect_err("it stops"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // This client notices with its first call that it was told to leave a connection, and
        // may fail that without a reason; the next one is made on another.
        call(&chat).await.expect_err("it stops");
        assert_refused(&call(&chat).await.expect_err("it stops"));
    };
    let (streams, ()) = tokio::join!(streams, news);
    for (stream, answer) in streams.expect("no panic").into_iter().enumerate() {
        if tokens(stream) == ENDLESS {
            assert_cut(answer.failed());
            assert!(!answer.text.is_empty() && text(0..ENDLESS).starts_with(&answer.text), "{}", answer.text);
            cut += 1;
        } else {
            answer.is_whole(API, tokens(stream));
        }
    }
    let (status, log) = gateway.ends().await;
    let took = asked.elapsed();
    println!("{} streams were whole and {cut} were cut; the gateway ended after {took:?}", STREAMS - cut);
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains(&format!("\"count\":{cut}")), "the log has the count of those cut: {log}");
    assert!(took >= DRAIN_MAX && took < DRAIN_MAX + ENDING_MAX, "{took:?}");
    assert_eq!(provider.hung_up(), cut, "the provider's connections of those are closed");

    let used = used(&vault).await;
    let count = |count: usize| i64::try_from(count).expect("a small number");
    assert_eq!((used.call_count, used.partial_count), (count(STREAMS), count(cut)));
    vault.stop().await;
    let spans = collector.counts();
    assert_eq!(spans.get("archestra.chat.v1.ChatService/StreamChat"), Some(&STREAMS), "{spans:?}");
}

async fn call(client: &ChatServiceClient<Channel>) -> Result<(), Failure> {
    let request = DetectProviderRequest { model: API.model().to_owned() };
    client.clone().detect_provider(request).await.map(drop).map_err(Failure::from)
}

/// Calls until that is refused. Until then calls are answered; nothing else comes of them.
async fn is_refused(client: &ChatServiceClient<Channel>) {
    eventually("a refusal", async || call(client).await.err().map(|failure| assert_refused(&failure))).await;
}

/// What a process says of itself to who connects now.
pub(crate) async fn health(process: &Process) -> ServingStatus {
    let mut client = HealthClient::new(Endpoint::from_shared(process.url()).expect("a URL").connect_lazy());
    client.check(HealthCheckRequest::default()).await.expect("an answer").into_inner().status()
}
