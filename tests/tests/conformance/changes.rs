//! Recordings with one thing in them changed: none of it may pass unnoticed.

use serde_json::{Value, json};

/// What is changed: its name, and how. Says whether the event has it.
type Change = (&'static str, fn(&mut Value) -> bool, Which);

#[derive(Clone, Copy, Debug)]
enum Which {
    First,
    Last,
}

/// Each change that a body of this endpoint has room for, and the changed body.
pub(crate) fn all(endpoint: &str, body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let changes: &[Change] = match endpoint {
        "anthropic.messages" => &ANTHROPIC,
        "openai.chat" => &OPENAI_CHAT,
        "openai.responses" => &RESPONSES,
        _ => &GEMINI,
    };
    changes.iter().filter_map(|(name, change, which)| Some((*name, changed(body, *change, *which)?))).collect()
}

/// The body with its first or last event that has room for it changed.
fn changed(body: &[u8], change: fn(&mut Value) -> bool, which: Which) -> Option<Vec<u8>> {
    let body = std::str::from_utf8(body).ok()?;
    let lines: Vec<_> = body.split_inclusive('\n').collect();
    let try_line = |at: usize| {
        let line = lines[at];
        let mut event: Value = serde_json::from_str(line.strip_prefix("data:")?).ok()?;
        let ending = &line[line.trim_end().len()..];
        change(&mut event).then(|| (at, format!("data: {event}{ending}")))
    };
    let (at, new) = match which {
        Which::First => (0..lines.len()).find_map(try_line),
        Which::Last => (0..lines.len()).rev().find_map(try_line),
    }?;
    Some([&lines[..at].concat(), new.as_str(), &lines[at + 1..].concat()].concat().into_bytes())
}

const ANTHROPIC: [Change; 9] = [
    ("text", |event| letter(event, "/delta/text"), Which::First),
    ("reasoning", |event| letter(event, "/delta/thinking"), Which::First),
    ("signature", |event| letter(event, "/delta/signature"), Which::First),
    ("arguments", |event| letter(event, "/delta/partial_json"), Which::First),
    ("citation", |event| letter(event, "/delta/citation/cited_text"), Which::First),
    ("own part", |event| letter(event, "/content_block/tool_use_id"), Which::First),
    ("own part", |event| letter(event, "/delta/content"), Which::First),
    ("usage", |event| is(event, "/type", "message_delta") && count(event, "/usage/output_tokens"), Which::Last),
    ("finish", |event| other_word(event, "/delta/stop_reason", ["max_tokens", "end_turn"]), Which::Last),
];

const OPENAI_CHAT: [Change; 5] = [
    ("text", |event| letter(event, "/choices/0/delta/content"), Which::First),
    ("refusal", |event| letter(event, "/choices/0/delta/refusal"), Which::First),
    ("arguments", |event| letter(event, "/choices/0/delta/tool_calls/0/function/arguments"), Which::First),
    ("usage", |event| count(event, "/usage/completion_tokens"), Which::Last),
    ("finish", |event| other_word(event, "/choices/0/finish_reason", ["length", "stop"]), Which::Last),
];

const RESPONSES: [Change; 9] = [
    ("text", |event| is(event, "/type", "response.output_text.delta") && letter(event, "/delta"), Which::First),
    ("refusal", |event| is(event, "/type", "response.refusal.delta") && letter(event, "/delta"), Which::First),
    (
        "reasoning",
        |event| is(event, "/type", "response.reasoning_summary_text.delta") && letter(event, "/delta"),
        Which::First,
    ),
    ("signature", encrypted_item, Which::First),
    (
        "arguments",
        |event| is(event, "/type", "response.function_call_arguments.delta") && letter(event, "/delta"),
        Which::First,
    ),
    ("citation", |event| letter(event, "/annotation/filename"), Which::First),
    ("own part", own_item, Which::First),
    ("usage", |event| count(event, "/response/usage/output_tokens"), Which::Last),
    ("finish", filtered, Which::Last),
];

const GEMINI: [Change; 8] = [
    ("text", |event| in_part(event, |part| part.get("thought").is_none() && letter(part, "/text")), Which::First),
    ("reasoning", |event| in_part(event, |part| part.get("thought").is_some() && letter(part, "/text")), Which::First),
    ("signature", |event| in_part(event, |part| letter(part, "/thoughtSignature")), Which::First),
    ("arguments", |event| in_part(event, argument), Which::First),
    (
        "citation",
        |event| letter(event, "/candidates/0/groundingMetadata/groundingSupports/0/segment/text"),
        Which::First,
    ),
    ("own part", |event| in_part(event, |part| letter(part, "/executableCode/code")), Which::First),
    ("usage", |event| count(event, "/usageMetadata/candidatesTokenCount"), Which::Last),
    ("finish", |event| other_word(event, "/candidates/0/finishReason", ["MAX_TOKENS", "STOP"]), Which::Last),
];

fn is(event: &Value, place: &str, word: &str) -> bool {
    event.pointer(place).is_some_and(|found| found == word)
}

/// Another letter or digit in place of the first one.
fn letter(event: &mut Value, place: &str) -> bool {
    let Some(Value::String(text)) = event.pointer_mut(place) else { return false };
    let Some(at) = text.find(|letter: char| letter.is_ascii_alphanumeric()) else { return false };
    let new = match text.as_bytes()[at] {
        b'1' => "2",
        b'0'..=b'9' => "1",
        b'x' => "y",
        _ => "x",
    };
    text.replace_range(at..=at, new);
    true
}

fn count(event: &mut Value, place: &str) -> bool {
    let Some(number) = event.pointer_mut(place) else { return false };
    let Some(count) = number.as_u64() else { return false };
    *number = json!(count + 1);
    true
}

fn other_word(event: &mut Value, place: &str, words: [&str; 2]) -> bool {
    let Some(Value::String(word)) = event.pointer_mut(place) else { return false };
    let [usual, instead] = words;
    if word == usual { instead } else { usual }.clone_into(word);
    true
}

fn in_part(event: &mut Value, mut change: impl FnMut(&mut Value) -> bool) -> bool {
    let parts = event.pointer_mut("/candidates/0/content/parts").and_then(Value::as_array_mut);
    parts.is_some_and(|parts| parts.iter_mut().any(&mut change))
}

/// The first value among the arguments of a call, whole or in pieces.
fn argument(part: &mut Value) -> bool {
    if letter(part, "/functionCall/partialArgs/0/stringValue") {
        return true;
    }
    let Some(Value::Object(arguments)) = part.pointer_mut("/functionCall/args") else { return false };
    arguments.values_mut().any(|value| letter(value, "") || count(value, ""))
}

fn encrypted_item(event: &mut Value) -> bool {
    is(event, "/type", "response.output_item.done")
        && is(event, "/item/type", "reasoning")
        && letter(event, "/item/encrypted_content")
}

fn own_item(event: &mut Value) -> bool {
    let common = ["message", "reasoning", "function_call"].iter().any(|kind| is(event, "/item/type", kind));
    is(event, "/type", "response.output_item.done") && !common && letter(event, "/item/id")
}

/// The filter cut the answer.
fn filtered(event: &mut Value) -> bool {
    let ended = is(event, "/type", "response.completed") || is(event, "/type", "response.incomplete");
    if ended {
        event["type"] = json!("response.incomplete");
        event["response"]["status"] = json!("incomplete");
        event["response"]["incomplete_details"] = json!({ "reason": "content_filter" });
    }
    ended
}
