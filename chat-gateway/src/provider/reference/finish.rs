//! What the words mean with which providers end an answer.

use super::{Endpoint, code, markdown};
use crate::{message::FinishReason, provider::transcript};

/// The words of each endpoint that are documented or were seen.
const WORDS: [(Endpoint, &[&str]); 4] = [
    (
        Endpoint::Messages,
        &[
            "end_turn",
            "stop_sequence",
            "max_tokens",
            "model_context_window_exceeded",
            "tool_use",
            "pause_turn",
            "refusal",
            "a_new_word",
        ],
    ),
    (Endpoint::ChatCompletions, &["stop", "length", "tool_calls", "function_call", "content_filter", "a_new_word"]),
    (Endpoint::Responses, &["completed", "max_output_tokens", "content_filter", "a_new_word"]),
    (
        Endpoint::Gemini,
        &[
            "STOP",
            "MAX_TOKENS",
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MODEL_ARMOR",
            "IMAGE_SAFETY",
            "MALFORMED_FUNCTION_CALL",
            "UNEXPECTED_TOOL_CALL",
            "TOO_MANY_TOOL_CALLS",
            "MISSING_THOUGHT_SIGNATURE",
            "CONTINUATION",
            "OTHER",
            "MALFORMED_RESPONSE",
            "A_NEW_WORD",
        ],
    ),
];

pub(super) fn table() -> String {
    let rows = WORDS.iter().flat_map(|(endpoint, words)| {
        words.iter().map(|word| {
            let (reason, said) = finish(*endpoint, word);
            assert_eq!(&said, word, "the provider's own word is kept");
            vec![endpoint.title().to_owned(), code(word), code(name(reason))]
        })
    });
    markdown(&["API", "provider's word", "`finish_reason`"], rows.collect::<Vec<_>>())
}

/// What a short answer with this word comes to.
fn finish(endpoint: Endpoint, word: &str) -> (FinishReason, String) {
    let body = match endpoint {
        Endpoint::Messages => [
            r#"{"type":"message_start","message":{"id":"m","model":"m"}}"#.to_owned(),
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hi"}}"#.to_owned(),
            r#"{"type":"content_block_stop","index":0}"#.to_owned(),
            format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{word}"}}}}"#),
            r#"{"type":"message_stop"}"#.to_owned(),
        ]
        .to_vec(),
        Endpoint::ChatCompletions => vec![
            format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"Hi"}},"finish_reason":"{word}"}}]}}"#),
            "[DONE]".to_owned(),
        ],
        Endpoint::Responses => {
            let delta = r#"{"type":"response.output_text.delta","item_id":"i","output_index":0,"content_index":0,"delta":"Hi"}"#;
            let end = match word {
                "completed" => r#"{"type":"response.completed","response":{"id":"r","status":"completed"}}"#.to_owned(),
                _ => format!(
                    r#"{{"type":"response.incomplete","response":{{"id":"r","status":"incomplete","incomplete_details":{{"reason":"{word}"}}}}}}"#
                ),
            };
            let item = r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"message","role":"assistant","content":[]}}"#;
            vec![item.to_owned(), delta.to_owned(), end]
        }
        Endpoint::Gemini => vec![format!(
            r#"{{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"Hi"}}]}},"finishReason":"{word}"}}]}}"#
        )],
    };
    let body: Vec<&str> = body.iter().map(String::as_str).collect();
    let read = transcript::read(endpoint.decoder(), &transcript::stream(&body));
    let finish = read.finish();
    (finish.reason, finish.provider_reason.clone())
}

fn name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "STOP",
        FinishReason::StopSequence => "STOP_SEQUENCE",
        FinishReason::Length => "LENGTH",
        FinishReason::ToolCalls => "TOOL_CALLS",
        FinishReason::ContentFilter => "CONTENT_FILTER",
        FinishReason::Refusal => "REFUSAL",
        FinishReason::Pause => "PAUSE",
        FinishReason::MalformedToolCall => "MALFORMED_TOOL_CALL",
        FinishReason::Other => "OTHER",
    }
}
