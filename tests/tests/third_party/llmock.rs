//! `llmock`: answers, calls offered tools, follows a schema, and breaks streams.

use proto::chat::{
    FinishReason, Message, ResponseFormat, Tool, ToolResultPart, content_part::Part, message::Role, response_format,
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Desk, ENDPOINTS, Endpoint, Server, part, parts, says, text};

async fn start() -> Option<Server> {
    let mut command = Command::new("python3");
    command.args(["-m", "llmock.cli", "serve", "--port", "0", "--response-style", "hello"]);
    Server::start("llmock (PyPI llmock)", &mut command).await
}

/// It has each provider at a path of its own.
fn url(server: &Server, endpoint: Endpoint) -> String {
    let path = match endpoint {
        Endpoint::Messages => "/anthropic",
        Endpoint::ChatCompletions | Endpoint::Responses => "",
        Endpoint::Gemini => "/gemini",
    };
    format!("{}{path}", server.url)
}

/// What the next request meets.
async fn next(server: &Server, behavior: Value) {
    service_runtime::tls::install_crypto_provider();
    let client = reqwest::Client::new();
    let scenario = json!({ "behaviors": [behavior] }).to_string();
    let post = client.post(format!("{}/_llmock/scenario", server.url)).header("content-type", "application/json");
    let response = post.body(scenario).send().await.expect("an answer");
    assert!(response.status().is_success(), "{response:?}");
}

#[tokio::test]
async fn text_calls_and_schemas_come_through() {
    let Some(server) = start().await else { return };
    for (model, endpoint) in ENDPOINTS {
        let mut desk = Desk::at(&url(&server, endpoint)).await;
        let (streamed, whole) = desk.answers(says(model, endpoint, "Hi")).await;
        assert!(!streamed.text.is_empty() && streamed.text == text(&whole), "{endpoint:?} {streamed:?}");
        let finished = streamed.finished.expect("finished");
        assert_eq!(finished.finish_reason(), FinishReason::Stop, "{endpoint:?}");

        let mut request = says(model, endpoint, "What is the weather in Paris?");
        let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"],
            "additionalProperties": false });
        let tool = Tool { name: "weather".to_owned(), parameters: schema.to_string(), ..Tool::default() };
        request.tools.push(tool);
        let (streamed, whole) = desk.answers(request.clone()).await;
        assert_eq!(streamed.calls.len(), 1, "{endpoint:?} {streamed:?}");
        assert_eq!(streamed.finished.expect("finished").finish_reason(), FinishReason::ToolCalls, "{endpoint:?}");
        let call =
            parts(&whole).find_map(|part| if let Part::ToolCall(call) = part { Some(call.clone()) } else { None });
        let result = ToolResultPart { tool_call_id: call.expect("a call").id, ..ToolResultPart::default() };
        request.messages.push(whole.message.expect("a message"));
        let parts = vec![part(Part::ToolResult(result))];
        request.messages.push(Message { role: Role::Tool.into(), parts });
        let (streamed, _) = desk.answers(request).await;
        assert!(streamed.calls.is_empty() && !streamed.text.is_empty(), "{endpoint:?} {streamed:?}");

        let mut request = says(model, endpoint, "An answer, please");
        request.response_format = Some(ResponseFormat {
            r#type: response_format::Type::JsonSchema.into(),
            schema: schema.to_string(),
            ..ResponseFormat::default()
        });
        let (streamed, _) = desk.answers(request).await;
        let json: Value = serde_json::from_str(&streamed.text).unwrap_or_default();
        assert!(endpoint == Endpoint::Messages || json["city"].is_string(), "{endpoint:?} {}", streamed.text);
    }
}

#[tokio::test]
async fn a_broken_stream_is_never_a_whole_answer() {
    let Some(server) = start().await else { return };
    for (model, endpoint) in ENDPOINTS {
        let mut desk = Desk::at(&url(&server, endpoint)).await;
        for kind in ["truncate", "disconnect", "malformed"] {
            next(&server, json!({ "type": "stream_fault", "kind": kind, "after_chunks": 2 })).await;
            let answer = desk.fails(says(model, endpoint, "Hi")).await;
            let failure = answer.failed();
            let class = failure.class();
            let whole_classes =
                ["Aborted STREAM_TRUNCATED", "Unavailable PROVIDER_UNREACHABLE", "Unavailable PROVIDER_INTERNAL"];
            assert!(whole_classes.contains(&class.as_str()), "{endpoint:?} {kind}: {class}");
        }
    }
}
