//! Anthropic's Messages.

use std::collections::HashMap;

use proto::chat::{Citation, FinishReason, Usage, citation::Kind};
use serde_json::{Value, json};
use system_tests::answer::Answer;

use super::{Arguments, Citations, Expected, HowOften, Piece, Thought, Thoughts, call, difference, list, merged, word};

pub(super) fn expected(id: &str, oracle: &Value, events: &[Value]) -> Expected {
    let mut expected = Expected {
        text: word(oracle, "text"),
        reasoning: Thoughts::Blocks(thoughts(oracle)),
        calls: list(oracle, "tool_calls").iter().map(call).collect(),
        citations: Citations::Exactly(list(oracle, "citations").iter().map(citation).collect()),
        order: Some(order(oracle)),
        own_parts: own_parts(events),
        finish: finish(oracle["finish"].as_str()),
        words: vec![word(oracle, "finish")],
        stop_sequence: word(oracle, "stop_sequence"),
        usage: usage(&oracle["usage"]),
        provider_usage: oracle["usage"].clone(),
        ..Expected::default()
    };
    if id == "anthropic-016" {
        // The answer ended inside the call. The library repairs what we hand on as it came.
        let mut fragments = input_of(events, |block| block["type"] == "tool_use");
        for call in &mut expected.calls {
            call.arguments = Arguments::Cut(fragments.remove(0));
        }
    }
    // Which tool of the provider's own makes a call: told with the event that begins the
    // block. The usual caller is the model itself, which is not worth an event.
    let called_by_a_tool = started_blocks(events).any(|(_, block)| {
        block["caller"]["type"].as_str().is_some_and(|caller| caller != "direct") && block["type"] == "tool_use"
    });
    if called_by_a_tool {
        expected.beside.insert("content_block_start".to_owned(), HowOften::IfAtAll);
    }
    let own: Vec<_> = expected.own_parts.iter().map(|(kind, _)| kind.as_str()).collect();
    let own_of_oracle: Vec<_> = block_types(oracle).filter(|kind| !has_common_form(kind)).collect();
    expected.contradictions.extend(difference("recorded blocks", &json!(own_of_oracle), &json!(own)));
    expected
}

/// Of several messages in one file, the first: its text and its end.
pub(super) fn first_message(events: &[Value], answer: &Answer) -> Vec<String> {
    let end = events.iter().position(|event| event["type"] == "message_stop").unwrap_or(events.len());
    let first = &events[..end];
    let text: String = first.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    let reason = first.iter().rev().find_map(|event| event["delta"]["stop_reason"].as_str());
    let finished = answer.finished.clone().unwrap_or_default();
    let mut found = Vec::new();
    found.extend(difference("text", &json!(text), &json!(answer.text)));
    let (expected, said) = (finish(reason).as_str_name(), finished.finish_reason().as_str_name());
    found.extend(difference("finish", &json!(expected), &json!(said)));
    found
}

fn block_types(oracle: &Value) -> impl Iterator<Item = &str> {
    list(oracle, "block_types").iter().filter_map(Value::as_str)
}

fn has_common_form(kind: &str) -> bool {
    matches!(kind, "text" | "thinking" | "redacted_thinking" | "tool_use")
}

/// Blocks of thinking, open and hidden ones in the order in which they came.
fn thoughts(oracle: &Value) -> Vec<Thought> {
    let (mut open, mut hidden) = (list(oracle, "thinking").iter(), list(oracle, "redacted").iter());
    let thoughts = block_types(oracle).filter_map(|kind| match kind {
        "thinking" => open.next().map(|block| Thought {
            text: word(block, "text"),
            signatures: block["signature"]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
                .into_iter()
                .collect(),
            ..Thought::default()
        }),
        "redacted_thinking" => hidden
            .next()
            .map(|data| Thought { redacted_data: data.as_str().unwrap_or_default().to_owned(), ..Thought::default() }),
        _ => None,
    });
    // A block that says nothing cannot be seen.
    thoughts
        .filter(|block| !block.text.is_empty() || !block.signatures.is_empty() || !block.redacted_data.is_empty())
        .collect()
}

/// Blocks that say nothing cannot be seen.
fn order(oracle: &Value) -> Vec<Piece> {
    let mut texts = list(oracle, "text_blocks").iter();
    let mut thinking = list(oracle, "thinking").iter();
    let pieces = block_types(oracle).filter_map(|kind| {
        let (kind, text) = match kind {
            "text" => ("text", texts.next().and_then(Value::as_str).map(str::to_owned)),
            "thinking" => {
                let block = thinking.next()?;
                let says_nothing = word(block, "text").is_empty() && word(block, "signature").is_empty();
                if says_nothing {
                    return None;
                }
                ("reasoning", None)
            }
            "redacted_thinking" => ("reasoning", None),
            "tool_use" => ("call", None),
            other => (other, None),
        };
        Some(Piece { kind: kind.to_owned(), text })
    });
    merged(pieces.filter(|piece| piece.text.as_ref().is_none_or(|text| !text.is_empty())))
}

fn started_blocks(events: &[Value]) -> impl Iterator<Item = (&Value, &Value)> {
    let starts = events.iter().filter(|event| event["type"] == "content_block_start");
    starts.map(|event| (&event["index"], &event["content_block"]))
}

/// The fragments of the input of each block that `chosen` chooses, joined.
fn input_of(events: &[Value], chosen: impl Fn(&Value) -> bool) -> Vec<String> {
    let blocks = started_blocks(events).filter(|(_, block)| chosen(block));
    blocks.map(|(index, _)| deltas(events, index, "partial_json")).collect()
}

fn deltas(events: &[Value], index: &Value, field: &str) -> String {
    let deltas = events.iter().filter(|event| event["type"] == "content_block_delta" && event["index"] == *index);
    deltas.filter_map(|event| event["delta"][field].as_str()).collect()
}

/// Blocks without common form, as they would be sent back: what began them, with their
/// deltas joined in.
fn own_parts(events: &[Value]) -> Vec<(String, Value)> {
    let blocks = started_blocks(events).filter(|(_, block)| !has_common_form(&word(block, "type")));
    blocks
        .map(|(index, block)| {
            let mut block = block.clone();
            let joined: HashMap<_, _> =
                ["partial_json", "content"].map(|field| (field, deltas(events, index, field))).into();
            if let Ok(input) = serde_json::from_str::<Value>(&joined["partial_json"]) {
                block["input"] = input;
            }
            if !joined["content"].is_empty() {
                block["content"] = json!(joined["content"]);
            }
            (word(&block, "type"), block)
        })
        .collect()
}

fn citation(of: &Value) -> Citation {
    let number = |field: &str| of[field].as_i64();
    let index = |field: &str| number(field).and_then(|index| i32::try_from(index).ok());
    let (kind, document_index, start, end) = match of["type"].as_str() {
        Some("char_location") => {
            (Kind::Characters, index("document_index"), number("start_char_index"), number("end_char_index"))
        }
        Some("page_location") => {
            (Kind::Pages, index("document_index"), number("start_page_number"), number("end_page_number"))
        }
        Some("content_block_location") => {
            (Kind::Blocks, index("document_index"), number("start_block_index"), number("end_block_index"))
        }
        Some("search_result_location") => {
            (Kind::SearchResult, index("search_result_index"), number("start_block_index"), number("end_block_index"))
        }
        Some("web_search_result_location") => (Kind::Web, None, None, None),
        _ => (Kind::Unspecified, None, None, None),
    };
    let title = if of["document_title"].is_string() { word(of, "document_title") } else { word(of, "title") };
    // A search result names its source, which is a URL as far as anybody knows.
    let url = if kind == Kind::SearchResult { word(of, "source") } else { word(of, "url") };
    let json = of.to_string();
    Citation { kind: kind.into(), cited_text: word(of, "cited_text"), title, url, document_index, start, end, json }
}

fn finish(reason: Option<&str>) -> FinishReason {
    match reason {
        Some("end_turn") => FinishReason::Stop,
        Some("stop_sequence") => FinishReason::StopSequence,
        Some("max_tokens" | "model_context_window_exceeded") => FinishReason::Length,
        Some("tool_use") => FinishReason::ToolCalls,
        Some("refusal") => FinishReason::Refusal,
        Some("pause_turn") => FinishReason::Pause,
        _ => FinishReason::Other,
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    let count = |name: &str| usage[name].as_i64();
    let of = |name: &str| count(name).unwrap_or(0);
    let input = of("input_tokens") + of("cache_read_input_tokens") + of("cache_creation_input_tokens");
    usage.is_object().then(|| Usage {
        input_tokens: Some(input),
        cached_input_tokens: count("cache_read_input_tokens"),
        cache_write_tokens: count("cache_creation_input_tokens"),
        output_tokens: count("output_tokens"),
        reasoning_tokens: usage["output_tokens_details"]["thinking_tokens"].as_i64(),
        total_tokens: Some(input + of("output_tokens")),
    })
}
