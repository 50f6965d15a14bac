//! What of an answer is not as expected, a sentence each.

use std::collections::BTreeMap;

use proto::chat::{Citation, ReasoningPart, content_part::Part};
use serde_json::{Value, json};
use system_tests::answer::Answer;

use super::{Arguments, Call, Citations, Expected, HowOften, Piece, Thought, Thoughts, merged};

pub(super) fn all(expected: &Expected, answer: &Answer) -> Vec<String> {
    if let Some(failure) = &answer.failure {
        return vec![format!("failed with {}: {}", failure.class(), failure.message)];
    }
    let mut found = expected.contradictions.clone();
    if !expected.model.is_empty() {
        let model = answer.started.as_ref().map(|started| started.model.as_str());
        found.extend(difference("model", &json!(expected.model), &json!(model)));
    }
    found.extend(difference("text", &json!(expected.text), &json!(answer.text)));
    found.extend(difference("refusal", &json!(expected.refusal), &json!(answer.refusal)));
    found.extend(reasoning(&expected.reasoning, answer));
    found.extend(calls(&expected.calls, answer));
    let with_thoughts = matches!(expected.reasoning, Thoughts::Text(_));
    found.extend(difference("signatures", &json!(expected.signatures), &json!(signatures(answer, with_thoughts))));
    match &expected.citations {
        Citations::Exactly(citations) => found.extend(citations_exactly(citations, &answer.citations)),
        Citations::These(citations) => found.extend(citations_as_set(citations, &answer.citations)),
    }
    found.extend(expected.order.as_ref().and_then(|order| in_order(order, answer)));
    found.extend(own_parts(&expected.own_parts, answer));
    found.extend(beside(&expected.beside, answer));
    found.extend(end(expected, answer));
    found
}

fn reasoning(expected: &Thoughts, answer: &Answer) -> Vec<String> {
    let blocks = match expected {
        Thoughts::Text(text) => {
            let joined: String = answer.reasoning().map(|block| block.text.as_str()).collect();
            return difference("reasoning", &json!(text), &json!(joined)).into_iter().collect();
        }
        Thoughts::Blocks(blocks) => blocks,
    };
    let found: Vec<_> = answer.reasoning().filter(|block| !is_bare(block)).collect();
    if found.len() != blocks.len() {
        return vec![format!("{} blocks of reasoning instead of {}: {found:?}", found.len(), blocks.len())];
    }
    blocks.iter().zip(found).flat_map(|(expected, block)| thought(expected, block)).collect()
}

fn thought(expected: &Thought, block: &ReasoningPart) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(difference("reasoning", &json!(expected.text), &json!(block.text)));
    found.extend(difference("redacted reasoning", &json!(expected.redacted_data), &json!(block.redacted_data)));
    found.extend(difference("id of reasoning", &json!(expected.id), &json!(block.id)));
    let signature = &block.signature;
    let is_right =
        if expected.signatures.is_empty() { signature.is_empty() } else { expected.signatures.contains(signature) };
    if !is_right {
        let right = expected.signatures.first();
        found.extend(difference("signature of reasoning", &json!(right), &json!(signature)));
    }
    found
}

/// Nothing but an id.
fn is_bare(block: &ReasoningPart) -> bool {
    block.text.is_empty() && block.signature.is_empty() && block.redacted_data.is_empty()
}

/// Id, name and arguments of each call.
fn calls(expected: &[Call], answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let names: Vec<_> = answer.calls.iter().map(|call| call.name.as_str()).collect();
    let expected_names: Vec<_> = expected.iter().map(|call| call.name.as_str()).collect();
    if names != expected_names {
        return vec![format!("calls: {names:?} instead of {expected_names:?}")];
    }
    for (call, expected) in answer.calls.iter().zip(expected) {
        if let Some(id) = &expected.id {
            found.extend(difference("id of a call", &json!(id), &json!(call.id)));
        }
        match &expected.arguments {
            Arguments::Json(arguments) => {
                let said: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments));
                found.extend(difference("arguments", arguments, &said));
                found.extend(difference("incomplete", &json!(false), &json!(call.incomplete)));
            }
            Arguments::Cut(fragments) => {
                found.extend(difference("fragments of arguments", &json!(fragments), &json!(call.arguments)));
                found.extend(difference("incomplete", &json!(true), &json!(call.incomplete)));
            }
        }
    }
    found
}

fn signatures(answer: &Answer, with_thoughts: bool) -> Vec<String> {
    let of = |part: &Part| match part {
        Part::Text(text) => text.signature.clone(),
        Part::ToolCall(call) => call.signature.clone(),
        Part::Reasoning(block) if with_thoughts => block.signature.clone(),
        Part::Provider(part) => {
            let part: Value = serde_json::from_str(&part.json).unwrap_or_default();
            part["thoughtSignature"].as_str().unwrap_or_default().to_owned()
        }
        _ => String::new(),
    };
    answer.parts.iter().map(of).filter(|signature| !signature.is_empty()).collect()
}

fn citations_exactly(expected: &[Citation], found: &[Citation]) -> Vec<String> {
    if expected.len() != found.len() {
        return vec![format!("{} citations instead of {}: {found:?}", found.len(), expected.len())];
    }
    let unlike = expected.iter().zip(found).filter(|(expected, found)| {
        let json = |text: &str| without_nulls(serde_json::from_str(text).unwrap_or_default());
        let fields = |citation: &Citation| Citation { json: String::new(), ..citation.clone() };
        fields(expected) != fields(found) || json(&expected.json) != json(&found.json)
    });
    unlike.map(|(expected, found)| format!("a citation: {found:?} instead of {expected:?}")).collect()
}

/// Nothing cited is missing, and nothing else is cited. A source that no text rests on may
/// be named all the same.
fn citations_as_set(expected: &[Citation], found: &[Citation]) -> Vec<String> {
    let plain = |citation: &Citation| {
        let Citation { kind, cited_text, title, url, start, end, .. } = citation.clone();
        (kind, cited_text, title, url, start.unwrap_or(0), end)
    };
    let missing = expected.iter().filter(|citation| !found.iter().any(|other| plain(other) == plain(citation)));
    let missing = missing.map(|citation| format!("a citation is missing: {citation:?}"));
    let spurious = found.iter().filter(|citation| {
        let is_source = citation.cited_text.is_empty() && expected.iter().any(|other| other.url == citation.url);
        !is_source && !expected.iter().any(|other| plain(other) == plain(citation))
    });
    missing.chain(spurious.map(|citation| format!("a citation of nothing: {citation:?}"))).collect()
}

fn in_order(expected: &[Piece], answer: &Answer) -> Option<String> {
    let mut types = answer.provider_events.iter().filter(|event| event.replayable).map(|event| event.r#type.clone());
    let piece = |kind: &str, text: Option<&String>| Piece { kind: kind.to_owned(), text: text.cloned() };
    let found = answer.parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(piece("text", Some(&text.text))),
        Part::Refusal(refusal) => Some(piece("refusal", Some(&refusal.text))),
        Part::Reasoning(block) => (!is_bare(block)).then(|| piece("reasoning", None)),
        Part::ToolCall(_) => Some(piece("call", None)),
        Part::Provider(_) => types.next().map(|kind| Piece { kind, text: None }),
        other => panic!("an answer has no {other:?}"),
    });
    let found = merged(found);
    let same = found.len() == expected.len()
        && expected.iter().zip(&found).all(|(expected, found)| {
            expected.kind == found.kind && (expected.text.is_none() || expected.text == found.text)
        });
    let shown = |pieces: &[Piece]| json!(pieces.iter().map(|piece| (&piece.kind, &piece.text)).collect::<Vec<_>>());
    if same { None } else { difference("order of the parts", &shown(expected), &shown(&found)) }
}

fn own_parts(expected: &[(String, Value)], answer: &Answer) -> Vec<String> {
    let found: Vec<(String, Value)> = answer
        .provider_events
        .iter()
        .filter(|event| event.replayable)
        .map(|event| (event.r#type.clone(), serde_json::from_str(&event.json).unwrap_or_default()))
        .collect();
    difference("parts of the provider's own", &json!(expected), &json!(found)).into_iter().collect()
}

/// What was said beside the parts: all that must be, and nothing that may not.
fn beside(expected: &BTreeMap<String, HowOften>, answer: &Answer) -> Vec<String> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for event in answer.provider_events.iter().filter(|event| !event.replayable) {
        *times.entry(&event.r#type).or_default() += 1;
        if !expected.contains_key(&event.r#type) {
            let json: String = event.json.chars().take(200).collect();
            found.push(format!("spurious event {}: {json}", event.r#type));
        }
    }
    for (kind, often) in expected {
        let times = times.get(kind.as_str()).copied().unwrap_or(0);
        let fits = match often {
            HowOften::Times(expected) => times == *expected,
            HowOften::OnceOrMore => times > 0,
            HowOften::IfAtAll => true,
        };
        if !fits {
            found.push(format!("event {kind}: {times} times instead of {often:?}"));
        }
    }
    found
}

fn end(expected: &Expected, answer: &Answer) -> Vec<String> {
    let finished = answer.finished.clone().unwrap_or_default();
    let mut found = Vec::new();
    let reason = finished.finish_reason().as_str_name();
    found.extend(difference("finish", &json!(expected.finish.as_str_name()), &json!(reason)));
    if !expected.words.contains(&finished.provider_finish_reason) {
        found.push(format!("word: {:?} instead of {:?}", finished.provider_finish_reason, expected.words));
    }
    found.extend(difference("stop sequence", &json!(expected.stop_sequence), &json!(finished.stop_sequence)));
    if expected.usage != finished.usage {
        found.push(format!("usage: {:?} instead of {:?}", finished.usage, expected.usage));
    }
    if answer.usage.is_some() && answer.usage != finished.usage {
        found.push(format!("the last usage is {:?}, and the final one {:?}", answer.usage, finished.usage));
    }
    let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
    for (field, expected, said) in [
        ("provider_details", &expected.details, json(&finished.provider_details)),
        ("provider_usage", &expected.provider_usage, json(&finished.provider_usage)),
    ] {
        if !is_within(expected, &said) {
            found.extend(difference(field, expected, &said));
        }
    }
    if expected.provider_usage.is_null() {
        found.extend(difference("provider_usage", &json!(""), &json!(finished.provider_usage)));
    }
    found
}

/// Whether `whole` says all that `part` says.
fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Null, _) => true,
        (Value::Object(part), whole) => part.iter().all(|(name, value)| is_within(value, &whole[name])),
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(part, whole)| is_within(part, whole))
        }
        (part, whole) => is_same(part, whole),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// 1 and 1.0 are one number to every provider.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| is_same(value, other)))
        }
        _ => one == other,
    }
}

pub(super) fn difference(what: &str, expected: &Value, found: &Value) -> Option<String> {
    (!is_same(expected, found)).then(|| {
        let (expected, found) = around_the_difference(&expected.to_string(), &found.to_string());
        format!("{what}: {found} instead of {expected}")
    })
}

/// Both as far as they can be read: whole if they are short, or else from where they differ.
fn around_the_difference(one: &str, other: &str) -> (String, String) {
    const SHOWN: usize = 160;
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    let from = same.saturating_sub(SHOWN / 4);
    let clip = |text: &str| {
        if text.chars().count() <= SHOWN {
            return text.to_owned();
        }
        format!("[{from}..] {}", text.chars().skip(from).take(SHOWN).collect::<String>())
    };
    (clip(one), clip(other))
}
