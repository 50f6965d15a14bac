//! How long it takes: nothing where nothing is under way, as long as asked for before, and no time
//! at all at a second signal.

use std::time::{Duration, Instant};

use proto::keyvault::{
    GetSealStatusRequest, ResolveKeyRequest, ResolveKeyResponse, vault_admin_service_client::VaultAdminServiceClient,
};
use system_tests::{
    System,
    answer::Failure,
    replicas::{Door, eventually},
};
use tokio::sync::oneshot;
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_prost::ProstCodec;

use super::{ENDLESS, assert_refused, begins_to_stop, live::health, question, system};

const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_ends_at_once_although_somebody_watches_it() {
    let system = system(&[], &[]).await;
    // A chat, so that all connections are there, and streams of health that never end.
    let mut answer = system.chat.clone().stream_chat(question("first", 1)).await.expect("it begins").into_inner();
    while answer.message().await.expect("an event").is_some() {}
    let mut watches = Vec::new();
    for process in [&system.vault, &system.gateway] {
        let mut client = HealthClient::new(Endpoint::from_shared(process.url()).expect("a URL").connect_lazy());
        watches.push(client.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner());
    }
    let System { vault, gateway, .. } = system;
    // New calls are refused for half of the time. The gateway watches the vault, and reports to it until the end.
    for process in [gateway, vault] {
        let asked = Instant::now();
        let (status, log) = process.stop().await;
        let took = asked.elapsed();
        println!("idle: ended after {took:?}");
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(took < AT_ONCE, "{took:?}\n{log}");
    }
    for mut watch in watches {
        let mut last = None;
        while let Some(said) = watch.message().await.expect("it ends in peace") {
            last = Some(said.status());
        }
        assert_eq!(last, Some(ServingStatus::NotServing));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_it_first_and_a_second_signal_ends_the_wait() {
    let system = system(&["--drain-delay-seconds=300"], &["--drain-seconds=300"]).await;
    let mut endless = system.chat.clone().stream_chat(question("endless", ENDLESS)).await.expect("it begins");
    endless.get_mut().message().await.expect("an event");
    let System { vault, gateway, .. } = system;
    for (process, second, code) in [(vault, "INT", 130), (gateway, "TERM", 143)] {
        let is_vault = code == 130;
        process.is_told("TERM").await;
        eventually("health says it", async || (health(&process).await == ServingStatus::NotServing).then_some(()))
            .await;
        if is_vault {
            // New calls are taken, on new connections too.
            let door = Door::to(&process.url());
            door.admin().get_seal_status(GetSealStatusRequest {}).await.expect("it is taken");
        }
        let asked = Instant::now();
        process.is_told(second).await;
        let (status, log) = process.ends().await;
        assert_eq!(status.code(), Some(code), "{log}");
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_stops_refuses_with_a_reason_and_cuts_what_does_not_end() {
    let system = system(&["--drain-seconds=3"], &[]).await;
    let vault = system.vault;
    // A call whose request never arrives whole: it is under way for as long as the vault lets it.
    let channel = Endpoint::from_shared(vault.url()).expect("a URL").connect().await.expect("a connection");
    let (sends, sent) = oneshot::channel();
    let endless = tokio::spawn(half_a_call(channel.clone(), sends));
    sent.await.expect("it is sent");
    // What comes later on the same connection is answered, so it has begun.
    let mut same = VaultAdminServiceClient::new(channel);
    same.get_seal_status(GetSealStatusRequest {}).await.expect("an answer");
    let asked = Instant::now();
    vault.is_told("TERM").await;
    begins_to_stop(&vault).await;
    let (open, new) = (Door::to(&vault.url()), || Door::to(&vault.url()));
    eventually("a refusal", async || open.status().await.err().map(|failure| assert_refused(&failure))).await;
    for _ in 0..10 {
        assert_refused(&open.status().await.expect_err("it stops"));
        assert_refused(&new().status().await.expect_err("it stops"));
    }
    let failure = endless.await.expect("no panic");
    assert_refused(&failure);
    assert_eq!(failure.value("outcome"), "unknown");
    let (status, log) = vault.ends().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(asked.elapsed() >= Duration::from_secs(3), "it waited");
}

/// Calls, says when the head of the request is sent, and sends no more.
async fn half_a_call(channel: Channel, sent: oneshot::Sender<()>) -> Failure {
    let mut client = Grpc::new(channel);
    client.ready().await.expect("a connection");
    let path = PathAndQuery::from_static("/archestra.keyvault.v1.KeyResolutionService/ResolveKey");
    let body = async move {
        sent.send(()).expect("somebody waits");
        std::future::pending::<ResolveKeyRequest>().await
    };
    let request = Request::new(futures_util::stream::once(body));
    let codec = ProstCodec::<ResolveKeyRequest, ResolveKeyResponse>::default();
    let outcome = client.client_streaming(request, path, codec).await;
    outcome.expect_err("it never ends").into()
}
