use serde_json::{Value, json};

use super::*;
use crate::{
    message::{
        AssistantPart, FileSource, FinishReason, Function, Image, Message, Part, Tool, ToolCall, ToolChoice,
        ToolResult, UserPart,
    },
    provider::{
        Broken, RejectionKind,
        transcript::{Transcript, line, read, stream, usage},
    },
};

fn text(text: &str) -> Part<UserPart> {
    UserPart::Text(text.to_owned()).into()
}

fn user(content: &str) -> Message {
    Message::User(vec![text(content)])
}

fn call(id: &str, arguments: &str) -> Part<AssistantPart> {
    AssistantPart::ToolCall(ToolCall {
        id: id.to_owned(),
        name: "tool".to_owned(),
        arguments: arguments.to_owned(),
        signature: String::new(),
    })
    .into()
}

fn result(id: &str, content: Vec<Part<UserPart>>, is_error: bool) -> Part<ToolResult> {
    ToolResult { call_id: id.to_owned(), name: "tool".to_owned(), content, is_error }.into()
}

fn tool(parameters: &str) -> Part<Tool> {
    let (name, parameters) = ("tool".to_owned(), parameters.to_owned());
    Tool::Function(Function { name, description: String::new(), parameters, strict: None }).into()
}

fn body(model: &str, chat: &Chat) -> Value {
    serde_json::from_slice(&Anthropic.request(model, chat).unwrap().body).unwrap()
}

#[test]
fn a_plain_chat_needs_a_limit_and_a_version() {
    let chat = Chat { messages: vec![user("Hi")], ..Chat::default() };
    let outbound = Anthropic.request("claude-sonnet-4-5", &chat).unwrap();
    assert_eq!(outbound.path, "/messages");
    assert_eq!(outbound.headers["anthropic-version"], "2023-06-01");
    let expected = json!({
        "model": "claude-sonnet-4-5", "max_tokens": 64000, "stream": true,
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Hi" }] }],
    });
    assert_eq!(serde_json::from_slice::<Value>(&outbound.body).unwrap(), expected);
}

#[test]
fn every_parameter_has_its_place() {
    let chat = Chat {
        system: "Be brief.".to_owned(),
        messages: vec![user("Hi")],
        max_output_tokens: Some(7),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        stop_sequences: vec!["END".to_owned()],
        ..Chat::default()
    };
    let body = body("claude-3-haiku", &chat);
    assert_eq!(body["system"], "Be brief.");
    assert_eq!((&body["max_tokens"], &body["temperature"], &body["top_p"]), (&json!(7), &json!(0.5), &json!(0.9)));
    assert_eq!((&body["top_k"], &body["stop_sequences"]), (&json!(40), &json!(["END"])));
}

#[test]
fn turns_of_one_role_are_one_and_results_come_first() {
    let data =
        Image { source: FileSource::Data("img".into()), media_type: "image/png".to_owned(), detail: String::new() };
    let url = Image {
        source: FileSource::Url("https://a.test/b".to_owned()),
        media_type: String::new(),
        detail: String::new(),
    };
    let chat = Chat {
        messages: vec![
            user("Look"),
            Message::User(vec![UserPart::Image(data).into(), UserPart::Image(url).into()]),
            Message::Assistant(vec![
                AssistantPart::Text { text: String::new(), signature: String::new() }.into(),
                call("a", r#"{"z":1, "a":1.00}"#),
            ]),
            Message::Assistant(vec![call("b", "{}")]),
            user("By the way"),
            Message::Tool(vec![result("a", vec![text("4"), text("2")], false)]),
            Message::Tool(vec![result("b", vec![], true)]),
        ],
        ..Chat::default()
    };
    let expected = json!([
        { "role": "user", "content": [
            { "type": "text", "text": "Look" },
            { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aW1n" } },
            { "type": "image", "source": { "type": "url", "url": "https://a.test/b" } },
        ]},
        { "role": "assistant", "content": [
            { "type": "tool_use", "id": "a", "name": "tool", "input": { "z": 1, "a": 1.0 } },
            { "type": "tool_use", "id": "b", "name": "tool", "input": {} },
        ]},
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "a", "content": [
                { "type": "text", "text": "4" }, { "type": "text", "text": "2" },
            ]},
            { "type": "tool_result", "tool_use_id": "b", "is_error": true },
            { "type": "text", "text": "By the way" },
        ]},
    ]);
    assert_eq!(body("claude-3-haiku", &chat)["messages"], expected);
    let raw = Anthropic.request("claude-3-haiku", &chat).unwrap().body;
    assert!(String::from_utf8(raw).unwrap().contains(r#""input":{"z":1, "a":1.00}"#));
}

#[test]
fn tools_and_their_choice() {
    let chat = |tool_choice, parallel_tool_calls| Chat {
        messages: vec![user("Hi")],
        tools: vec![tool(""), tool(r#"{"type":"object","required":["a"]}"#)],
        tool_choice,
        parallel_tool_calls,
        ..Chat::default()
    };
    let tools = json!([
        { "name": "tool", "input_schema": { "type": "object", "properties": {} } },
        { "name": "tool", "input_schema": { "type": "object", "required": ["a"] } },
    ]);
    assert_eq!(body("claude-3-haiku", &chat(None, None))["tools"], tools);
    for (choice, parallel, expected) in [
        (None, None, Value::Null),
        (None, Some(true), Value::Null),
        (None, Some(false), json!({ "type": "auto", "disable_parallel_tool_use": true })),
        (Some(ToolChoice::Auto), None, json!({ "type": "auto" })),
        (Some(ToolChoice::None), Some(false), json!({ "type": "none" })),
        (Some(ToolChoice::Required), Some(false), json!({ "type": "any", "disable_parallel_tool_use": true })),
        (Some(ToolChoice::Tool("tool".to_owned())), Some(true), json!({ "type": "tool", "name": "tool" })),
    ] {
        assert_eq!(body("claude-3-haiku", &chat(choice, parallel))["tool_choice"], expected);
    }
}

#[test]
fn without_a_limit_the_model_may_say_all_it_can() {
    let chat = Chat { messages: vec![user("Hi")], ..Chat::default() };
    for (model, tokens) in [
        ("claude-opus-5-5", 128_000),
        ("claude-opus-4-7", 128_000),
        ("claude-sonnet-4-6", 128_000),
        ("claude-fable-5-1", 128_000),
        ("claude-haiku-4-5-20251001", 64_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("claude-opus-4-5-20251101", 64_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-4-opus-20250514", 32_000),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-3-5-haiku-latest", 8_192),
        ("claude-3-opus-20240229", 4_096),
        ("claude-2.1", 4_096),
        ("claude-next", 4_096),
        ("claude-opus-45", 4_096),
        ("\u{e9}", 4_096),
    ] {
        assert_eq!(body(model, &chat)["max_tokens"], tokens, "{model}");
    }
}

#[test]
fn what_anthropic_does_not_have_is_refused() {
    let chat = || Chat { messages: vec![user("Hi")], ..Chat::default() };
    let old = "claude-sonnet-4-5";
    for (model, chat, field) in [
        (old, Chat { seed: Some(1), ..chat() }, "seed"),
        (old, Chat { presence_penalty: Some(0.0), ..chat() }, "presence_penalty"),
        (old, Chat { frequency_penalty: Some(0.0), ..chat() }, "frequency_penalty"),
        (old, Chat { temperature: Some(1.1), ..chat() }, "temperature"),
        (old, Chat { temperature: Some(f64::NAN), ..chat() }, "temperature"),
        (old, Chat { top_p: Some(-0.1), ..chat() }, "top_p"),
        (old, Chat { tool_choice: Some(ToolChoice::Required), ..chat() }, "tool_choice"),
        ("claude-opus-4-7", Chat { temperature: Some(1.0), ..chat() }, "temperature"),
        ("claude-opus-4-8-20260601", Chat { top_p: Some(1.0), ..chat() }, "top_p"),
        ("claude-sonnet-5", Chat { top_k: Some(1), ..chat() }, "top_k"),
        ("Claude-Opus-5-5", Chat { top_k: Some(1), ..chat() }, "top_k"),
        ("claude-fable-5-1", Chat { temperature: Some(0.0), ..chat() }, "temperature"),
        (old, Chat { tools: vec![tool("{")], ..chat() }, "tools[0].parameters"),
        (
            old,
            Chat { messages: vec![user("Hi"), Message::Assistant(vec![call("a", "{")])], ..chat() },
            "messages[1].parts[0].tool_call.arguments",
        ),
    ] {
        let refused = Anthropic.request(model, &chat).map(|_| ()).unwrap_err();
        assert_eq!(refused.field, field, "{}", refused.problem);
    }
}

#[test]
fn the_key_goes_into_a_header_that_is_not_shown() {
    let (name, value) = Anthropic.credential(&KeyMaterial::new("sk-ant-1".to_owned())).unwrap();
    assert_eq!((name.as_str(), value.as_bytes(), value.is_sensitive()), ("x-api-key", b"sk-ant-1".as_slice(), true));
    assert_eq!(Anthropic.credential(&KeyMaterial::new("sk\n".to_owned())), None);
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","role":"assistant","content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":3,"cache_creation_input_tokens":2,"output_tokens":1}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

fn delta(reason: &str) -> String {
    format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":9}}}}"#
    )
}

fn answer(blocks: &[&str], reason: &str) -> Transcript {
    let end = delta(reason);
    read(decoder, &stream(&[&[START], blocks, &[&end, STOP]].concat()))
}

const TEXT: &[&str] = &[
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Héllo \u00e9\ud83e\udd80"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{}}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
];

#[test]
fn text_commits_and_message_stop_ends() {
    let answer = answer(TEXT, "end_turn");
    assert_eq!(answer.text(), "Héllo é🦀");
    assert_eq!(answer.before_commit, 4);
    assert_eq!((answer.model.as_deref(), answer.response_id.as_deref()), (Some("claude-x"), Some("msg_1")));
    let finish = answer.finish();
    assert_eq!((finish.reason, finish.provider_reason.as_str()), (FinishReason::Stop, "end_turn"));
    let counts = usage([Some(15), Some(3), Some(2), Some(9), None, Some(24)]);
    assert_eq!((finish.usage, answer.usage()), (Some(counts), Some(counts)));
}

#[test]
fn each_stop_reason_has_its_meaning() {
    for (word, reason) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::StopSequence),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("tool_use", FinishReason::ToolCalls),
        ("refusal", FinishReason::Refusal),
        ("pause_turn", FinishReason::Pause),
        ("brand_new", FinishReason::Other),
    ] {
        let answer = answer(&[], word);
        assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (reason, word));
    }
    let named = r#"{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"}}"#;
    assert_eq!(read(decoder, &stream(&[START, named, STOP])).finish().stop_sequence, "END");
}

#[test]
fn a_later_count_replaces_an_earlier_one_field_by_field() {
    let first = r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":100,"cache_read_input_tokens":null,"output_tokens":5}}"#;
    let last = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4,"output_tokens_details":{"thinking_tokens":3}}}"#;
    let answer = read(decoder, &stream(&[START, first, last, STOP]));
    let counts = usage([Some(105), Some(3), Some(2), Some(4), Some(3), Some(109)]);
    assert_eq!(answer.finish().usage, Some(counts));
    assert_eq!(
        read(
            decoder,
            &stream(&[
                r#"{"type":"message_start","message":{}}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
                STOP
            ])
        )
        .finish()
        .usage,
        None
    );
}

#[test]
fn arguments_come_in_pieces_or_with_the_beginning() {
    let blocks = [
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"t","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"k\":"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"b","name":"t","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"c","name":"t","input":{"k": 2}}}"#,
        r#"{"type":"content_block_stop","index":3}"#,
    ];
    let answer = answer(&blocks, "tool_use");
    let calls: Vec<String> = answer.calls().into_iter().map(line).collect();
    assert_eq!(calls, [r#"0 a t {"k":1}"#, "1 b t {}", r#"2 c t {"k": 2}"#]);
    assert_eq!(answer.finish().reason, FinishReason::ToolCalls);
}

#[test]
fn a_call_that_the_limit_cuts_is_incomplete() {
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"t","input":{}}}"#;
    let piece =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"k\":"}}"#;
    let cut = answer(&[begin, piece], "max_tokens");
    assert_eq!(cut.calls().into_iter().map(line).collect::<Vec<_>>(), [r#"0 a t {"k": !"#]);
    assert_eq!(cut.finish().reason, FinishReason::Length);
    assert_eq!(answer(&[begin], "max_tokens").calls().into_iter().map(line).collect::<Vec<_>>(), ["0 a t  !"]);
}

#[test]
fn a_call_without_input_is_whole_only_if_the_model_went_on_or_ended_by_itself() {
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"t","input":{}}}"#;
    let empty = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#;
    let end = r#"{"type":"content_block_stop","index":0}"#;
    let next = r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#;
    for (blocks, reason, expected) in [
        (&[begin, empty, end][..], "tool_use", "0 a t {}"),
        (&[begin, empty, end], "max_tokens", "0 a t  !"),
        (&[begin, empty, end], "refusal", "0 a t  !"),
        (&[begin, empty, end, next], "max_tokens", "0 a t {}"),
    ] {
        let calls: Vec<_> = answer(blocks, reason).calls().into_iter().map(line).collect();
        assert_eq!(calls, [expected], "{reason}");
    }
}

#[test]
fn an_end_that_does_not_say_why_is_a_cut() {
    for data in [&[STOP][..], &[START, STOP], &[START, TEXT[0], STOP]] {
        let cut = read(decoder, &stream(data));
        assert_eq!((cut.finished, &cut.broken), (false, &Some(Broken::Cut)), "{data:?}");
    }
}

#[test]
fn content_without_a_common_form_commits_and_shows_nothing() {
    for block in [
        r#"{"type":"thinking","thinking":"","signature":""}"#,
        r#"{"type":"redacted_thinking","data":"x"}"#,
        r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#,
        r#"{"type":"web_search_tool_result","content":[]}"#,
        r#"{"type":"brand_new","id":7}"#,
    ] {
        let start = format!(r#"{{"type":"content_block_start","index":0,"content_block":{block}}}"#);
        let blocks = [
            start.as_str(),
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"x"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"brand_new","text":7}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
        ];
        let answer = answer(&blocks, "end_turn");
        assert_eq!((answer.before_commit, answer.text(), answer.calls().len()), (1, String::new(), 0), "{block}");
    }
    let unknown = answer(&[r#"{"type":"brand_new","index":"x","delta":7}"#], "end_turn");
    assert_eq!((unknown.before_commit, unknown.finish().reason), (3, FinishReason::Stop));
}

#[test]
fn what_must_not_be_is_malformed() {
    for blocks in [
        vec!["{"],
        vec!["7"],
        vec![r#"["ping"]"#],
        vec![START],
        vec![TEXT[0], TEXT[0]],
        vec![TEXT[3]],
        vec![r#"{"type":"content_block_stop","index":0}"#],
        vec![r#"{"type":"content_block_start","content_block":{"type":"text"}}"#],
        vec![r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a"}}"#],
        vec![TEXT[0], r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":7}}"#],
    ] {
        let answer = answer(&blocks, "end_turn");
        assert!(matches!(answer.broken, Some(Broken::Malformed(_))), "{blocks:?}");
        assert!(!answer.finished);
    }
    assert!(matches!(read(decoder, &stream(&[TEXT[0]])).broken, Some(Broken::Malformed(_))));
}

#[test]
fn the_end_of_the_body_alone_is_no_end() {
    for data in [&[START][..], &[START, TEXT[0], TEXT[3]], &[]] {
        let cut = read(decoder, &stream(data));
        assert_eq!((cut.finished, cut.broken), (false, None));
    }
}

#[test]
fn an_error_in_the_stream_is_the_error_it_stands_for() {
    for (kind, expected) in [
        ("overloaded_error", RejectionKind::Overloaded),
        ("rate_limit_error", RejectionKind::RateLimited),
        ("authentication_error", RejectionKind::Key),
        ("permission_error", RejectionKind::Permission),
        ("billing_error", RejectionKind::Quota),
        ("not_found_error", RejectionKind::ModelNotFound),
        ("invalid_request_error", RejectionKind::InvalidRequest),
        ("timeout_error", RejectionKind::Timeout),
        ("api_error", RejectionKind::Internal),
        ("brand_new", RejectionKind::Internal),
    ] {
        for outer in [r#""type":"error","#, ""] {
            let error = format!(r#"{{{outer}"error":{{"details":null,"type":"{kind}","message":"M"}}}}"#);
            match read(decoder, &stream(&[START, &error])).broken {
                Some(Broken::Rejected(rejection)) => {
                    assert_eq!((rejection.kind, rejection.message.as_str()), (expected, "M"));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn each_refusal_has_its_meaning() {
    use RejectionKind as Kind;
    let low = "Your credit balance is too low to access the Anthropic API.";
    for (status, code, message, kind) in [
        (400, "invalid_request_error", "bad", Kind::InvalidRequest),
        (400, "invalid_request_error", low, Kind::Quota),
        (400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum", Kind::ContextLength),
        (401, "authentication_error", "invalid x-api-key", Kind::Key),
        (402, "billing_error", "", Kind::Quota),
        (403, "permission_error", "", Kind::Permission),
        (404, "not_found_error", "model: x", Kind::ModelNotFound),
        (408, "", "", Kind::Timeout),
        (413, "request_too_large", "", Kind::InvalidRequest),
        (422, "", "", Kind::InvalidRequest),
        (429, "rate_limit_error", "", Kind::RateLimited),
        (500, "api_error", "", Kind::Internal),
        (500, "overloaded_error", "", Kind::Overloaded),
        (502, "", "", Kind::Internal),
        (503, "", "", Kind::Overloaded),
        (504, "timeout_error", "", Kind::Timeout),
        (529, "overloaded_error", "Overloaded", Kind::Overloaded),
        (418, "", "", Kind::InvalidRequest),
        (599, "", "", Kind::Internal),
    ] {
        let body = json!({ "type": "error", "error": { "type": code, "message": message } }).to_string();
        let rejection = Anthropic.classify(status, &HeaderMap::new(), body.as_bytes());
        assert_eq!((rejection.kind, rejection.code.as_str(), rejection.message.as_str()), (kind, code, message));
    }
    for body in ["", "<html>413</html>"] {
        assert_eq!(Anthropic.classify(413, &HeaderMap::new(), body.as_bytes()).kind, Kind::InvalidRequest);
    }
}

#[test]
fn a_wait_is_believed_where_waiting_helps() {
    let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static("7"))]);
    let seven = Some(std::time::Duration::from_secs(7));
    assert_eq!(Anthropic.classify(429, &headers, b"").retry_after, seven);
    assert_eq!(Anthropic.classify(529, &headers, b"").retry_after, seven);
    assert_eq!(Anthropic.classify(401, &headers, b"").retry_after, None);
}
