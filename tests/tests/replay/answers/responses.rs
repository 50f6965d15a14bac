//! Responses: reasoning with and without a summary, a search, calls side by side. The
//! reasoning comes twice, and the first time not yet whole.

use proto::chat::OpenAiApi;
use serde_json::json;

use super::{LOW, Scene, named_events, pairs, provider_tool, thinking};
use crate::{request, sent};

const SEARCHED: &str = r#"{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"caf\u00e9","weight":1.10}}"#;

pub(crate) fn scene() -> Scene {
    let mut request = request("gpt-5-mini", OpenAiApi::Unspecified);
    request.tools.push(provider_tool(r#"{"type":"web_search"}"#));
    request.reasoning = thinking(LOW);
    let function = |id: &str, name: &str, arguments: &str| json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments});
    Scene {
        request,
        stream: stream(),
        path: "/v1/responses",
        turn: sent::responses_turn,
        expected_turn: vec![
            json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Let me see."}], "encrypted_content": "gAAAA/first+=="}),
            serde_json::from_str(SEARCHED).expect("JSON"),
            json!({"text": "I will look."}),
            json!({"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAA/second+=="}),
            function("call_4", "get_weather", "{ \"city\": \"Oslo\"}"),
            function("call_5", "get_weather", "{\"city\":\"Rome\"}"),
            function("call_6", "now", "{}"),
        ],
        results: sent::responses_results,
        expected_results: pairs(&[
            ("call_6", "now of {}"),
            ("call_5", "get_weather of {\"city\":\"Rome\"}"),
            ("call_4", "get_weather of { \"city\": \"Oslo\"}"),
        ]),
        verbatim: vec![SEARCHED],
        own_parts: 1,
    }
}

fn stream() -> String {
    let item = |event: &str, index: u32, item: &str| {
        format!(r#"{{"type":"response.output_item.{event}","output_index":{index},"item":{item}}}"#)
    };
    let summary = |event: &str, part: u32, more: &str| {
        format!(
            r#"{{"type":"response.reasoning_summary_{event}","item_id":"rs_1","output_index":0,"summary_index":{part},{more}}}"#
        )
    };
    let thought = |id: &str, summary: &str, encrypted: &str| {
        format!(r#"{{"id":"{id}","type":"reasoning","summary":{summary},"encrypted_content":"{encrypted}"}}"#)
    };
    let call = |index: u32, name: &str, arguments: &str| {
        let begun = |status: &str, arguments: &str| {
            json!({"id": format!("fc_{index}"), "type": "function_call", "status": status, "call_id": format!("call_{index}"), "name": name, "arguments": arguments}).to_string()
        };
        let event = |kind: &str, field: &str| {
            let mut event = json!({"type": format!("response.function_call_arguments.{kind}"), "item_id": format!("fc_{index}"), "output_index": index});
            event[field] = json!(arguments);
            event.to_string()
        };
        [
            item("added", index, &begun("in_progress", "")),
            event("delta", "delta"),
            event("done", "arguments"),
            item("done", index, &begun("completed", arguments)),
        ]
    };
    let whole = r#""part":{"type":"summary_text","text":"Let me see."}"#;
    let said = r#"{"type":"output_text","text":"I will look.","annotations":[],"logprobs":[]}"#;
    let mut data = vec![
        r#"{"type":"response.created","response":{"id":"resp_1","object":"response","model":"gpt-5-mini","status":"in_progress","output":[]}}"#.to_owned(),
        item("added", 0, &thought("rs_1", "[]", "gAAAA/not-yet-whole")),
        summary("part.added", 0, r#""part":{"type":"summary_text","text":""}"#),
        summary("text.delta", 0, r#""delta":"Let me ""#),
        summary("text.delta", 0, r#""delta":"see.""#),
        summary("text.done", 0, r#""text":"Let me see.""#),
        summary("part.done", 0, whole),
        item("done", 0, &thought("rs_1", r#"[{"type":"summary_text","text":"Let me see."}]"#, "gAAAA/first+==")),
        item("added", 1, r#"{"id":"ws_1","type":"web_search_call","status":"in_progress"}"#),
        r#"{"type":"response.web_search_call.searching","output_index":1,"item_id":"ws_1"}"#.to_owned(),
        item("done", 1, SEARCHED),
        item("added", 2, r#"{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}"#),
        r#"{"type":"response.content_part.added","item_id":"msg_1","output_index":2,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}"#.to_owned(),
        r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":2,"content_index":0,"delta":"I will look.","logprobs":[]}"#.to_owned(),
        r#"{"type":"response.output_text.done","item_id":"msg_1","output_index":2,"content_index":0,"text":"I will look.","logprobs":[]}"#.to_owned(),
        format!(r#"{{"type":"response.content_part.done","item_id":"msg_1","output_index":2,"content_index":0,"part":{said}}}"#),
        item("done", 2, &format!(r#"{{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{said}]}}"#)),
        item("added", 3, &thought("rs_2", "[]", "gAAAA/not-yet-whole")),
        item("done", 3, &thought("rs_2", "[]", "gAAAA/second+==")),
    ];
    data.extend(call(4, "get_weather", "{ \"city\": \"Oslo\"}"));
    data.extend(call(5, "get_weather", "{\"city\":\"Rome\"}"));
    data.extend(call(6, "now", "{}"));
    data.push(r#"{"type":"response.completed","response":{"id":"resp_1","object":"response","model":"gpt-5-mini","status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":9,"total_tokens":12}}}"#.to_owned());
    named_events(&data)
}
