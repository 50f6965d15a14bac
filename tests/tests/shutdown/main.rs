//! A shutdown that breaks nothing: what can end in time ends whole, what cannot is told so, and
//! whoever calls meanwhile is told to go elsewhere.

mod collector;
mod limits;
mod live;
mod rolling;
mod unary;

use std::time::Duration;

use proto::{
    chat::{ChatRequest, OnDisconnect, StreamChatRequest, Usage},
    keyvault::{QueryUsageRequest, UsageRow, usage_service_client::UsageServiceClient},
    types::Provider,
};
use system_tests::{
    Links, ORGANIZATION, Process, Setup, System,
    answer::{Failure, ask},
    fake_provider::{Answer as Said, End, Received},
    replicas::eventually,
    stage::{
        self,
        wire::{Api, INPUT_TOKENS},
    },
};
use tonic::transport::Endpoint;

const API: Api = Api::Messages;
const KEY: &str = "sk-ant-of-everybody";

/// The time between two tokens.
const PAUSE: Duration = Duration::from_millis(100);

/// Longer than any test waits.
const ENDLESS: usize = 600;

/// A question whose answer has so many tokens. Nobody else asks the same.
fn question(name: &str, tokens: usize) -> StreamChatRequest {
    ask(API.model(), None, &format!("name={name} tokens={tokens} of it"))
}

/// The same question, whose answer is read to its end by the gateway.
fn drained(name: &str, tokens: usize) -> StreamChatRequest {
    let mut request = question(name, tokens);
    request.set_on_disconnect(OnDisconnect::Drain);
    request
}

fn whole(request: StreamChatRequest) -> ChatRequest {
    stage::whole(request)
}

/// A value of a question.
fn value(received: &Received, name: &str) -> String {
    let body = String::from_utf8_lossy(&received.body);
    let rest = body.split_once(&format!("{name}=")).expect("a question of ours").1;
    rest.split(' ').next().unwrap_or_default().to_owned()
}

/// An answer at a pace; to one for no tokens nothing is said.
fn said(received: &Received) -> Said {
    let tokens: usize = value(received, "tokens").parse().expect("a number");
    if tokens == 0 {
        return Said::stream("").ending(End::SilenceBeforeHeaders);
    }
    let first = Said::stream(API.opening() + &API.tokens(0..1));
    let paced = (1..tokens).fold(first, |said, n| said.and_after(PAUSE, API.tokens(n..n + 1)));
    paced.and_after(PAUSE, API.closing(tokens))
}

/// A system whose provider answers questions.
async fn system(vault_options: &[&str], gateway_options: &[&str]) -> System {
    let owned = |options: &[&str]| options.iter().map(|option| (*option).to_owned()).collect();
    let (vault_options, gateway_options) = (owned(vault_options), owned(gateway_options));
    let setup = Setup { vault_options, gateway_options, folder_in_memory: true, ..Setup::default() };
    let mut system = System::with(setup).await;
    system.add_key(Provider::Anthropic, KEY, Links { default: true, profiles: &[] }).await;
    system.provider.answers_by(said);
    system
}

/// Waits until a process has heard the signal.
async fn begins_to_stop(process: &Process) {
    eventually("it hears the signal", async || process.log().contains("\"stopping\"").then_some(())).await;
}

/// Panics unless a call was refused because the process stops.
fn assert_refused(failure: &Failure) {
    assert_eq!(failure.class(), "Unavailable SHUTTING_DOWN", "{failure:?}");
    assert!(failure.retry_after.is_some_and(|wait| !wait.is_zero()), "{failure:?}");
}

/// Panics unless an answer was cut because the gateway stops, with what is known to be used.
fn assert_cut(failure: &Failure) {
    let told = (failure.class(), failure.value("cause").to_owned());
    assert_eq!(told, ("Aborted STREAM_TRUNCATED".to_owned(), "SHUTTING_DOWN".to_owned()), "{failure:?}");
    let trailer = failure.usage.as_deref().expect("the trailer with the usage");
    let usage: Usage = prost::Message::decode(trailer).expect("a usage");
    assert_eq!(usage.input_tokens, Some(INPUT_TOKENS));
}

/// What keys were used for, all together.
async fn used(vault: &Process) -> UsageRow {
    let vault = Endpoint::from_shared(vault.url()).expect("a URL").connect_lazy();
    let request = QueryUsageRequest { organization_id: ORGANIZATION.to_owned(), ..Default::default() };
    let answer = UsageServiceClient::new(vault).query_usage(request).await.expect("an answer").into_inner();
    assert_eq!(answer.gaps, [], "nothing is missing");
    answer.rows.into_iter().next().unwrap_or_default()
}
