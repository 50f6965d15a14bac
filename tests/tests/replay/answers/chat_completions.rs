//! Chat Completions: words, and calls whose arguments are texts with all their white space.

use proto::chat::OpenAiApi;
use serde_json::json;

use super::{Scene, events, pairs};
use crate::{request, sent};

pub(crate) fn scene() -> Scene {
    let function = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    Scene {
        request: request("gpt-4o", OpenAiApi::Unspecified),
        stream: stream(),
        path: "/v1/chat/completions",
        turn: sent::chat_turn,
        expected_turn: vec![
            json!({"text": "I will look."}),
            function("call_1", "get_weather", "{ \"city\" :\"Oslo\", \"n\": 1.0}"),
            function("call_2", "get_weather", "{\"city\":\"Caf\\u00e9\"}"),
            function("call_3", "now", "{}"),
        ],
        results: sent::chat_results,
        expected_results: pairs(&[
            ("call_3", "now of {}"),
            ("call_2", "get_weather of {\"city\":\"Caf\\u00e9\"}"),
            ("call_1", "get_weather of { \"city\" :\"Oslo\", \"n\": 1.0}"),
        ]),
        verbatim: Vec::new(),
        own_parts: 0,
    }
}

fn stream() -> String {
    let chunk = |delta: &str, reason: &str| {
        format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]}}"#
        )
    };
    let call = |delta: &str| chunk(&format!(r#"{{"tool_calls":[{delta}]}}"#), "null");
    let arguments =
        |index: u32, piece: &str| call(&json!({"index": index, "function": {"arguments": piece}}).to_string());
    let begin = |index: u32, id: &str, name: &str| {
        call(
            &json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}})
                .to_string(),
        )
    };
    let mut stream = events(&[
        chunk(r#"{"role":"assistant","content":"","refusal":null}"#, "null"),
        chunk(r#"{"content":"I will "}"#, "null"),
        chunk(r#"{"content":"look."}"#, "null"),
        begin(0, "call_1", "get_weather"),
        arguments(0, "{ \"city\" :"),
        arguments(0, "\"Oslo\", \"n\": 1.0}"),
        begin(1, "call_2", "get_weather"),
        arguments(1, "{\"city\":\"Caf\\u00e9\"}"),
        begin(2, "call_3", "now"),
        chunk("{}", "\"tool_calls\""),
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9,"total_tokens":12}}"#.to_owned(),
    ]);
    stream.push_str("data: [DONE]\n\n");
    stream
}
