//! Gemini's generateContent.
//!
//! Parts and fields without common form have the names of Google's own definition, as the
//! oracle has them: `executable_code`. The wire has them in the spelling of JSON.

use proto::chat::{Citation, FinishReason, Usage, citation::Kind};
use serde_json::{Map, Value, json};

use super::{Arguments, Call, Citations, Expected, HowOften, Thoughts, difference, list, word};

/// Fields of a candidate that have no common form, or not wholly.
const FIELDS_ASIDE: [(&str, HowOften); 3] = [
    // Beside the citations: what was searched for, and what Google wants to be shown.
    ("groundingMetadata", HowOften::OnceOrMore),
    // Which pages were read, and which could not be.
    ("urlContextMetadata", HowOften::OnceOrMore),
    // All of it comes as citations.
    ("citationMetadata", HowOften::IfAtAll),
];

pub(super) fn expected(oracle: &Value, events: &[Value]) -> Expected {
    let blocked = oracle["prompt_block"].as_str();
    let mut expected = Expected {
        text: word(oracle, "text"),
        reasoning: Thoughts::Text(word(oracle, "thinking")),
        calls: calls(oracle),
        signatures: parts(events).map(|part| word(part, "thoughtSignature")).filter(|text| !text.is_empty()).collect(),
        citations: Citations::These(citations(events)),
        own_parts: parts(events).filter_map(own_part).collect(),
        finish: finish(oracle),
        words: vec![blocked.map_or_else(|| word(oracle, "finish"), str::to_owned)],
        usage: usage(&oracle["usage"]),
        provider_usage: camel_case(&oracle["usage"]),
        ..Expected::default()
    };
    for (field, often) in FIELDS_ASIDE {
        let says_something = |candidate: &Value| candidate[field].as_object().is_some_and(|fields| !fields.is_empty());
        if candidates(events).any(says_something) {
            expected.beside.insert(snake_case(field), often);
        }
    }
    expected.contradictions = contradictions(oracle, events, &expected);
    expected
}

/// What the oracle counts is in the recording.
fn contradictions(oracle: &Value, events: &[Value], expected: &Expected) -> Vec<String> {
    let grounded = events.iter().filter(|event| {
        let candidates = list(event, "candidates").iter();
        candidates
            .map(|candidate| &candidate["groundingMetadata"])
            .any(|found| !list(found, "groundingChunks").is_empty())
    });
    let own: Vec<_> = expected.own_parts.iter().map(|(kind, _)| kind).collect();
    let found = [
        difference("recorded signatures", &oracle["signatures"], &json!(expected.signatures.len())),
        difference("recorded parts", &oracle["other_parts"], &json!(own)),
        difference("recorded grounding", &oracle["grounding_chunks"], &json!(grounded.count())),
    ];
    found.into_iter().flatten().collect()
}

/// The first candidate of each event that has one.
fn candidates(events: &[Value]) -> impl Iterator<Item = &Value> {
    let candidates = events.iter().flat_map(|event| list(event, "candidates"));
    candidates.filter(|candidate| candidate["index"].as_u64().unwrap_or(0) == 0)
}

fn parts(events: &[Value]) -> impl Iterator<Item = &Value> {
    candidates(events).flat_map(|candidate| list(&candidate["content"], "parts"))
}

/// A part without common form, by the name of what it has.
fn own_part(part: &Value) -> Option<(String, Value)> {
    let mut names = part.as_object()?.keys();
    let common = |name: &&String| matches!(name.as_str(), "text" | "thought" | "thoughtSignature" | "functionCall");
    let name = names.find(|name| !common(name))?;
    Some((snake_case(name), part.clone()))
}

/// What text rests on which page, and what is recited from where.
fn citations(events: &[Value]) -> Vec<Citation> {
    let mut all = Vec::new();
    for candidate in candidates(events) {
        let grounding = &candidate["groundingMetadata"];
        let chunks = list(grounding, "groundingChunks");
        for support in list(grounding, "groundingSupports") {
            for index in list(support, "groundingChunkIndices") {
                let chunk = index.as_u64().and_then(|index| chunks.get(usize::try_from(index).ok()?));
                let web = chunk.map_or(&Value::Null, |chunk| &chunk["web"]);
                all.push(Citation {
                    kind: Kind::Web.into(),
                    cited_text: word(&support["segment"], "text"),
                    title: word(web, "title"),
                    url: word(web, "uri"),
                    // Zero is left out.
                    start: support["segment"]["startIndex"].as_i64().or(Some(0)),
                    end: support["segment"]["endIndex"].as_i64(),
                    ..Citation::default()
                });
            }
        }
        let recited = &candidate["citationMetadata"];
        for source in list(recited, "citationSources").iter().chain(list(recited, "citations")) {
            all.push(Citation {
                kind: Kind::Recitation.into(),
                title: word(source, "title"),
                url: word(source, "uri"),
                start: source["startIndex"].as_i64().or(Some(0)),
                end: source["endIndex"].as_i64(),
                ..Citation::default()
            });
        }
    }
    all
}

/// Calls whose arguments may come in parts: each named part with the `partial` values of
/// those that follow, by `json_path`, up to the closing part.
fn calls(oracle: &Value) -> Vec<Call> {
    let mut calls: Vec<(Option<String>, String, Value)> = Vec::new();
    for part in list(oracle, "tool_calls") {
        if let Some(name) = part["name"].as_str() {
            let arguments = if part["args"].is_null() { json!({}) } else { part["args"].clone() };
            calls.push((part["id"].as_str().map(str::to_owned), name.to_owned(), arguments));
        }
        for piece in list(part, "partial") {
            let (_, _, arguments) = calls.last_mut().expect("a piece follows a named part");
            let place = place(arguments, piece["json_path"].as_str().expect("a piece has a path"));
            if let Some(text) = piece["string_value"].as_str() {
                let before = place.as_str().unwrap_or_default();
                *place = json!(format!("{before}{text}"));
            } else if !piece["number_value"].is_null() {
                *place = piece["number_value"].clone();
            } else if !piece["bool_value"].is_null() {
                *place = piece["bool_value"].clone();
            }
        }
    }
    calls.into_iter().map(|(id, name, arguments)| Call { id, name, arguments: Arguments::Json(arguments) }).collect()
}

/// The place that a path such as `$.recipe.ingredients[0].amount` leads to.
fn place<'a>(mut root: &'a mut Value, path: &str) -> &'a mut Value {
    for step in path.trim_start_matches('$').replace('[', ".[").split('.').filter(|step| !step.is_empty()) {
        root = if let Some(index) = step.strip_prefix('[') {
            let index: usize = index.trim_end_matches(']').parse().expect("an index");
            if !root.is_array() {
                *root = json!([]);
            }
            let items = root.as_array_mut().expect("an array");
            while items.len() <= index {
                items.push(Value::Null);
            }
            &mut items[index]
        } else {
            if !root.is_object() {
                *root = Value::Object(Map::new());
            }
            root.as_object_mut().expect("an object").entry(step).or_insert(Value::Null)
        };
    }
    root
}

fn finish(oracle: &Value) -> FinishReason {
    let calls = !list(oracle, "tool_calls").is_empty();
    if !oracle["prompt_block"].is_null() {
        return FinishReason::ContentFilter;
    }
    match oracle["finish"].as_str() {
        Some("STOP") if calls => FinishReason::ToolCalls,
        Some("STOP") => FinishReason::Stop,
        Some("MAX_TOKENS") => FinishReason::Length,
        Some("SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "MODEL_ARMOR" | "LANGUAGE") => {
            FinishReason::ContentFilter
        }
        Some(image) if image.starts_with("IMAGE_") => FinishReason::ContentFilter,
        Some(
            "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MISSING_THOUGHT_SIGNATURE",
        ) => FinishReason::MalformedToolCall,
        Some("CONTINUATION") => FinishReason::Pause,
        _ => FinishReason::Other,
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    let count = |name: &str| usage[name].as_i64();
    // What neither part of was reported is not reported.
    let sum = |one: &str, other: &str| {
        let (one, other) = (count(one), count(other));
        one.or(other).map(|_| one.unwrap_or(0) + other.unwrap_or(0))
    };
    usage.is_object().then(|| Usage {
        input_tokens: sum("prompt_token_count", "tool_use_prompt_token_count"),
        cached_input_tokens: count("cached_content_token_count"),
        cache_write_tokens: None,
        // No output is not counted.
        output_tokens: sum("candidates_token_count", "thoughts_token_count").or(count("prompt_token_count").map(|_| 0)),
        reasoning_tokens: count("thoughts_token_count"),
        total_tokens: count("total_token_count"),
    })
}

/// The oracle has the names of the library, the wire its own.
fn camel_case(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (camel_name(name), camel_case(value))).collect(),
        Value::Array(items) => items.iter().map(camel_case).collect(),
        other => other.clone(),
    }
}

fn camel_name(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        name + &first.into_iter().chain(letters).collect::<String>()
    })
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
