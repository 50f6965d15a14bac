//! The pages for those who write clients say what works: their blocks are the programs of
//! `examples`, and those run against both services with TLS, through every failure that the pages
//! speak of.
//!
//! Odd: the program in Go is held against its page and not run: there is no grpc-go in a registry
//! that CI reaches.

mod language;
mod program;

use std::{fs, time::Duration};

use proto::{
    keyvault::{CreateApiKeyRequest, KeyMaterial, api_key_service_client::ApiKeyServiceClient},
    types::Provider,
};
use system_tests::{
    Setup,
    fake_provider::{Answer, End},
    fault_proxy::FaultProxy,
    secured::{Secured, Service, Who},
    skip_without, start_gateway,
};

use language::{GO, Language, PYTHON, TYPESCRIPT, root};
use program::Program;

const KEY: &str = "sk-ant-of-the-pages-0123456789";

const BEGIN: &str = "\
event: message_start
data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}

event: content_block_start
data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}

event: content_block_delta
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello, \"}}

";

const REST: &str = "\
event: content_block_delta
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"reader.\"}}

event: content_block_stop
data: {\"type\":\"content_block_stop\",\"index\":0}

event: message_delta
data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":4}}

event: message_stop
data: {\"type\":\"message_stop\"}

";

/// How long a provider may take to see that a client has left. It takes 100 ms; machines are busy.
const LEFT_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn the_programs_are_the_blocks_of_their_pages() {
    for language in [&PYTHON, &TYPESCRIPT, &GO] {
        let path = root().join(language.program);
        let made = language.blocks();
        if std::env::var_os("GENERATE").is_some() {
            fs::write(&path, &made).expect("it can be written");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == made, "{} is not what {} says: run `make generate`", language.program, language.page);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_in_python_works() {
    match PYTHON.missing() {
        Some(part) => skip_without(part),
        None => works(&PYTHON).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_in_typescript_works() {
    match TYPESCRIPT.missing() {
        Some(part) => skip_without(part),
        None => works(&TYPESCRIPT).await,
    }
}

async fn works(language: &'static Language) {
    // What the gateway does about faults by itself would hide what a client does.
    let system = Secured::with(Setup::asking_once()).await;
    store_key(&system).await;
    let gateway = FaultProxy::to(&system.gateway.url()).await;
    let program = Program::new(language, &system, &gateway.address());

    it_is_built_and_answers_as_the_page_says(&program, &system).await;
    a_certificate_is_as_good_as_a_token(&program, &system).await;
    what_passes_is_tried_again(&program, &system).await;
    what_stays_is_explained_and_not_tried_again(&program, &system).await;
    an_answer_that_broke_off_is_not_asked_for_again(&program, &system).await;
    a_deadline_is_kept(&program, &system).await;
    who_stops_an_answer_goes_on_also_with_another_gateway(&program, system, &gateway).await;
}

async fn it_is_built_and_answers_as_the_page_says(program: &Program, system: &Secured) {
    system.provider.always_answers(hello());
    let shown = program.built().await;
    assert!(shown.contains("Hello, reader.\n[FINISH_REASON_STOP, 7 tokens]"), "{shown}");
    assert_eq!(system.provider.last().header("x-api-key"), KEY);
}

async fn a_certificate_is_as_good_as_a_token(program: &Program, system: &Secured) {
    let Who::Certificate(issued) = system.certificate("team-b") else { panic!("a certificate") };
    issued.write(&program.folder().join("agent.crt"), &program.folder().join("agent.key"));
    system.provider.always_answers(hello());
    let with = [("CHAT_GATEWAY_CLIENT_CERTIFICATE", "agent.crt"), ("CHAT_GATEWAY_CLIENT_KEY", "agent.key")];
    let ran = program.with(&with).without("CHAT_GATEWAY_TOKEN_FILE").run(&["claude-sonnet-4-5"], "Hi.\n").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("Hello, reader."), "{ran:?}");
}

async fn what_passes_is_tried_again(program: &Program, system: &Secured) {
    let before = system.provider.received().len();
    let wait = Duration::from_secs(1);
    let limited = r#"{"type":"error","error":{"type":"rate_limit_error","message":"Slow down."}}"#;
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Busy."}}"#;
    system.provider.always_answers(Answer::json(429, limited).header("retry-after", "1"));
    system.provider.answers(Answer::json(529, overloaded));
    system.provider.answers(hello());

    let ran = program.run(&["claude-sonnet-4-5"], "Hi.\n").await;

    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.starts_with("Hello, reader."), "{ran:?}");
    let received = system.provider.received().split_off(before);
    assert_eq!(received.len(), 3, "a rate limit, an overload, and an answer");
    let waited = received[1].at - received[0].at;
    assert!(waited >= wait, "RetryInfo is kept to: {waited:?}");
}

async fn what_stays_is_explained_and_not_tried_again(program: &Program, system: &Secured) {
    let before = system.provider.received().len();
    let ran = program.run(&["no-such-model"], "Hi.\n").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("INVALID_ARGUMENT MODEL_UNKNOWN: ") && ran.out.contains("'no-such-model'"), "{ran:?}");
    assert_eq!(system.provider.received().len(), before);

    std::fs::write(program.folder().join("nobody.token"), "akv1_none").expect("a file");
    let ran = program.with(&[("CHAT_GATEWAY_TOKEN_FILE", "nobody.token")]).run(&["claude-sonnet-4-5"], "Hi.\n").await;
    assert!(ran.out.contains("UNAUTHENTICATED CALLER_UNAUTHENTICATED"), "{ran:?}");
}

async fn an_answer_that_broke_off_is_not_asked_for_again(program: &Program, system: &Secured) {
    let before = system.provider.received().len();
    system.provider.always_answers(Answer::stream(BEGIN).ending(End::Cut));
    let ran = program.run(&["claude-sonnet-4-5"], "Hi.\n").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    for part in ["Hello, \nABORTED STREAM_TRUNCATED: ", "PROVIDER_UNREACHABLE", "[broken off after 4 tokens]"] {
        assert!(ran.out.contains(part), "{part}: {ran:?}");
    }
    assert_eq!(system.provider.received().len(), before + 1, "it was asked once");
}

async fn a_deadline_is_kept(program: &Program, system: &Secured) {
    let before = system.provider.received().len();
    system.provider.always_answers(Answer::stream(BEGIN).ending(End::SilenceBeforeHeaders));
    let ran = program.run(&["claude-sonnet-4-5", "1"], "Hi.\n").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("DEADLINE_EXCEEDED"), "{ran:?}");
    assert_eq!(system.provider.received().len(), before + 1, "it was asked once");
}

/// One run of the program, through which its connection outlives an answer and then a gateway.
async fn who_stops_an_answer_goes_on_also_with_another_gateway(
    program: &Program,
    system: Secured,
    gateway: &FaultProxy,
) {
    let hung_up = system.provider.hung_up();
    system.provider.always_answers(Answer::stream(BEGIN).ending(End::Silence));
    let mut running = program.start(&["claude-sonnet-4-5"]);
    running.says("Hi.\n").await;
    running.shows("Hello, ").await;
    running.interrupt().await;
    running.shows("[cancelled]").await;
    system.provider.sees_hang_ups(hung_up + 1, LEFT_WITHIN).await.expect("the provider sees it");

    system.provider.always_answers(hello());
    let files = system.files();
    let setup = Setup { gateway_options: files.options(Service::Gateway), secured: true, ..Setup::default() };
    let other = start_gateway(files.folder(), &system.vault.url(), &system.provider.url(), &setup).await;
    let other = other.expect("another gateway");
    gateway.lead_to(&other.url());
    let (status, log) = system.gateway.stop().await;
    assert!(status.success(), "{log}");
    running.says("And again.\n").await;
    running.shows("Hello, reader.\n[FINISH_REASON_STOP, 7 tokens]").await;
    assert_eq!(running.ends().await, 0, "what was cancelled did not fail");
}

fn hello() -> Answer {
    Answer::stream([BEGIN, REST].concat())
}

async fn store_key(system: &Secured) {
    let request = CreateApiKeyRequest {
        organization_id: "acme".to_owned(),
        provider: Provider::Anthropic.into(),
        display_name: "Pages".to_owned(),
        material: Some(KeyMaterial { api_key: KEY.to_owned() }),
        profile_ids: vec!["team-b".to_owned()],
        ..Default::default()
    };
    let wire = system.connect(Service::Vault, &system.certificate("admin"));
    ApiKeyServiceClient::new(wire).create_api_key(request).await.expect("the key is stored");
}
