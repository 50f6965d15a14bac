//! OpenAI's Responses.

use proto::chat::{Citation, FinishReason, Usage, citation::Kind};
use serde_json::{Value, json};

use super::{Citations, Expected, HowOften, Piece, Thought, Thoughts, call, difference, list, merged, word};

/// Events that have a common form, or whose content has come with others.
const KNOWN_EVENTS: [&str; 25] = [
    "error",
    "response.completed",
    "response.content_part.added",
    "response.content_part.done",
    "response.created",
    "response.failed",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.in_progress",
    "response.incomplete",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.annotation.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.queued",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.refusal.delta",
    "response.refusal.done",
    "keepalive",
];

/// Fields of items that have a common form which have none themselves, and why each is not
/// for the usual caller. They may be told.
const FIELDS_ASIDE: [(&str, &str); 2] = [
    ("phase", "whether a message comments or answers; models from gpt-5.3 on say it"),
    ("namespace", "where a tool that was searched for comes from"),
];

pub(super) fn expected(oracle: &Value, events: &[Value]) -> Expected {
    let items: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
        .map(|event| &event["item"])
        .collect();
    let types: Vec<_> = items.iter().map(|item| item["type"].clone()).collect();
    let mut expected = Expected {
        text: word(oracle, "text"),
        refusal: word(oracle, "refusal"),
        calls: list(oracle, "tool_calls").iter().map(call).collect(),
        citations: Citations::Exactly(list(oracle, "annotations").iter().map(citation).collect()),
        order: Some(merged(items.iter().flat_map(|item| pieces(item)))),
        own_parts: own_parts(&items),
        finish: finish(oracle),
        words: vec![word(oracle, "status"), word(&oracle["incomplete"], "reason")],
        details: json!({ "incomplete_details": oracle["incomplete"] }),
        usage: usage(&oracle["usage"]),
        provider_usage: oracle["usage"].clone(),
        ..Expected::default()
    };
    // An incomplete answer has a reason; there is no word that is empty.
    expected.words.retain(|word| !word.is_empty());
    let (thoughts, contradictions) = thoughts(oracle, &items, events);
    expected.reasoning = Thoughts::Blocks(thoughts);
    expected.contradictions = contradictions;
    expected.contradictions.extend(difference("recorded items", &oracle["item_types"], &json!(types)));
    for (kind, times) in oracle["event_counts"].as_object().into_iter().flatten() {
        if !KNOWN_EVENTS.contains(&kind.as_str()) {
            let times = times.as_u64().and_then(|times| usize::try_from(times).ok()).unwrap_or(0);
            expected.beside.insert(kind.clone(), HowOften::Times(times));
        }
    }
    for (field, _reason) in FIELDS_ASIDE {
        if items.iter().any(|item| has_common_form(item) && !item[field].is_null()) {
            expected.beside.insert(field.to_owned(), HowOften::IfAtAll);
        }
    }
    let has_logprobs = |event: &Value| !list(event, "logprobs").is_empty();
    if events.iter().any(has_logprobs) {
        expected.beside.insert("logprobs".to_owned(), HowOften::OnceOrMore);
    }
    expected
}

fn has_common_form(item: &Value) -> bool {
    matches!(item["type"].as_str(), Some("message" | "reasoning" | "function_call"))
}

/// The blocks of reasoning that say something, and what the oracle knows otherwise.
fn thoughts(oracle: &Value, items: &[&Value], events: &[Value]) -> (Vec<Thought>, Vec<String>) {
    let items: Vec<_> = items.iter().filter(|item| item["type"] == "reasoning").collect();
    let last = events.iter().rev().find_map(|event| event["response"]["output"].as_array());
    let mut encrypted = list(oracle, "encrypted_reasoning").iter().filter_map(Value::as_str);
    let mut contradictions = Vec::new();
    let mut run_together = String::new();
    let mut thoughts = Vec::new();
    for item in items {
        let texts = summaries(item);
        run_together.push_str(&texts.concat());
        let mut signatures: Vec<_> = item["encrypted_content"].as_str().map(str::to_owned).into_iter().collect();
        if !signatures.is_empty() {
            let again = last.into_iter().flatten().find(|other| other["id"] == item["id"]);
            let again = again.and_then(|again| again["encrypted_content"].as_str());
            let of_oracle = encrypted.next();
            contradictions.extend(difference("recorded encryption", &json!(of_oracle), &json!(again)));
            signatures.extend(of_oracle.map(str::to_owned));
        }
        if !texts.is_empty() || !signatures.is_empty() {
            let (text, id) = (texts.join("\n\n"), word(item, "id"));
            thoughts.push(Thought { text, signatures, id, ..Thought::default() });
        }
    }
    let of_oracle = json!(oracle["reasoning"].as_str().unwrap_or_default());
    contradictions.extend(difference("recorded reasoning", &of_oracle, &json!(run_together)));
    contradictions.extend(difference("encrypted items left over", &json!(0), &json!(encrypted.count())));
    (thoughts, contradictions)
}

/// The texts of a reasoning item: summaries, or the reasoning itself of open models.
fn summaries(item: &Value) -> Vec<String> {
    let texts = list(item, "summary").iter().chain(list(item, "content"));
    texts.map(|part| word(part, "text")).filter(|text| !text.is_empty()).collect()
}

/// What an item comes to in the order of the parts.
fn pieces(item: &Value) -> Vec<Piece> {
    let piece = |kind: &str, text: Option<String>| Piece { kind: kind.to_owned(), text };
    match item["type"].as_str().unwrap_or_default() {
        "message" => {
            let parts = list(item, "content").iter().map(|part| match part["type"].as_str() {
                Some("refusal") => piece("refusal", Some(word(part, "refusal"))),
                _ => piece("text", Some(word(part, "text"))),
            });
            parts.filter(|piece| piece.text.as_ref().is_some_and(|text| !text.is_empty())).collect()
        }
        "reasoning" => {
            let says_something = !summaries(item).is_empty() || item["encrypted_content"].is_string();
            says_something.then(|| piece("reasoning", None)).into_iter().collect()
        }
        "function_call" => vec![piece("call", None)],
        other => vec![piece(other, None)],
    }
}

fn own_parts(items: &[&Value]) -> Vec<(String, Value)> {
    let own = items.iter().filter(|item| !has_common_form(item));
    own.map(|item| (word(item, "type"), (*item).clone())).collect()
}

fn citation(of: &Value) -> Citation {
    let number = |field: &str| of[field].as_i64();
    let (kind, title, start, end) = match of["type"].as_str() {
        Some("url_citation") => (Kind::Web, word(of, "title"), number("start_index"), number("end_index")),
        Some("file_citation") => (Kind::File, word(of, "filename"), number("index"), None),
        Some("container_file_citation") => {
            (Kind::File, word(of, "filename"), number("start_index"), number("end_index"))
        }
        Some("file_path") => (Kind::File, String::new(), number("index"), None),
        _ => (Kind::Unspecified, String::new(), None, None),
    };
    let json = of.to_string();
    Citation { kind: kind.into(), title, url: word(of, "url"), start, end, json, ..Citation::default() }
}

fn finish(oracle: &Value) -> FinishReason {
    let refused = !word(oracle, "refusal").is_empty();
    let calls = list(oracle, "item_types").iter().any(|kind| kind == "function_call");
    match (oracle["status"].as_str(), oracle["incomplete"]["reason"].as_str()) {
        (Some("completed"), _) if refused => FinishReason::Refusal,
        (Some("completed"), _) if calls => FinishReason::ToolCalls,
        (Some("completed"), _) => FinishReason::Stop,
        (Some("incomplete"), Some("max_output_tokens")) => FinishReason::Length,
        (Some("incomplete"), Some("content_filter")) => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    usage.is_object().then(|| Usage {
        input_tokens: usage["input_tokens"].as_i64(),
        cached_input_tokens: usage["input_tokens_details"]["cached_tokens"].as_i64(),
        cache_write_tokens: usage["input_tokens_details"]["cache_write_tokens"].as_i64(),
        output_tokens: usage["output_tokens"].as_i64(),
        reasoning_tokens: usage["output_tokens_details"]["reasoning_tokens"].as_i64(),
        total_tokens: usage["total_tokens"].as_i64(),
    })
}
