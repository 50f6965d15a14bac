//! What stands in a body: the model's turn, and the results of its calls.

use serde_json::{Value, json};

/// The blocks of the second turn.
pub(crate) fn anthropic_turn(body: &Value) -> Vec<Value> {
    assert_eq!(body["messages"][1]["role"], "assistant");
    list(&body["messages"][1]["content"])
}

/// The results of the third turn: the id of the call and the text.
pub(crate) fn anthropic_results(body: &Value) -> Vec<(String, String)> {
    let blocks = list(&body["messages"][2]["content"]);
    blocks.iter().map(|block| (string(&block["tool_use_id"]), said(&block["content"]))).collect()
}

/// The second message: its content as one text, and its calls.
pub(crate) fn chat_turn(body: &Value) -> Vec<Value> {
    let message = &body["messages"][1];
    assert_eq!(message["role"], "assistant");
    let text = if message["content"].is_null() { String::new() } else { said(&message["content"]) };
    std::iter::once(json!({ "text": text })).chain(list(&message["tool_calls"])).collect()
}

pub(crate) fn chat_results(body: &Value) -> Vec<(String, String)> {
    let messages = list(&body["messages"]);
    let results = messages.iter().filter(|message| message["role"] == "tool");
    results.map(|message| (string(&message["tool_call_id"]), said(&message["content"]))).collect()
}

/// All items between the question and the results. A message is its text.
pub(crate) fn responses_turn(body: &Value) -> Vec<Value> {
    let items = list(&body["input"]);
    let of_the_model = items[1..].iter().filter(|item| item["type"] != "function_call_output");
    of_the_model
        .map(|item| match item["role"].as_str() {
            Some("assistant") => json!({ "text": said(&item["content"]) }),
            Some(other) => panic!("{other} says nothing here"),
            None => item.clone(),
        })
        .collect()
}

pub(crate) fn responses_results(body: &Value) -> Vec<(String, String)> {
    let items = list(&body["input"]);
    let results = items.iter().filter(|item| item["type"] == "function_call_output");
    results.map(|item| (string(&item["call_id"]), said(&item["output"]))).collect()
}

/// The parts of the second content.
pub(crate) fn gemini_turn(body: &Value) -> Vec<Value> {
    assert_eq!(body["contents"][1]["role"], "model");
    list(&body["contents"][1]["parts"])
}

/// The results of the third content: the id of the call, or its name, and the text.
pub(crate) fn gemini_results(body: &Value) -> Vec<(String, String)> {
    let parts = list(&body["contents"][2]["parts"]);
    parts
        .iter()
        .map(|part| {
            let response = &part["functionResponse"];
            let whose = if response["id"].is_null() { &response["name"] } else { &response["id"] };
            (string(whose), string(&response["response"]["result"]))
        })
        .collect()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list")).clone()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// A text, or the texts and refusals of blocks.
fn said(content: &Value) -> String {
    let words = |block: &Value| string(block.get("refusal").unwrap_or(&block["text"]));
    match content {
        Value::String(text) => text.clone(),
        blocks => list(blocks).iter().map(words).collect(),
    }
}
