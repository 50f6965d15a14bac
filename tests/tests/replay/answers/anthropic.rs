//! Messages: thoughts that are signed, hidden and not shown, a search, calls side by side.

use proto::chat::{OpenAiApi, Reasoning, reasoning};
use serde_json::json;

use super::{Scene, named_events, pairs, provider_tool};
use crate::{request, sent};

// With an odd number and an escape, which only a copy keeps.
const FOUND: &str = r#"{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","url":"https://a.example/caf\u00e9","title":"A","encrypted_content":"RXVB/w+==","score":1.10,"page_age":null}]}"#;

pub(crate) fn scene() -> Scene {
    let mut request = request("claude-sonnet-4-5", OpenAiApi::Unspecified);
    request.tools.push(provider_tool(r#"{"type":"web_search_20250305","name":"web_search"}"#));
    request.reasoning = Some(Reasoning { amount: Some(reasoning::Amount::BudgetTokens(2048)), summary: 0 });
    Scene {
        request,
        stream: stream(),
        path: "/v1/messages",
        turn: sent::anthropic_turn,
        expected_turn: vec![
            json!({"type": "thinking", "thinking": "Let me see: where?\n", "signature": "EqQBCkgIA/first+=="}),
            json!({"type": "redacted_thinking", "data": "EmwKAhgBEgy/hidden+=="}),
            json!({"type": "text", "text": "I will look."}),
            json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "warm places"}}),
            serde_json::from_str(FOUND).expect("JSON"),
            json!({"type": "thinking", "thinking": "", "signature": "EqQBCkgIA/second+=="}),
            json!({"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}),
            json!({"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {"city": "Rome"}}),
            json!({"type": "tool_use", "id": "toolu_3", "name": "now", "input": {}}),
        ],
        results: sent::anthropic_results,
        expected_results: pairs(&[
            ("toolu_3", "now of {}"),
            ("toolu_2", r#"get_weather of {"city": "Rome"}"#),
            ("toolu_1", r#"get_weather of {"city": "Oslo"}"#),
        ]),
        verbatim: vec![FOUND, r#"{"city": "Oslo"}"#],
        own_parts: 2,
    }
}

fn stream() -> String {
    let start = |index: u32, block: &str| {
        format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#)
    };
    let delta =
        |index: u32, delta: &str| format!(r#"{{"type":"content_block_delta","index":{index},"delta":{delta}}}"#);
    let stop = |index: u32| format!(r#"{{"type":"content_block_stop","index":{index}}}"#);
    let call = |index: u32, id: &str, name: &str| {
        start(index, &format!(r#"{{"type":"tool_use","id":"{id}","name":"{name}","input":{{}}}}"#))
    };
    let input =
        |index: u32, json: &str| delta(index, &json!({"type": "input_json_delta", "partial_json": json}).to_string());
    named_events(&[
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#.to_owned(),
        start(0, r#"{"type":"thinking","thinking":"","signature":""}"#),
        delta(0, r#"{"type":"thinking_delta","thinking":"Let me see"}"#),
        delta(0, r#"{"type":"thinking_delta","thinking":": where?\n"}"#),
        delta(0, r#"{"type":"signature_delta","signature":"EqQBCkgIA/first+=="}"#),
        stop(0),
        start(1, r#"{"type":"redacted_thinking","data":"EmwKAhgBEgy/hidden+=="}"#),
        stop(1),
        start(2, r#"{"type":"text","text":""}"#),
        delta(2, r#"{"type":"text_delta","text":"I will "}"#),
        delta(2, r#"{"type":"text_delta","text":"look."}"#),
        stop(2),
        start(3, r#"{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}"#),
        input(3, ""),
        input(3, "{\"query\": \"warm"),
        input(3, " places\"}"),
        stop(3),
        start(4, FOUND),
        stop(4),
        start(5, r#"{"type":"thinking","thinking":"","signature":""}"#),
        delta(5, r#"{"type":"signature_delta","signature":"EqQBCkgIA/second+=="}"#),
        stop(5),
        call(6, "toolu_1", "get_weather"),
        input(6, ""),
        input(6, "{\"city\": "),
        input(6, "\"Oslo\"}"),
        stop(6),
        call(7, "toolu_2", "get_weather"),
        input(7, "{\"city\": \"Rome\"}"),
        stop(7),
        call(8, "toolu_3", "now"),
        input(8, ""),
        stop(8),
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":9}}"#.to_owned(),
        r#"{"type":"message_stop"}"#.to_owned(),
    ])
}
