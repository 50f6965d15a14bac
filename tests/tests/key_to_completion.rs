//! One key, one question, one streamed answer, through both services.

use std::time::Duration;

use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use proto::{
    chat::chat_service_client::ChatServiceClient,
    types::{Provider, Source},
};
use system_tests::{
    Links, Setup, System,
    answer::{Answer, ask},
    fake_provider::{Answer as Said, End},
};

/// Longer than any hang-up takes on a busy machine; the wait ends at the hang-up.
const HANG_UP_MAX: Duration = Duration::from_secs(5);

const ANTHROPIC: &str = "\
event: message_start
data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}

event: content_block_start
data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}

event: content_block_delta
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}

";

const ANTHROPIC_END: &str = "\
event: content_block_stop
data: {\"type\":\"content_block_stop\",\"index\":0}

event: message_delta
data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}

event: message_stop
data: {\"type\":\"message_stop\"}

";

fn whole() -> Said {
    Said::stream(format!("{ANTHROPIC}{ANTHROPIC_END}")).header("request-id", "req_1")
}

/// Programs that count in UTF-16 send the halves of a character in two events.
#[tokio::test]
async fn a_character_that_the_provider_cuts_comes_out_whole() {
    let mut system = System::start().await;
    system.add_key(Provider::Anthropic, "sk-ant-default", Links { default: true, profiles: &[] }).await;
    let pieces = [r" \ud83d", r"\ude00 \ud83d", r"\ude01!"].map(|text| {
        format!(
            "data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        )
    });
    system.provider.always_answers(Said::stream(format!("{ANTHROPIC}{}{ANTHROPIC_END}", pieces.concat())));

    let answer = Answer::read(system.chat.stream_chat(ask("claude-sonnet-4-5", None, "Hi")).await).await;

    assert_eq!(answer.text, "Hello \u{1f600} \u{1f601}!");
}

#[tokio::test]
async fn a_profile_is_answered_with_its_own_key() {
    let mut system = System::start().await;
    let links = Links { default: false, profiles: &["research"] };
    let key = system.add_key(Provider::Anthropic, "sk-ant-research", links).await;
    system.provider.always_answers(whole());

    let answer = Answer::read(system.chat.stream_chat(ask("claude-sonnet-4-5", Some("research"), "Hi")).await).await;

    assert_eq!(answer.text, "Hello");
    let started = answer.started.expect("started");
    assert_eq!((started.source(), started.api_key_id.as_str()), (Source::Profile, key.api_key_id.as_str()));
    assert_eq!((started.provider(), started.provider_request_id.as_str()), (Provider::Anthropic, "req_1"));
    let request = system.provider.last();
    assert_eq!(request.header("x-api-key"), "sk-ant-research");
    assert_eq!(request.path, "/v1/messages");
    let usage = answer.finished.and_then(|finished| finished.usage).expect("usage");
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.total_tokens), (Some(3), Some(2), Some(5)));
}

#[tokio::test]
async fn a_whole_answer_is_the_sum_of_its_events() {
    let mut system = System::start().await;
    system.add_key(Provider::Anthropic, "sk-ant-default", Links { default: true, profiles: &[] }).await;
    system.provider.always_answers(whole());
    let stream = ask("claude-sonnet-4-5", None, "Hi");
    let request = proto::chat::ChatRequest {
        organization_id: stream.organization_id,
        model: stream.model,
        messages: stream.messages,
        ..Default::default()
    };

    let response = system.chat.chat(request).await.expect("an answer").into_inner();

    let message = response.message.expect("a message");
    let proto::chat::content_part::Part::Text(text) = message.parts[0].part.clone().expect("a part") else {
        panic!("not a text: {message:?}")
    };
    assert_eq!(text.text, "Hello");
    assert_eq!(response.started.expect("started").source(), Source::OrganizationDefault);
    assert_eq!(response.finished.expect("finished").finish_reason(), proto::chat::FinishReason::Stop);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_passed_off_as_whole() {
    let mut system = System::start().await;
    system.add_key(Provider::Anthropic, "sk-ant-default", Links { default: true, profiles: &[] }).await;
    for end in [End::Clean, End::Cut] {
        system.provider.always_answers(Said::stream(ANTHROPIC).ending(end));

        let answer = Answer::read(system.chat.stream_chat(ask("claude-sonnet-4-5", None, "Hi")).await).await;

        assert_eq!(answer.text, "Hello");
        let failure = answer.failed();
        assert_eq!(failure.class(), "Aborted STREAM_TRUNCATED", "{end:?}");
        assert_eq!(failure.value("cause"), "PROVIDER_UNREACHABLE");
        let usage: proto::chat::Usage =
            prost::Message::decode(failure.usage.clone().expect("usage").as_slice()).unwrap();
        assert_eq!(usage.input_tokens, Some(3));
    }
}

#[tokio::test]
async fn the_trace_of_the_caller_reaches_both_services_and_the_error() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let mut system = System::with(Setup {
        log_filter: Some("info,chat_gateway=debug,service_runtime=debug".to_owned()),
        ..Setup::default()
    })
    .await;
    let mut request = tonic::Request::new(ask("claude-sonnet-4-5", Some("nobody"), "Hi"));
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01").parse().unwrap());

    let answer = Answer::read(system.chat.stream_chat(request).await).await;

    let failure = answer.failed();
    assert_eq!(failure.class(), "FailedPrecondition NO_KEY_CONFIGURED");
    assert_eq!(failure.trace_id, TRACE);
    let (_, gateway) = system.gateway.stop().await;
    let (_, vault) = system.vault.stop().await;
    assert!(gateway.contains(TRACE), "{gateway}");
    assert!(vault.contains(TRACE), "{vault}");
}

#[tokio::test]
async fn a_caller_who_leaves_stops_the_provider_in_every_window() {
    let mut system = System::start().await;
    system.add_key(Provider::Anthropic, "sk-ant-default", Links { default: true, profiles: &[] }).await;
    let request = || ask("claude-sonnet-4-5", None, "Hi");

    // Before the headers.
    system.provider.always_answers(Said::stream(ANTHROPIC).ending(End::SilenceBeforeHeaders));
    let mut client = system.chat.clone();
    let call = tokio::spawn(async move { client.stream_chat(request()).await.map(drop) });
    while system.provider.received().is_empty() {
        tokio::task::yield_now().await;
    }
    call.abort();
    system.provider.sees_hang_ups(1, HANG_UP_MAX).await.expect("the provider sees the caller leave");

    // Before the first output.
    system.provider.always_answers(Said::stream(": ping\n\n").ending(End::Silence));
    let mut client = system.chat.clone();
    let call = tokio::spawn(async move { client.stream_chat(request()).await.map(drop) });
    system.provider.has_begun(1).await;
    call.abort();
    system.provider.sees_hang_ups(2, HANG_UP_MAX).await.expect("the provider sees the caller leave");

    // In the middle.
    system.provider.always_answers(Said::stream(ANTHROPIC).ending(End::Silence));
    let mut events = system.chat.stream_chat(request()).await.expect("the answer begins").into_inner();
    events.message().await.expect("an event");
    drop(events);
    system.provider.sees_hang_ups(3, HANG_UP_MAX).await.expect("the provider sees the caller leave");

    // In a call for the whole answer.
    let stream = request();
    let whole = proto::chat::ChatRequest {
        organization_id: stream.organization_id,
        model: stream.model,
        messages: stream.messages,
        ..Default::default()
    };
    let mut client = system.chat.clone();
    let call = tokio::spawn(async move { client.chat(whole).await.map(drop) });
    system.provider.has_begun(3).await;
    call.abort();
    system.provider.sees_hang_ups(4, HANG_UP_MAX).await.expect("the provider sees the caller leave");
}

#[tokio::test]
async fn silence_ends_at_its_timer() {
    let timers = ["--headers-timeout=0.3", "--first-event-timeout=0.6", "--idle-timeout=0.2"];
    let gateway_options = timers.map(str::to_owned).to_vec();
    let mut system = System::with(Setup { gateway_options, ..Setup::default() }).await;
    system.add_key(Provider::Anthropic, "sk-ant-default", Links { default: true, profiles: &[] }).await;
    for (said, expected) in [
        (Said::stream("").ending(End::SilenceBeforeHeaders), "DeadlineExceeded FIRST_EVENT_TIMEOUT"),
        // Models that think are silent for longer than a stream may be that has begun.
        (Said::stream(": ping\n\n").ending(End::Silence), "DeadlineExceeded FIRST_EVENT_TIMEOUT"),
        (Said::stream(ANTHROPIC).ending(End::Silence), "Aborted STREAM_TRUNCATED"),
    ] {
        system.provider.always_answers(said);
        let answer = Answer::read(system.chat.stream_chat(ask("claude-sonnet-4-5", None, "Hi")).await).await;
        assert_eq!(answer.failed().class(), expected);
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let mut system = System::start().await;
    let elsewhere = system_tests::FakeProvider::start().await.expect("another server");
    system.add_key(Provider::Anthropic, "sk-ant-default", Links { default: true, profiles: &[] }).await;
    for status in [301, 302, 303, 307, 308] {
        let redirect = Said::json(status, "").header("location", &format!("{}/v1/messages", elsewhere.url()));
        system.provider.always_answers(redirect);
        let answer = Answer::read(system.chat.stream_chat(ask("claude-sonnet-4-5", None, "Hi")).await).await;
        assert_eq!(answer.failed().class(), "Unavailable PROVIDER_INTERNAL");
    }
    assert!(elsewhere.received().is_empty(), "the key never leaves");
}

#[tokio::test]
async fn a_gateway_without_its_vault_says_so() {
    let mut system = System::start().await;
    let (status, _) = system.vault.stop().await;
    assert!(status.success(), "the vault stops cleanly");

    let answer = Answer::read(system.chat.stream_chat(ask("claude-sonnet-4-5", None, "Hi")).await).await;

    assert_eq!(answer.failed().class(), "Unavailable VAULT_UNAVAILABLE");
    assert!(system.provider.received().is_empty(), "nothing is sent without a key");
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused_and_one_below_it_arrives() {
    let mut system = System::start().await;
    system.add_key(Provider::Anthropic, "sk-ant-default", Links { default: true, profiles: &[] }).await;
    system.provider.always_answers(whole());

    let fits = "x".repeat(20 * 1024 * 1024);
    let answer = Answer::read(system.chat.stream_chat(ask("claude-sonnet-4-5", None, &fits)).await).await;
    assert_eq!(answer.text, "Hello");
    assert!(system.provider.last().body.len() > fits.len());

    let too_large = "x".repeat(32 * 1024 * 1024);
    let answer = Answer::read(system.chat.stream_chat(ask("claude-sonnet-4-5", None, &too_large)).await).await;
    assert_eq!(answer.failed().class(), "ResourceExhausted REQUEST_TOO_LARGE");
}

#[tokio::test]
async fn the_callers_deadline_ends_the_call_with_a_reason() {
    let mut system = System::start().await;
    system.add_key(Provider::Anthropic, "sk-ant-default", Links { default: true, profiles: &[] }).await;
    system.provider.always_answers(Said::stream("").ending(End::SilenceBeforeHeaders));
    let mut request = tonic::Request::new(ask("claude-sonnet-4-5", None, "Hi"));
    request.metadata_mut().insert("grpc-timeout", "1S".parse().expect("a header"));
    // tonic's channel has a timer of its own, which would race the answer on a busy machine.
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut chat = ChatServiceClient::with_origin(client, system.gateway.url().parse().expect("a URL"));

    let answer = Answer::read(chat.stream_chat(request).await).await;

    assert_eq!(answer.failed().class(), "DeadlineExceeded TOTAL_TIMEOUT");
}
