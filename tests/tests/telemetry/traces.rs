//! One trace of each chat, through both services, whatever becomes of it.

use std::time::Duration;

use proto::chat::{StreamChatRequest, chat_service_client::ChatServiceClient};
use system_tests::{
    Setup, System,
    answer::{Answer, ask},
    collector::{Collector, Kind},
    fake_provider::{Answer as Said, End},
    secured::{Secured, Service, Who},
    stage::wire::Api,
};

use tonic::{Code, transport::Endpoint};

use super::{
    desk::{CALLER, Desk, Seen, chat_over, exporting, new_trace, sampled, with},
    spans::{
        ANSWERED, ASKED, ASKS_VAULT, ATTEMPT, BEGAN, Expected, KEY, LED, OK, OPERATION, RESOLUTION, RESOLVE_KEY, Rows,
        SERVER, STREAM_CHAT,
        Want::{Int, Is, Text},
        attempt, call, operation, problems,
    },
};

const OPENAI: Rows = &[("gen_ai.provider.name", Is("openai")), ("openai.api.type", Is("chat_completions"))];

const ANTHROPIC: Rows = &[("gen_ai.provider.name", Is("anthropic"))];

const COLD: &[Expected] = &[
    call(&[SERVER, ASKED, LED, KEY, &[("keyvault.cache", Is("miss"))]]),
    RESOLUTION[0],
    RESOLUTION[1],
    operation("chat gpt-4o", &[OPERATION, KEY, BEGAN, ANSWERED, OPENAI, &[("keyvault.cache", Is("miss"))]]),
    attempt(&[ATTEMPT, OK]),
];

const WARM: &[Expected] = &[
    call(&[SERVER, ASKED, LED, KEY]),
    operation("chat gpt-4o", &[OPERATION, KEY, BEGAN, ANSWERED, OPENAI]),
    attempt(&[ATTEMPT, OK]),
];

const RETRY: &[Expected] = &[
    call(&[SERVER, ASKED, LED, KEY, TWICE]),
    operation("chat gpt-4o", &[OPERATION, KEY, BEGAN, ANSWERED, OPENAI, TWICE]),
    attempt(&[ATTEMPT, &[("http.response.status_code", Int(500)), ("error.type", Text)]]).failing(),
    attempt(&[ATTEMPT, OK, &[("http.request.resend_count", Int(1))]]),
];

const TWICE: Rows = &[("chatgateway.attempt.count", Int(2))];

const FALLBACK: &[Expected] = &[
    call(&[SERVER, ASKED, LED, KEY, TWICE]),
    operation("chat claude-sonnet-4-5", &[OPERATION, KEY, ANTHROPIC, FAILED]).failing(),
    attempt(&[ATTEMPT, &[("http.response.status_code", Int(404)), ("error.type", Text)]]).failing(),
    operation("chat gpt-4o", &[OPERATION, KEY, BEGAN, ANSWERED, OPENAI]),
    attempt(&[ATTEMPT, OK]),
];

const FAILED: Rows = &[("chatgateway.finish", Is("failed")), ("error.type", Text)];

const CANCELLED: &[Expected] = &[
    call(&[SERVER, ASKED, LED, KEY, LEFT, GONE]),
    operation("chat gpt-4o", &[OPERATION, KEY, BEGAN, OPENAI, LEFT]),
    attempt(&[ATTEMPT, OK]),
];

const GONE: Rows =
    &[("rpc.status_code", Is("CANCELLED")), ("error.type", Is("_OTHER")), ("archestra.fault", Is("caller"))];

const LEFT: Rows = &[("chatgateway.finish", Is("cancelled"))];

const CUT: &[Expected] = &[
    call(&[
        SERVER,
        ASKED,
        LED,
        KEY,
        BROKEN,
        &[
            ("rpc.status_code", Is("ABORTED")),
            ("error.type", Is("STREAM_TRUNCATED")),
            // As that of its cause, a connection that broke.
            ("archestra.fault", Is("operator")),
        ],
    ]),
    operation(
        "chat claude-sonnet-4-5",
        &[
            OPERATION,
            KEY,
            BEGAN,
            ANTHROPIC,
            BROKEN,
            &[("error.type", Text), ("gen_ai.usage.input_tokens", Int(3)), ("gen_ai.usage.output_tokens", Int(1))],
        ],
    )
    .failing(),
    attempt(&[ATTEMPT, OK, &[("error.type", Text)]]).failing(),
];

const BROKEN: Rows = &[("chatgateway.finish", Is("truncated"))];

const UNKNOWN_MODEL: &[Expected] = &[call(&[
    SERVER,
    ASKED,
    &[
        ("rpc.status_code", Is("INVALID_ARGUMENT")),
        ("error.type", Is("MODEL_UNKNOWN")),
        ("archestra.fault", Is("caller")),
        ("chatgateway.finish", Is("failed")),
    ],
])];

const NO_VAULT: &[Expected] = &[
    call(&[
        SERVER,
        ASKED,
        &[
            ("rpc.status_code", Is("UNAVAILABLE")),
            ("error.type", Is("VAULT_UNAVAILABLE")),
            ("archestra.fault", Is("operator")),
            ("chatgateway.detect.rule", Text),
            ("chatgateway.finish", Is("failed")),
        ],
    ])
    .failing(),
    Expected {
        depth: 1,
        service: "chat-gateway",
        kind: Kind::Client,
        name: RESOLVE_KEY,
        fails: true,
        rows: &[ASKS_VAULT, &[("rpc.status_code", Is("UNAVAILABLE")), ("error.type", Text)]],
    },
];

/// What was played, and what its trace must be.
struct Played {
    name: &'static str,
    trace: String,
    expected: &'static [Expected],
}

#[tokio::test]
async fn every_chat_is_one_trace_from_its_caller_to_its_provider() {
    let mut desk = Desk::start().await;
    let mut played = Vec::new();
    let mut play = |name, trace, expected| played.push(Played { name, trace, expected });

    desk.system.provider.always_answers(Api::ChatCompletions.whole(2));
    let chatted = desk.chat(says(Api::ChatCompletions)).await;
    chatted.answer.is_whole(Api::ChatCompletions, 2);
    play("a key that is not kept", chatted.trace, COLD);

    let chatted = desk.chat(says(Api::ChatCompletions)).await;
    chatted.answer.is_whole(Api::ChatCompletions, 2);
    play("a key that is kept", chatted.trace, WARM);

    desk.system.provider.always_answers(Api::ChatCompletions.error(500));
    desk.system.provider.answers(Api::ChatCompletions.whole(2));
    let chatted = desk.chat(says(Api::ChatCompletions)).await;
    chatted.answer.is_whole(Api::ChatCompletions, 2);
    play("a second attempt", chatted.trace, RETRY);

    desk.warms(Api::Messages, Some(PROFILE)).await;
    desk.system.provider.always_answers(Api::Messages.error(404));
    desk.system.provider.answers(Api::ChatCompletions.whole(2));
    let mut request = says(Api::Messages);
    request.fallback_models = vec![Api::ChatCompletions.model().to_owned()];
    let chatted = desk.chat(request).await;
    chatted.answer.is_whole(Api::ChatCompletions, 2);
    play("another provider", chatted.trace, FALLBACK);

    let begun = Api::ChatCompletions.opening() + &Api::ChatCompletions.tokens(0..3);
    desk.system.provider.always_answers(Said::stream(begun).ending(End::Silence));
    play("a caller who leaves", desk.leaves_mid_stream(says(Api::ChatCompletions)).await, CANCELLED);

    let begun = Api::Messages.opening() + &Api::Messages.tokens(0..3);
    desk.system.provider.always_answers(Said::stream(begun).ending(End::Cut));
    let chatted = desk.chat(says(Api::Messages)).await;
    assert_eq!(chatted.answer.failed().class(), "Aborted STREAM_TRUNCATED");
    play("a stream that is cut", chatted.trace, CUT);

    let chatted = desk.chat(ask("nobodys-model", Some(PROFILE), "Hi")).await;
    assert_eq!(chatted.answer.failed().class(), "InvalidArgument MODEL_UNKNOWN");
    play("a model that nobody knows", chatted.trace, UNKNOWN_MODEL);

    assert_traces(&desk.ends().await, &played);
}

#[tokio::test]
async fn a_chat_without_a_vault_is_one_trace_too() {
    let Desk { system, collector } = Desk::start().await;
    let System { vault, gateway, mut chat, .. } = system;
    let vault_log = vault.kill().await;
    let trace = new_trace();
    let answer = chat_over(&mut chat, says(Api::ChatCompletions), &[("traceparent", &sampled(&trace))]).await;
    assert_eq!(answer.failed().class(), "Unavailable VAULT_UNAVAILABLE");
    assert_eq!(answer.failed().trace_id, trace);
    let (_, gateway_log) = gateway.stop().await;
    let played = [Played { name: "no vault", trace, expected: NO_VAULT }];
    assert_traces(&Seen { collector, vault_log, gateway_log }, &played);
}

#[tokio::test]
async fn a_caller_who_is_refused_has_a_trace_of_one_span() {
    let collector = Collector::start().await;
    let system = Secured::with(exporting(Setup::default(), &collector.url())).await;
    let mut played = Vec::new();
    for (who, profile, class) in [
        (Who::Nobody, "team-a", "Unauthenticated CALLER_UNAUTHENTICATED"),
        (system.certificate("team-a"), "team-b", "PermissionDenied CALLER_NOT_ALLOWED"),
    ] {
        let trace = new_trace();
        let request = with(ask("claude-sonnet-4-5", Some(profile), "Hi"), &[("traceparent", &sampled(&trace))]);
        let mut client = ChatServiceClient::new(system.connect(Service::Gateway, &who));
        let answer = Answer::read(client.stream_chat(request).await).await;
        assert_eq!(answer.failed().class(), class);
        assert_eq!(answer.failed().trace_id, trace);
        played.push(trace);
    }
    let Secured { vault, gateway, .. } = system;
    let (_, gateway_log) = gateway.stop().await;
    let (_, vault_log) = vault.stop().await;
    let [nobody, stranger] = played.try_into().expect("two chats");
    let played = [
        Played { name: "nobody", trace: nobody, expected: UNAUTHENTICATED },
        Played { name: "a stranger", trace: stranger, expected: NOT_ALLOWED },
    ];
    assert_traces(&Seen { collector, vault_log, gateway_log }, &played);
}

const UNAUTHENTICATED: &[Expected] = &[call(&[
    SERVER,
    &[
        ("rpc.method", Is(STREAM_CHAT)),
        ("rpc.status_code", Is("UNAUTHENTICATED")),
        ("error.type", Is("CALLER_UNAUTHENTICATED")),
        ("archestra.fault", Is("caller")),
    ],
])];

/// What it asks for is not looked at.
const NOT_ALLOWED: &[Expected] = &[call(&[
    SERVER,
    &[
        ("rpc.method", Is(STREAM_CHAT)),
        ("rpc.status_code", Is("PERMISSION_DENIED")),
        ("error.type", Is("CALLER_NOT_ALLOWED")),
        ("archestra.fault", Is("operator")),
    ],
])];

/// What a provider waits in the middle of an answer.
const PAUSE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_span_lasts_as_long_as_what_it_stands_for() {
    let mut desk = Desk::start().await;
    let api = Api::ChatCompletions;
    desk.warms(api, Some(PROFILE)).await;
    let begun = || Said::stream(api.opening() + &api.tokens(0..1));
    let mut traces = Vec::new();
    for (what, answer) in [
        ("is whole", begun().and_after(PAUSE, api.tokens(1..2) + &api.closing(2))),
        ("is cut", begun().and_after(PAUSE, api.tokens(1..2)).ending(End::Cut)),
        ("has not begun", api.whole(2).thinking(PAUSE)),
    ] {
        desk.system.provider.always_answers(answer);
        traces.push((what, desk.chat(says(api)).await.trace));
    }
    desk.system.provider.always_answers(begun().and_after(PAUSE, api.tokens(1..2)).ending(End::Silence));
    let (trace, texts) = (new_trace(), 2);
    desk.leaves_after(texts, says(api), &trace).await;
    traces.push(("nobody waits for", trace));
    let seen = desk.ends().await;
    let mut problems = Vec::new();
    for (what, trace) in traces {
        for span in seen.trace(&trace).spans() {
            let lasts = Duration::from_nanos(span.ended - span.began);
            // The clocks of three tell it: a little less is as good.
            if lasts < PAUSE * 9 / 10 {
                problems.push(format!("{} of an answer that {what}: {lasts:?}", span.name));
            }
        }
    }
    assert!(problems.is_empty(), "spans that are too short:\n{}", problems.join("\n"));
}

/// What is asked for is not there, under a name that anybody can make up.
const NOT_SERVED: &[Expected] = &[Expected {
    name: "_OTHER",
    ..call(&[
        SERVER,
        &[
            ("rpc.method", Is("_OTHER")),
            ("rpc.method_original", Is("archestra.chat.v1.ChatService/Unserved")),
            ("rpc.status_code", Is("UNIMPLEMENTED")),
            ("error.type", Is("_OTHER")),
            ("archestra.fault", Is("caller")),
        ],
    ])
    .failing()
}];

#[tokio::test]
async fn a_method_that_is_not_served_names_no_span() {
    let desk = Desk::start().await;
    let trace = new_trace();
    let channel = Endpoint::from_shared(desk.system.gateway.url()).expect("a URL").connect().await.expect("it serves");
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("it serves");
    let path = http::uri::PathAndQuery::from_static("/archestra.chat.v1.ChatService/Unserved");
    let codec = tonic_prost::ProstCodec::<StreamChatRequest, StreamChatRequest>::default();
    let request = with(StreamChatRequest::default(), &[("traceparent", &sampled(&trace))]);
    let answer = client.unary(request, path, codec).await;
    assert_eq!(answer.expect_err("nobody serves it").code(), Code::Unimplemented);
    let played = [Played { name: "a method that is not served", trace, expected: NOT_SERVED }];
    assert_traces(&desk.ends().await, &played);
}

const PROFILE: &str = "research";

fn says(api: Api) -> StreamChatRequest {
    ask(api.model(), Some(PROFILE), "Hi")
}

fn assert_traces(seen: &Seen, played: &[Played]) {
    let mut found = Vec::new();
    for Played { name, trace, expected } in played {
        let problems = problems(&seen.trace(trace), CALLER, expected);
        found.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
    }
    assert!(found.is_empty(), "{} problems:\n{}", found.len(), found.join("\n"));
}
