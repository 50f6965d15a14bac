//! Gemini: signatures on a text, on code, on the first of some calls and on an empty text at
//! the end; calls of one name without an id.

use proto::chat::OpenAiApi;
use serde_json::json;

use super::{LOW, Scene, pairs, provider_tool, thinking};
use crate::{request, sent};

const CODE: &str = r#"{"executableCode":{"language":"PYTHON","code":"print('caf\u00e9', 1.10)"},"thoughtSignature":"c2lnLWNvZGU/+=="}"#;
const RAN: &str = r#"{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"caf\u00e9 1.1\n"}}"#;
const PARTS: [&str; 8] = [
    r#"{"text":"Let me ","thought":true}"#,
    r#"{"text":"see.","thought":true}"#,
    r#"{"text":"I will "}"#,
    r#"{"text":"compute."}"#,
    CODE,
    RAN,
    r#"{"text":"It is so.","thoughtSignature":"c2lnLXRleHQ/+=="}"#,
    // Parallel calls: the first is signed for all of them.
    r#"{"functionCall":{"name":"get_weather","args":{"city":"Oslo"}},"thoughtSignature":"c2lnLWNhbGw/+=="},{"functionCall":{"name":"get_weather","args":{"city":"Rome"}}},{"functionCall":{"name":"now","id":"fc-own"}}"#,
];

pub(crate) fn scene() -> Scene {
    let mut request = request("gemini-3-pro-preview", OpenAiApi::Unspecified);
    request.tools.push(provider_tool(r#"{"codeExecution":{}}"#));
    request.reasoning = thinking(LOW);
    Scene {
        request,
        stream: stream(),
        path: "/v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse",
        turn: sent::gemini_turn,
        expected_turn: vec![
            json!({"text": "Let me see.", "thought": true}),
            json!({"text": "I will compute."}),
            serde_json::from_str(CODE).expect("JSON"),
            serde_json::from_str(RAN).expect("JSON"),
            json!({"text": "It is so.", "thoughtSignature": "c2lnLXRleHQ/+=="}),
            json!({"functionCall": {"name": "get_weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2lnLWNhbGw/+=="}),
            json!({"functionCall": {"name": "get_weather", "args": {"city": "Rome"}}}),
            json!({"functionCall": {"id": "fc-own", "name": "now", "args": {}}}),
            json!({"text": "", "thoughtSignature": "c2lnLWVuZA/+=="}),
        ],
        results: sent::gemini_results,
        // In the order of the calls: that is how those without an id are matched.
        expected_results: pairs(&[
            ("get_weather", r#"get_weather of {"city":"Oslo"}"#),
            ("get_weather", r#"get_weather of {"city":"Rome"}"#),
            ("fc-own", "now of {}"),
        ]),
        verbatim: vec![CODE, RAN],
        own_parts: 2,
    }
}

fn stream() -> String {
    let chunk = |parts: &str, more: &str| {
        format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{parts}],\"role\":\"model\"}},\"index\":0{more}}}],\"usageMetadata\":{{\"promptTokenCount\":3,\"candidatesTokenCount\":9,\"totalTokenCount\":12}},\"modelVersion\":\"gemini-3-pro-preview\",\"responseId\":\"r-1\"}}\r\n\r\n"
        )
    };
    let mut stream: String = PARTS.iter().map(|part| chunk(part, "")).collect();
    stream += &chunk(r#"{"text":"","thoughtSignature":"c2lnLWVuZA/+=="}"#, r#","finishReason":"STOP""#);
    stream
}
