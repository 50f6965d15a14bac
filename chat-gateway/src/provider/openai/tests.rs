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

fn chat() -> Chat {
    Chat { messages: vec![user("Hi")], ..Chat::default() }
}

fn image() -> Part<UserPart> {
    UserPart::Image(Image {
        source: FileSource::Data("img".into()),
        media_type: "image/png".to_owned(),
        detail: String::new(),
    })
    .into()
}

fn body(model: &str, chat: &Chat) -> Value {
    serde_json::from_slice(&OpenAi.request(model, chat).unwrap().body).unwrap()
}

#[test]
fn a_plain_chat_asks_for_its_usage() {
    let outbound = OpenAi.request("gpt-4o", &chat()).unwrap();
    assert_eq!((outbound.path.as_str(), outbound.headers.len()), ("/chat/completions", 0));
    let expected = json!({
        "model": "gpt-4o", "stream": true, "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": "Hi" }],
    });
    assert_eq!(serde_json::from_slice::<Value>(&outbound.body).unwrap(), expected);
}

#[test]
fn every_parameter_has_its_place() {
    let chat = Chat {
        max_output_tokens: Some(7),
        temperature: Some(2.0),
        top_p: Some(0.9),
        stop_sequences: vec!["END".to_owned()],
        seed: Some(-3),
        presence_penalty: Some(-2.0),
        frequency_penalty: Some(2.0),
        ..chat()
    };
    let body = body("gpt-4o", &chat);
    for (field, value) in [
        ("max_completion_tokens", json!(7)),
        ("max_tokens", Value::Null),
        ("temperature", json!(2.0)),
        ("top_p", json!(0.9)),
        ("stop", json!(["END"])),
        ("seed", json!(-3)),
        ("presence_penalty", json!(-2.0)),
        ("frequency_penalty", json!(2.0)),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
}

#[test]
fn reasoning_models_are_instructed_by_the_developer() {
    let chat = Chat { system: "Be brief.".to_owned(), ..chat() };
    for (model, role) in [
        ("gpt-4o", "system"),
        ("gpt-4.1-mini", "system"),
        ("gpt-3.5-turbo", "system"),
        ("gpt-35-turbo", "system"),
        ("gpt-5-chat-latest", "system"),
        ("gpt-audio-mini", "system"),
        ("ft:gpt-4o:acme", "system"),
        ("o-series", "system"),
        ("o3", "developer"),
        ("o4-mini-2025-04-16", "developer"),
        ("gpt-5", "developer"),
        ("GPT-5.1-codex", "developer"),
        ("gpt-6-sol", "developer"),
        ("gpt-10", "developer"),
        ("ft:o4-mini-2025-04-16:acme", "developer"),
    ] {
        let first = json!({ "role": role, "content": "Be brief." });
        assert_eq!(body(model, &chat)["messages"][0], first, "{model}");
    }
}

#[test]
fn each_result_is_a_message_of_its_own() {
    let call = |id: &str| {
        let arguments = r#"{"z": 1}"#.to_owned();
        AssistantPart::ToolCall(ToolCall {
            id: id.to_owned(),
            name: "tool".to_owned(),
            arguments,
            signature: String::new(),
        })
        .into()
    };
    let result = |id: &str, content, is_error| {
        ToolResult { call_id: id.to_owned(), name: "tool".to_owned(), content, is_error }.into()
    };
    let url = Image {
        source: FileSource::Url("https://a.test/b".to_owned()),
        media_type: String::new(),
        detail: String::new(),
    };
    let chat = Chat {
        messages: vec![
            Message::User(vec![text("Look"), image(), UserPart::Image(url).into()]),
            Message::Assistant(vec![
                AssistantPart::Text { text: "Sure".to_owned(), signature: String::new() }.into(),
                call("a"),
                call("b"),
            ]),
            Message::Tool(vec![result("a", vec![text("4"), text("2")], false), result("b", vec![], true)]),
            Message::Assistant(vec![call("c")]),
        ],
        ..Chat::default()
    };
    let calls =
        |id: &str| json!({ "id": id, "type": "function", "function": { "name": "tool", "arguments": "{\"z\": 1}" } });
    let expected = json!([
        { "role": "user", "content": [
            { "type": "text", "text": "Look" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,aW1n" } },
            { "type": "image_url", "image_url": { "url": "https://a.test/b" } },
        ]},
        { "role": "assistant", "content": "Sure", "tool_calls": [calls("a"), calls("b")] },
        { "role": "tool", "tool_call_id": "a", "content": [
            { "type": "text", "text": "4" }, { "type": "text", "text": "2" },
        ]},
        { "role": "tool", "tool_call_id": "b", "content": "" },
        { "role": "assistant", "tool_calls": [calls("c")] },
    ]);
    assert_eq!(body("gpt-4o", &chat)["messages"], expected);
}

#[test]
fn tools_and_their_choice() {
    let tool = |parameters: &str| {
        Part::from(Tool::Function(Function {
            name: "tool".to_owned(),
            description: "Does it.".to_owned(),
            parameters: parameters.to_owned(),
            strict: None,
        }))
    };
    let with_tools = |tool_choice| Chat {
        tools: vec![tool(""), tool(r#"{"type":"object"}"#)],
        tool_choice,
        parallel_tool_calls: Some(false),
        ..chat()
    };
    let tools = json!([
        { "type": "function", "function": { "name": "tool", "description": "Does it." } },
        { "type": "function", "function": {
            "name": "tool", "description": "Does it.", "parameters": { "type": "object" },
        }},
    ]);
    let named = json!({ "type": "function", "function": { "name": "tool" } });
    for (choice, expected) in [
        (None, Value::Null),
        (Some(ToolChoice::Auto), json!("auto")),
        (Some(ToolChoice::None), json!("none")),
        (Some(ToolChoice::Required), json!("required")),
        (Some(ToolChoice::Tool("tool".to_owned())), named),
    ] {
        let body = body("gpt-4o", &with_tools(choice));
        assert_eq!((&body["tools"], &body["tool_choice"]), (&tools, &expected));
        assert_eq!(body["parallel_tool_calls"], false);
    }
    let without =
        body("gpt-4o", &Chat { tool_choice: Some(ToolChoice::Auto), parallel_tool_calls: Some(true), ..chat() });
    assert_eq!((&without["tool_choice"], &without["parallel_tool_calls"]), (&Value::Null, &Value::Null));
}

#[test]
fn what_openai_does_not_have_is_refused() {
    let result = ToolResult {
        call_id: "a".to_owned(),
        name: "tool".to_owned(),
        content: vec![text("see"), image()],
        is_error: false,
    };
    for (model, chat, field) in [
        ("gpt-4o", Chat { top_k: Some(1), ..chat() }, "top_k"),
        ("gpt-4o", Chat { temperature: Some(2.1), ..chat() }, "temperature"),
        ("gpt-4o", Chat { top_p: Some(1.1), ..chat() }, "top_p"),
        ("gpt-4o", Chat { presence_penalty: Some(-2.1), ..chat() }, "presence_penalty"),
        ("gpt-4o", Chat { frequency_penalty: Some(f64::INFINITY), ..chat() }, "frequency_penalty"),
        ("gpt-4o", Chat { stop_sequences: vec!["x".to_owned(); 5], ..chat() }, "stop_sequences"),
        ("gpt-4o", Chat { tool_choice: Some(ToolChoice::Tool("t".to_owned())), ..chat() }, "tool_choice"),
        ("gpt-5", Chat { temperature: Some(1.0), ..chat() }, "temperature"),
        ("o3", Chat { top_p: Some(1.0), ..chat() }, "top_p"),
        ("o4-mini", Chat { presence_penalty: Some(0.0), ..chat() }, "presence_penalty"),
        ("gpt-6-sol", Chat { frequency_penalty: Some(0.0), ..chat() }, "frequency_penalty"),
        ("gpt-4o-search-preview-2025-03-11", Chat { temperature: Some(1.0), ..chat() }, "temperature"),
        ("o1-mini-2024-09-12", Chat { system: "x".to_owned(), ..chat() }, "system"),
        (
            "gpt-4o",
            Chat { messages: vec![user("Hi"), Message::Tool(vec![result.into()])], ..chat() },
            "messages[1].parts[0].tool_result.content[1].image",
        ),
    ] {
        let refused = OpenAi.request(model, &chat).map(|_| ()).unwrap_err();
        assert_eq!(refused.field, field, "{}", refused.problem);
    }
}

#[test]
fn the_key_goes_into_a_header_that_is_not_shown() {
    let (name, value) = OpenAi.credential(&KeyMaterial::new("sk-1".to_owned())).unwrap();
    assert_eq!(
        (name, value.as_bytes(), value.is_sensitive()),
        (header::AUTHORIZATION, b"Bearer sk-1".as_slice(), true)
    );
}

fn chunk(delta: &str, reason: &str) -> String {
    format!(
        r#"{{"id":"c1","model":"gpt-x","choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}],"usage":null}}"#
    )
}

const USAGE: &str = r#"{"id":"c1","model":"gpt-x","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}"#;

fn answer(deltas: &[&str], reason: &str) -> Transcript {
    let first = r#"{"choices":[],"id":"","model":"","prompt_filter_results":[]}"#.to_owned();
    let role =
        chunk(r#"{"role":"assistant","content":"","refusal":null,"reasoning_content":"","annotations":[]}"#, "null");
    let deltas = deltas.iter().map(|delta| chunk(delta, "null"));
    let last = [chunk("{}", &format!("\"{reason}\"")), USAGE.to_owned(), "[DONE]".to_owned()];
    let data: Vec<String> = [first, role].into_iter().chain(deltas).chain(last).collect();
    read(chat::decoder, &stream(&data.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn lines(answer: &Transcript) -> Vec<String> {
    answer.calls().into_iter().map(line).collect()
}

#[test]
fn text_commits_and_done_ends() {
    let answer = answer(&[r#"{"content":"Hé"}"#, r#"{"content":""}"#, r#"{"content":"llo"}"#], "stop");
    assert_eq!((answer.text().as_str(), answer.before_commit), ("Héllo", 2));
    assert_eq!((answer.model.as_deref(), answer.response_id.as_deref()), (Some("gpt-x"), Some("c1")));
    assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (FinishReason::Stop, "stop"));
    let counts = usage([Some(10), Some(4), None, Some(5), Some(3), Some(15)]);
    assert_eq!(answer.finish().usage, Some(counts));
}

#[test]
fn each_finish_reason_has_its_meaning() {
    let text = r#"{"content":"x"}"#;
    let refusal = r#"{"refusal":"no"}"#;
    let call = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{}"}}]}"#;
    for (delta, word, reason) in [
        (text, "stop", FinishReason::Stop),
        (text, "length", FinishReason::Length),
        (text, "content_filter", FinishReason::ContentFilter),
        (text, "brand_new", FinishReason::Other),
        (refusal, "stop", FinishReason::Refusal),
        (refusal, "length", FinishReason::Length),
        (call, "stop", FinishReason::ToolCalls),
        (call, "tool_calls", FinishReason::ToolCalls),
        (call, "function_call", FinishReason::ToolCalls),
        (call, "length", FinishReason::Length),
    ] {
        let answer = answer(&[delta], word);
        assert_eq!((answer.finish().reason, answer.finish().provider_reason.as_str()), (reason, word));
        assert_eq!(answer.refusal(), if delta == refusal { "no" } else { "" });
    }
}

#[test]
fn calls_are_told_apart_by_their_index() {
    let parallel = [
        r#"{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"t","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"k\":"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"u","arguments":""}}]}"#,
    ];
    assert_eq!(lines(&answer(&parallel, "tool_calls")), [r#"0 a t {"k":1}"#, "1 b u {}"]);

    let interleaved = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{\"k\""}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"u","arguments":"{"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"function":{"arguments":"}"}}]}"#,
    ];
    assert_eq!(lines(&answer(&interleaved, "tool_calls")), [r#"0 a t {"k":1}"#, "1 b u {}"]);
}

#[test]
fn a_whole_call_ends_when_the_next_begins() {
    let deltas = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"u","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":" \n"}}]}"#,
    ];
    let answer = answer(&deltas, "tool_calls");
    let first = answer.events.iter().position(|event| matches!(event, crate::message::Event::ToolCallFinished(_)));
    let second = answer.events.iter().rposition(|event| matches!(event, crate::message::Event::ToolCallStarted { .. }));
    assert!(first < second);
    assert_eq!(lines(&answer), ["0 a t {}", "1 b u {}"]);
}

#[test]
fn imitators_send_calls_in_their_own_ways() {
    let whole_at_index_0 = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"t","arguments":"{}"}}]}"#,
    ];
    assert_eq!(lines(&answer(&whole_at_index_0, "tool_calls")), ["0 a t {}", "1 b t {}"]);
    let without_index = [
        r#"{"tool_calls":[{"id":"a","function":{"name":"t","arguments":"{"}}]}"#,
        r#"{"tool_calls":[{"function":{"arguments":"}"}}]}"#,
    ];
    assert_eq!(lines(&answer(&without_index, "tool_calls")), ["0 a t {}"]);
    let new_id_each_time = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":"b","function":{"arguments":"}"}}]}"#,
    ];
    assert_eq!(lines(&answer(&new_id_each_time, "tool_calls")), ["0 a t {}"]);
    let without_id = [r#"{"tool_calls":[{"index":0,"function":{"name":"t"}}]}"#];
    assert_eq!(lines(&answer(&without_id, "tool_calls")), ["0 call_seed_0 t {}"]);
    let legacy = [r#"{"function_call":{"name":"t","arguments":""}}"#, r#"{"function_call":{"arguments":"{\"k\":1}"}}"#];
    assert_eq!(lines(&answer(&legacy, "function_call")), [r#"0 call_seed_0 t {"k":1}"#]);
}

#[test]
fn a_call_that_the_limit_cuts_is_incomplete() {
    let delta = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":"{\"k\":"}}]}"#;
    assert_eq!(lines(&answer(&[delta], "length")), [r#"0 a t {"k": !"#]);
    let bare = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"t","arguments":""}}]}"#;
    assert_eq!(lines(&answer(&[bare], "content_filter")), ["0 a t  !"]);
    assert_eq!(lines(&answer(&[bare], "tool_calls")), ["0 a t {}"]);
}

#[test]
fn content_without_a_common_form_commits_and_shows_nothing() {
    for delta in [
        r#"{"reasoning_content":"x"}"#,
        r#"{"reasoning":"x"}"#,
        r#"{"audio":{"data":"x"}}"#,
        r#"{"annotations":[{"type":"url_citation"}]}"#,
    ] {
        let answer = answer(&[delta], "stop");
        assert_eq!((answer.before_commit, answer.text()), (2, String::new()), "{delta}");
    }
    let other = r#"{"choices":[{"index":1,"delta":{"content":"other"},"finish_reason":"length"}],"brand_new":{}}"#;
    let done = read(chat::decoder, &stream(&[other, &chunk(r#"{"content":"x"}"#, "\"stop\""), "[DONE]"]));
    assert_eq!((done.text().as_str(), done.finish().reason), ("x", FinishReason::Stop));
}

#[test]
fn only_done_is_an_end() {
    let finished = chunk(r#"{"content":"x"}"#, "\"stop\"");
    let cut = read(chat::decoder, &stream(&[&finished, USAGE]));
    assert_eq!((cut.finished, &cut.broken), (false, &None));
}

#[test]
fn an_end_that_does_not_say_why_is_a_cut() {
    let text = chunk(r#"{"content":"Hel"}"#, "null");
    for data in [&["[DONE]"][..], &[&text, "[DONE]"]] {
        let cut = read(chat::decoder, &stream(data));
        assert_eq!((cut.finished, &cut.broken), (false, &Some(Broken::Cut)), "{data:?}");
    }
}

#[test]
fn what_must_not_be_is_malformed() {
    for data in [
        "{",
        "7",
        "[null, null, null, null, null]",
        r#"{"choices":7}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a"}]}}]}"#,
    ] {
        assert!(matches!(read(chat::decoder, &stream(&[data])).broken, Some(Broken::Malformed(_))), "{data}");
    }
}

#[test]
fn an_error_in_the_stream_is_the_error_it_stands_for() {
    use RejectionKind as Kind;
    for (error, kind) in [
        (r#"{"message":"M","type":"server_error","code":null}"#, Kind::Internal),
        (r#"{"message":"M","type":"insufficient_quota","code":"insufficient_quota"}"#, Kind::Quota),
        (r#"{"message":"M","type":"tokens","code":"rate_limit_exceeded"}"#, Kind::RateLimited),
        (r#"{"message":"M","type":"requests"}"#, Kind::RateLimited),
        (r#"{"message":"M","code":"context_length_exceeded"}"#, Kind::ContextLength),
        (r#"{"message":"M","code":"model_not_found"}"#, Kind::ModelNotFound),
        (r#"{"message":"M","code":"invalid_api_key"}"#, Kind::Key),
        (r#"{"message":"M","type":"invalid_request_error"}"#, Kind::InvalidRequest),
        (r#"{"message":"M","code":"slow_down"}"#, Kind::Overloaded),
        (r#"{"message":"M","code":503}"#, Kind::Overloaded),
        (r#"{"message":"M","code":"brand_new"}"#, Kind::Internal),
        (r#""M""#, Kind::Internal),
    ] {
        for data in [format!(r#"{{"error":{error}}}"#), format!(r#"{{"error":{error},"id":7,"choices":"x"}}"#)] {
            match read(chat::decoder, &stream(&[&data])).broken {
                Some(Broken::Rejected(rejection)) => {
                    assert_eq!((rejection.kind, rejection.message.as_str()), (kind, "M"), "{data}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn each_refusal_has_its_meaning() {
    use RejectionKind as Kind;
    let long = "This model's maximum context length is 8192 tokens.";
    for (status, class, code, message, kind) in [
        (400, "invalid_request_error", "unsupported_value", "bad", Kind::InvalidRequest),
        (400, "invalid_request_error", "context_length_exceeded", "", Kind::ContextLength),
        (400, "invalid_request_error", "", long, Kind::ContextLength),
        (400, "invalid_request_error", "model_not_found", "", Kind::ModelNotFound),
        (401, "invalid_request_error", "invalid_api_key", "", Kind::Key),
        (401, "", "", "", Kind::Key),
        (402, "", "", "", Kind::Quota),
        (403, "", "unsupported_country_region_territory", "", Kind::Permission),
        (404, "invalid_request_error", "model_not_found", "", Kind::ModelNotFound),
        (408, "", "", "", Kind::Timeout),
        (413, "", "", "", Kind::InvalidRequest),
        (422, "", "", "", Kind::InvalidRequest),
        (429, "tokens", "rate_limit_exceeded", "", Kind::RateLimited),
        (429, "insufficient_quota", "insufficient_quota", "", Kind::Quota),
        (429, "insufficient_quota", "", "", Kind::Quota),
        (500, "server_error", "", "", Kind::Internal),
        (502, "", "", "", Kind::Internal),
        (503, "", "slow_down", "", Kind::Overloaded),
        (504, "", "", "", Kind::Timeout),
    ] {
        let error = json!({ "message": message, "type": class, "code": code, "param": null });
        // The inner error by itself means the same.
        for body in [json!({ "error": error }), error] {
            let rejection = OpenAi.classify(status, &HeaderMap::new(), body.to_string().as_bytes());
            let word = if code.is_empty() { class } else { code };
            assert_eq!((rejection.kind, rejection.code.as_str(), rejection.message.as_str()), (kind, word, message));
        }
    }
    assert_eq!(OpenAi.classify(502, &HeaderMap::new(), b"<html>").kind, Kind::Internal);
}
