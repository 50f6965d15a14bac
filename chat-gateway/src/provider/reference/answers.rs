//! What becomes of the pieces of an answer.

use super::{Endpoint, code, markdown};
use crate::{
    message::Event,
    provider::{Output, transcript},
    sse,
};

/// An event of the contract, the provider's word for what becomes it, and a piece of an
/// answer that does.
type Piece = (&'static str, Endpoint, &'static str, &'static [&'static str]);

pub(super) fn table() -> String {
    let titles = Endpoint::ALL.map(Endpoint::title);
    let head: Vec<&str> = ["event"].into_iter().chain(titles).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, endpoint, words, piece) in PIECES {
        let events = read(*endpoint, piece);
        assert!(events.contains(name), "{endpoint:?}: {words} became {events:?} and not {name}");
        if !names.contains(name) {
            names.push(name);
        }
    }
    let rows = names.into_iter().map(|name| {
        let cells = Endpoint::ALL.map(|endpoint| {
            let words: Vec<String> = PIECES
                .iter()
                .filter(|(event, of, ..)| *event == name && *of == endpoint)
                .map(|(_, _, words, _)| code(words))
                .collect();
            if words.is_empty() { "—".to_owned() } else { words.join("<br>") }
        });
        [code(name)].into_iter().chain(cells).collect()
    });
    markdown(&head, rows.collect::<Vec<_>>())
}

/// The names of the events that come of a piece.
fn read(endpoint: Endpoint, piece: &[&str]) -> Vec<&'static str> {
    let mut reader = sse::Reader::new(1024 * 1024);
    let mut decoder = endpoint.decoder()("seed");
    let mut out = Output::default();
    let begin: &[&str] = match endpoint {
        Endpoint::Messages => &[r#"{"type":"message_start","message":{"id":"m","model":"m"}}"#],
        Endpoint::Responses => {
            &[r#"{"type":"response.created","response":{"id":"r","model":"m","status":"in_progress"}}"#]
        }
        Endpoint::ChatCompletions | Endpoint::Gemini => &[],
    };
    reader.push(transcript::stream(&[begin, piece].concat()).as_bytes());
    reader.finish();
    while let Some(data) = reader.next_event().expect("a short event") {
        if out.finished {
            break;
        }
        decoder.event(data, &mut out).expect("a good piece");
    }
    // What an endpoint without a terminal event holds back comes at the end of the body.
    if endpoint == Endpoint::Gemini {
        decoder.end(&mut out).expect("a good piece");
    }
    out.events.iter().map(name).collect()
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Text(_) => "text_delta",
        Event::SignedText { .. } => "text_delta.signature",
        Event::Refusal(_) => "refusal_delta",
        Event::Reasoning(delta) if !delta.redacted_data.is_empty() => "reasoning_delta.redacted_data",
        Event::Reasoning(delta) if !delta.signature.is_empty() => "reasoning_delta.signature",
        Event::Reasoning(_) => "reasoning_delta",
        Event::ToolCallStarted { .. } => "tool_call_started",
        Event::ToolCallDelta { .. } => "tool_call_delta",
        Event::ToolCallFinished(call) if !call.signature.is_empty() => "tool_call_finished.signature",
        Event::ToolCallFinished(_) => "tool_call_finished",
        Event::Citation(_) => "citation",
        Event::Provider(event) if event.replayable => "provider_event, replayable",
        Event::Provider(_) => "provider_event",
        Event::Usage(_) => "usage",
        Event::Finished(_) => "finished",
    }
}

const MESSAGES: Endpoint = Endpoint::Messages;
const CHAT: Endpoint = Endpoint::ChatCompletions;
const RESPONSES: Endpoint = Endpoint::Responses;
const GEMINI: Endpoint = Endpoint::Gemini;

#[rustfmt::skip] // a piece reads better than its lines
const PIECES: &[Piece] = &[
    ("text_delta", MESSAGES, "text_delta", &[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#]),
    ("text_delta", CHAT, "delta.content", &[r#"{"choices":[{"index":0,"delta":{"content":"Hi"}}]}"#]),
    ("text_delta", RESPONSES, "response.output_text.delta", &[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"message","role":"assistant","content":[]}}"#,
        r#"{"type":"response.output_text.delta","item_id":"i","output_index":0,"content_index":0,"delta":"Hi"}"#]),
    ("text_delta", GEMINI, "part.text", &[r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]}}]}"#]),
    ("text_delta.signature", GEMINI, "part.thoughtSignature beside text", &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi","thoughtSignature":"c2ln"}]}}]}"#]),
    ("refusal_delta", CHAT, "delta.refusal", &[r#"{"choices":[{"index":0,"delta":{"refusal":"No."}}]}"#]),
    ("refusal_delta", RESPONSES, "response.refusal.delta", &[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"message","role":"assistant","content":[]}}"#,
        r#"{"type":"response.refusal.delta","item_id":"i","output_index":0,"content_index":0,"delta":"No."}"#]),
    ("reasoning_delta", MESSAGES, "thinking_delta", &[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Why"}}"#]),
    ("reasoning_delta", CHAT, "delta.reasoning_content", &[
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"Why"}}]}"#]),
    ("reasoning_delta", RESPONSES, "response.reasoning_summary_text.delta", &[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"reasoning","summary":[]}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","item_id":"i","output_index":0,"summary_index":0,"delta":"Why"}"#]),
    ("reasoning_delta", GEMINI, "part.text with thought", &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Why","thought":true}]}}]}"#]),
    ("reasoning_delta.signature", MESSAGES, "signature_delta", &[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
        r#"{"type":"content_block_stop","index":0}"#]),
    ("reasoning_delta.signature", RESPONSES, "item.encrypted_content of reasoning", &[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"reasoning","summary":[]}}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"i","type":"reasoning","summary":[],"encrypted_content":"ZW5j"}}"#]),
    ("reasoning_delta.signature", GEMINI, "part.thoughtSignature of a thought", &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Why","thought":true,"thoughtSignature":"c2ln"}]}}]}"#]),
    ("reasoning_delta.redacted_data", MESSAGES, "redacted_thinking", &[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"ZGF0YQ=="}}"#,
        r#"{"type":"content_block_stop","index":0}"#]),
    ("tool_call_started", MESSAGES, "tool_use", &[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#]),
    ("tool_call_started", CHAT, "delta.tool_calls", &[
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":""}}]}}]}"#]),
    ("tool_call_started", RESPONSES, "function_call", &[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"function_call","call_id":"t","name":"f","arguments":""}}"#]),
    ("tool_call_started", GEMINI, "part.functionCall", &[
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}}}]}}]}"#]),
    ("tool_call_delta", MESSAGES, "input_json_delta", &[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}"#]),
    ("tool_call_delta", CHAT, "function.arguments", &[
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":"{"}}]}}]}"#]),
    ("tool_call_delta", RESPONSES, "response.function_call_arguments.delta", &[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"function_call","call_id":"t","name":"f","arguments":""}}"#,
        r#"{"type":"response.function_call_arguments.delta","item_id":"i","output_index":0,"delta":"{"}"#]),
    ("tool_call_delta", GEMINI, "functionCall.args", &[
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1}}}]}}]}"#]),
    ("tool_call_finished.signature", GEMINI, "part.thoughtSignature of a functionCall", &[
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}},"thoughtSignature":"c2ln"}]}}]}"#]),
    ("citation", MESSAGES, "citations_delta", &[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"a","document_index":0,"document_title":"D","start_char_index":0,"end_char_index":1}}}"#,
        r#"{"type":"content_block_stop","index":0}"#]),
    ("citation", CHAT, "delta.annotations", &[
        r#"{"choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","url_citation":{"start_index":0,"end_index":1,"title":"T","url":"https://example.com"}}]}}]}"#]),
    ("citation", RESPONSES, "response.output_text.annotation.added", &[
        r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"message","role":"assistant","content":[]}}"#,
        r#"{"type":"response.output_text.annotation.added","item_id":"i","output_index":0,"content_index":0,"annotation_index":0,"annotation":{"type":"url_citation","start_index":0,"end_index":1,"title":"T","url":"https://example.com"}}"#]),
    ("citation", GEMINI, "groundingSupports", &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"groundingMetadata":{"groundingChunks":[{"web":{"uri":"https://example.com","title":"T"}}],"groundingSupports":[{"segment":{"startIndex":0,"endIndex":2,"text":"Hi"},"groundingChunkIndices":[0]}]},"finishReason":"STOP"}]}"#]),
    ("citation", GEMINI, "citationMetadata", &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"citationMetadata":{"citationSources":[{"startIndex":0,"endIndex":2,"uri":"https://example.com"}]},"finishReason":"STOP"}]}"#]),
    ("provider_event, replayable", MESSAGES, "server_tool_use and all other blocks", &[
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
        r#"{"type":"content_block_stop","index":0}"#]),
    ("provider_event, replayable", RESPONSES, "web_search_call and all other items", &[
        r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"i","type":"web_search_call","status":"completed"}}"#]),
    ("provider_event, replayable", GEMINI, "executableCode, inlineData and all other parts", &[
        r#"{"candidates":[{"content":{"parts":[{"executableCode":{"language":"PYTHON","code":"1"}}]}}]}"#]),
    ("provider_event", MESSAGES, "types and fields that are new", &[r#"{"type":"a_new_type","x":1}"#]),
    ("provider_event", CHAT, "logprobs, fields that are new", &[
        r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":{"content":[{"token":"Hi","logprob":-1}]}}]}"#]),
    ("provider_event", RESPONSES, "progress of tools, types and fields that are new", &[
        r#"{"type":"response.a_new_type","x":1}"#]),
    ("provider_event", GEMINI, "groundingMetadata, fields that are new", &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"aNewField":1}]}"#]),
    ("usage", MESSAGES, "usage", &[
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":1,"output_tokens":1}}"#]),
    ("usage", CHAT, "usage", &[r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#]),
    ("usage", RESPONSES, "response.usage", &[
        r#"{"type":"response.completed","response":{"id":"r","status":"completed","usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}}"#]),
    ("usage", GEMINI, "usageMetadata", &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]}}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2}}"#]),
    ("finished", MESSAGES, "message_stop", &[
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, r#"{"type":"message_stop"}"#]),
    ("finished", CHAT, "[DONE]", &[r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, "[DONE]"]),
    ("finished", RESPONSES, "response.completed, response.incomplete", &[
        r#"{"type":"response.completed","response":{"id":"r","status":"completed"}}"#]),
    ("finished", GEMINI, "the end of the body, after a finishReason", &[
        r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}"#]),
];
