//! OpenAI's Chat Completions, and Azure's.

use proto::chat::{Citation, FinishReason, Usage, citation::Kind};
use serde_json::Value;

use super::{Citations, Expected, HowOften, call, list, word};

pub(super) fn expected(oracle: &Value, events: &[Value]) -> Expected {
    let choice = &oracle["choices"]["0"];
    let of_the_first = |call: &&Value| call["choice"].as_u64().unwrap_or(0) == 0;
    let mut expected = Expected {
        text: word(choice, "text"),
        refusal: word(choice, "refusal"),
        calls: list(oracle, "tool_calls").iter().filter(of_the_first).map(call).collect(),
        citations: Citations::Exactly(citations(events)),
        words: vec![word(choice, "finish")],
        usage: usage(&oracle["usage"]),
        provider_usage: oracle["usage"].clone(),
        ..Expected::default()
    };
    expected.finish = finish(choice["finish"].as_str(), !expected.refusal.is_empty(), !expected.calls.is_empty());
    for (field, is_said) in [
        // The likelihoods of the words.
        ("logprobs", choices(events).any(|choice| says_something(&choice["logprobs"]))),
        // What Azure's filters took out of the request or the answer. What they let pass says
        // nothing.
        ("prompt_filter_results", events.iter().any(|event| filters(&event["prompt_filter_results"]))),
        ("content_filter_results", choices(events).any(|choice| filters(&choice["content_filter_results"]))),
    ] {
        if is_said {
            expected.beside.insert(field.to_owned(), HowOften::OnceOrMore);
        }
    }
    // One answer was asked for; who set another is told of the others, whole.
    if events.iter().flat_map(|event| list(event, "choices")).any(|choice| choice["index"].as_u64() > Some(0)) {
        expected.beside.insert("chat.completion.chunk".to_owned(), HowOften::IfAtAll);
    }
    expected
}

/// The first choice of each chunk that has one.
fn choices(events: &[Value]) -> impl Iterator<Item = &Value> {
    events.iter().flat_map(|event| list(event, "choices")).filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0)
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}

fn filters(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            filters(value) || (matches!(name.as_str(), "filtered" | "detected") && *value == Value::Bool(true))
        }),
        Value::Array(items) => items.iter().any(filters),
        _ => false,
    }
}

/// The oracle does not know them; they are as in the recording.
fn citations(events: &[Value]) -> Vec<Citation> {
    let annotations = choices(events).flat_map(|choice| list(&choice["delta"], "annotations"));
    annotations
        .map(|annotation| {
            let cited = &annotation["url_citation"];
            let kind = if annotation["type"] == "url_citation" { Kind::Web } else { Kind::Unspecified };
            Citation {
                kind: kind.into(),
                title: word(cited, "title"),
                url: word(cited, "url"),
                start: cited["start_index"].as_i64(),
                end: cited["end_index"].as_i64(),
                json: annotation.to_string(),
                ..Citation::default()
            }
        })
        .collect()
}

fn finish(reason: Option<&str>, refused: bool, calls: bool) -> FinishReason {
    match reason {
        Some("stop") if refused => FinishReason::Refusal,
        Some("stop") if calls => FinishReason::ToolCalls,
        Some("stop") => FinishReason::Stop,
        Some("length") => FinishReason::Length,
        Some("tool_calls" | "function_call") => FinishReason::ToolCalls,
        Some("content_filter") => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    usage.is_object().then(|| Usage {
        input_tokens: usage["prompt_tokens"].as_i64(),
        cached_input_tokens: usage["prompt_tokens_details"]["cached_tokens"].as_i64(),
        cache_write_tokens: usage["prompt_tokens_details"]["cache_write_tokens"].as_i64(),
        output_tokens: usage["completion_tokens"].as_i64(),
        reasoning_tokens: usage["completion_tokens_details"]["reasoning_tokens"].as_i64(),
        total_tokens: usage["total_tokens"].as_i64(),
    })
}
