//! The gateway: a vault that is not there yet, that goes away, and a process that stops.

use system_tests::{
    FakeProvider, Links, Process, Setup, System,
    answer::{Failure, ask},
    chats::MODEL,
    fake_provider::{Answer, End},
    fault_proxy::FaultProxy,
    start_gateway, start_vault,
    vault_stage::chat_client,
};
use tokio_stream::StreamExt as _;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use crate::{KEY, assert_health, get, health, is_ready, of, says};

const CHAT: &str = "archestra.chat.v1.ChatService";
const KEY_CHECK: &str = "archestra.chat.v1.KeyCheckService";

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

async fn chat_fails_for_want_of_a_vault(gateway: &Process) {
    let refused = chat_client(gateway).stream_chat(ask(MODEL, Some("newcomer"), "Hi")).await;
    assert_eq!(Failure::from(refused.expect_err("there is no vault")).class(), "Unavailable VAULT_UNAVAILABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_ready_when_the_vault_has_answered_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let provider = FakeProvider::start().await.expect("a provider");
    let way = FaultProxy::to(NOWHERE).await;
    let gateway = start_gateway(folder.path(), &way.url(), &provider.url(), &Setup::default()).await;
    let gateway = gateway.expect("it listens");
    says(&gateway, 503, "it never answered this gateway: see that it runs, that --vault-url").await;
    assert_health(&gateway, &[("", NotServing), (CHAT, NotServing), (KEY_CHECK, Serving)]).await;
    chat_fails_for_want_of_a_vault(&gateway).await;

    let vault = start_vault(folder.path(), &Setup::default()).await.expect("it serves");
    way.lead_to(&vault.url());
    assert_eq!(is_ready(&gateway).await, "vault: ok\n");
    assert_health(&gateway, &[("", Serving), (CHAT, Serving), (KEY_CHECK, Serving)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_stays_ready_without_the_vault_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let provider = FakeProvider::start().await.expect("a provider");
    let vault = start_vault(folder.path(), &Setup::default()).await.expect("it serves");
    let way = FaultProxy::to(&vault.url()).await;
    let gateway = start_gateway(folder.path(), &way.url(), &provider.url(), &Setup::default()).await;
    let gateway = gateway.expect("it listens");
    is_ready(&gateway).await;

    vault.kill().await;
    says(&gateway, 200, "kept keys serve for their lease and --vault-grace").await;
    assert_health(&gateway, &[("", Serving), (CHAT, Serving), (KEY_CHECK, Serving)]).await;
    chat_fails_for_want_of_a_vault(&gateway).await;

    let vault = start_vault(folder.path(), &Setup::default()).await.expect("it serves again");
    way.lead_to(&vault.url());
    is_ready(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_says_so_until_the_last_stream_has_ended() {
    let setup = Setup { gateway_options: vec!["--drain-seconds=20".to_owned()], ..Setup::default() };
    let mut system = System::with(setup).await;
    system.add_key(proto::types::Provider::Openai, KEY, Links { default: true, profiles: &[] }).await;
    is_ready(&system.gateway).await;
    let begun = r#"data: {"id":"c","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Hi"}}]}"#;
    system.provider.answers(Answer::stream(format!("{begun}\n\n")).ending(End::Silence));
    let mut answer = system.chat.stream_chat(ask(MODEL, None, "Hi")).await.expect("an answer").into_inner();
    assert!(answer.next().await.expect("an event").is_ok());
    let mut watch = health(&system.gateway).watch(of(KEY_CHECK)).await.expect("a watch").into_inner();
    assert_eq!(watch.next().await.expect("a status").expect("a status").status(), Serving);

    let sent = tokio::process::Command::new("kill").arg(system.gateway.id().to_string()).status().await;
    assert!(sent.expect("kill runs").success());
    let body = says(&system.gateway, 503, "shutting down\n").await;
    assert_eq!(body, "shutting down\nvault: ok\n");
    assert_eq!(watch.next().await.expect("a status").expect("a status").status(), NotServing);
    assert!(watch.next().await.is_none(), "it holds nothing up");
    // The stream is there still, and so is who answers probes.
    assert_eq!(system.provider.open_requests(), 1);
    assert_eq!(get(&system.gateway, "/readyz").await.status, 503);
}
