//! `@copilotkit/aimock`: all four endpoints, with what a file says is the answer.

use proto::chat::{
    AudioPart, DocumentPart, FinishReason, ImagePart, Message, StreamChatRequest, Tool, ToolResultPart,
    content_part::Part, document_part, image_part, message::Role,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use super::{Desk, ENDPOINTS, Endpoint, Server, part, parts, says, text};

/// With characters of one to four bytes, in pieces of the server's choice.
const TEXT: &str =
    "A short text with every length of character: a, é, 漢 and 🦀. It goes on, so that it comes in pieces.";
const THOUGHT: &str = "Let me think about that for a moment, in more than one piece.";

async fn start() -> Option<(Server, TempDir)> {
    let folder = tempfile::tempdir().expect("a folder");
    let fixtures = folder.path().join("fixtures.json");
    let call = |city: &str| json!({ "name": "weather", "arguments": json!({ "city": city }).to_string() });
    let answers = json!({ "fixtures": [
        { "match": { "userMessage": "text" }, "response": { "content": TEXT } },
        { "match": { "userMessage": "think" }, "response": {
            "content": "Done.", "reasoning": THOUGHT,
            "reasoningSignature": "c2lnbmVk", "redactedThinking": ["aGlkZGVu"],
        } },
        { "match": { "hasToolResult": true }, "response": { "content": "It rains." } },
        { "match": { "userMessage": "call" }, "response": {
            "content": "I look.", "toolCalls": [call("Paris"), call("Oslo")],
        } },
        { "match": { "userMessage": "search" }, "response": { "content": "Found.", "webSearches": ["rust grpc"] } },
        { "match": { "userMessage": "busy" }, "response": {
            "error": { "message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded" },
            "status": 429, "retryAfter": 7,
        } },
    ] });
    std::fs::write(&fixtures, answers.to_string()).expect("written");
    let config = folder.path().join("aimock.json");
    std::fs::write(&config, json!({ "llm": { "fixtures": fixtures } }).to_string()).expect("written");
    let mut command = Command::new("aimock");
    command.arg("--config").arg(config).args(["--port", "0"]);
    Some((Server::start("aimock (npm @copilotkit/aimock)", &mut command).await?, folder))
}

#[tokio::test]
async fn text_and_counts_come_through() {
    let Some((server, _folder)) = start().await else { return };
    let mut desk = Desk::at(&server.url).await;
    for (model, endpoint) in ENDPOINTS {
        let (streamed, whole) = desk.answers(says(model, endpoint, "text")).await;
        assert_eq!((streamed.text.as_str(), text(&whole).as_str()), (TEXT, TEXT), "{endpoint:?}");
        assert!(streamed.events > 4, "{endpoint:?} came in pieces: {}", streamed.events);
        let finished = streamed.finished.expect("finished");
        assert_eq!(finished.finish_reason(), FinishReason::Stop, "{endpoint:?}");
        assert!(finished.usage.is_some_and(|usage| usage.output_tokens.is_some()), "{endpoint:?}");
    }
}

#[tokio::test]
async fn reasoning_comes_through_and_goes_back() {
    let Some((server, _folder)) = start().await else { return };
    let mut desk = Desk::at(&server.url).await;
    for (model, endpoint) in ENDPOINTS {
        let request = says(model, endpoint, "think");
        let (_, whole) = desk.answers(request.clone()).await;
        let reasoning: Vec<_> = parts(&whole)
            .filter_map(|part| if let Part::Reasoning(reasoning) = part { Some(reasoning) } else { None })
            .collect();
        let thought: String = reasoning.iter().map(|part| part.text.as_str()).collect();
        assert_eq!((thought.as_str(), text(&whole).as_str()), (THOUGHT, "Done."), "{endpoint:?}");
        if endpoint == Endpoint::Messages {
            assert_eq!(reasoning.iter().map(|part| part.redacted_data.as_str()).collect::<String>(), "aGlkZGVu");
            assert_eq!(reasoning.iter().map(|part| part.signature.as_str()).collect::<String>(), "c2lnbmVk");
        }
        let mut again = request;
        again.messages.push(whole.message.expect("a message"));
        again
            .messages
            .push(user([Part::Text(proto::chat::TextPart { text: "text".to_owned(), ..Default::default() })]));
        let (streamed, _) = desk.answers(again).await;
        assert_eq!(streamed.text, TEXT, "{endpoint:?} took its own answer back");
    }
}

#[tokio::test]
async fn parallel_calls_come_through_and_their_results_go_back() {
    let Some((server, _folder)) = start().await else { return };
    let mut desk = Desk::at(&server.url).await;
    for (model, endpoint) in ENDPOINTS {
        let mut request = with_tool(says(model, endpoint, "call"));
        let (streamed, whole) = desk.answers(request.clone()).await;
        let calls: Vec<_> = streamed.calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
        assert_eq!(calls, [("weather", r#"{"city":"Paris"}"#), ("weather", r#"{"city":"Oslo"}"#)], "{endpoint:?}");
        assert_ne!(streamed.calls[0].id, streamed.calls[1].id, "{endpoint:?}");
        let finished = streamed.finished.expect("finished");
        // It has a word of its own for Gemini's end, which is handed on.
        let expected = if finished.provider_finish_reason == "FUNCTION_CALL" {
            FinishReason::Other
        } else {
            FinishReason::ToolCalls
        };
        assert_eq!(finished.finish_reason(), expected, "{endpoint:?}");

        let results = parts(&whole)
            .filter_map(|part| if let Part::ToolCall(call) = part { Some(call.id.clone()) } else { None })
            .map(|tool_call_id| {
                let rain = Part::Text(proto::chat::TextPart { text: "rain".to_owned(), ..Default::default() });
                part(Part::ToolResult(ToolResultPart { tool_call_id, content: vec![part(rain)], is_error: false }))
            })
            .collect();
        request.messages.push(whole.message.clone().expect("a message"));
        request.messages.push(Message { role: Role::Tool.into(), parts: results });
        let (streamed, _) = desk.answers(request).await;
        assert_eq!(streamed.text, "It rains.", "{endpoint:?} saw the results");
    }
}

#[tokio::test]
async fn a_tool_of_the_provider_comes_through() {
    let Some((server, _folder)) = start().await else { return };
    let mut desk = Desk::at(&server.url).await;
    let (streamed, whole) = desk.answers(says("gpt-4o", Endpoint::Responses, "search")).await;
    assert_eq!(streamed.text, "Found.");
    let search = parts(&whole).find_map(|part| if let Part::Provider(part) = part { Some(&part.json) } else { None });
    assert!(search.is_some_and(|json| json.contains("web_search_call") && json.contains("rust grpc")), "{search:?}");
}

#[tokio::test]
async fn images_documents_and_audio_are_understood() {
    let Some((server, _folder)) = start().await else { return };
    let mut desk = Desk::at(&server.url).await;
    let image = || {
        let source = Some(image_part::Source::Data("img".into()));
        Part::Image(ImagePart { source, media_type: "image/png".to_owned(), ..ImagePart::default() })
    };
    let document = || {
        let source = Some(document_part::Source::Data("%PDF-1.4".into()));
        Part::Document(DocumentPart { source, media_type: "application/pdf".to_owned(), ..DocumentPart::default() })
    };
    let audio = || Part::Audio(AudioPart { data: "RIFF".into(), media_type: "audio/wav".to_owned() });
    for (model, endpoint) in ENDPOINTS {
        let mut request = says(model, endpoint, "text");
        let more = &mut request.messages[0].parts;
        more.insert(0, part(image()));
        more.insert(0, part(document()));
        if matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Gemini) {
            more.insert(0, part(audio()));
        }
        let (streamed, _) = desk.answers(request).await;
        assert_eq!(streamed.text, TEXT, "{endpoint:?}");
    }
}

#[tokio::test]
async fn a_refusal_says_whose_fault_it_is_and_for_how_long() {
    let Some((server, _folder)) = start().await else { return };
    let mut desk = Desk::at(&server.url).await;
    for (model, endpoint) in ENDPOINTS {
        let answer = desk.fails(says(model, endpoint, "busy")).await;
        assert_eq!(answer.failed().class(), "ResourceExhausted PROVIDER_RATE_LIMITED", "{endpoint:?}");
    }
}

fn with_tool(mut request: StreamChatRequest) -> StreamChatRequest {
    request.tools.push(Tool {
        name: "weather".to_owned(),
        description: "The weather of a city".to_owned(),
        parameters: json!({ "type": "object", "properties": { "city": { "type": "string" } } }).to_string(),
        ..Tool::default()
    });
    request
}

fn user(parts: impl IntoIterator<Item = Part>) -> Message {
    Message { role: Role::User.into(), parts: parts.into_iter().map(part).collect() }
}
