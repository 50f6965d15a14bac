//! The forms to which bodies are brought before they are compared.

use serde_json::{Map, Value, json};

/// What is JSON of the caller's: no name in it is the provider's.
const OF_THE_CALLER: [&str; 9] = [
    "args",
    "input_schema",
    "parameters",
    "parametersJsonSchema",
    "parameters_json_schema",
    "response",
    "responseJsonSchema",
    "responseSchema",
    "schema",
];

/// Does something to every object in `value` that is the provider's, inner ones first.
fn each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            // The input of a call, not the list of Responses.
            let is_input = |name: &str, value: &Value| name == "input" && value.is_object();
            for (name, value) in fields.iter_mut() {
                if !OF_THE_CALLER.contains(&name.as_str()) && !is_input(name, value) {
                    each_object(value, change);
                }
            }
            change(fields);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Writes the names of Gemini's fields in camel case.
pub(crate) fn to_camel_case(body: &mut Value) {
    each_object(body, &mut |fields| {
        *fields = std::mem::take(fields).into_iter().map(|(name, value)| (camel(&name), value)).collect();
    });
}

fn camel(name: &str) -> String {
    let mut words = name.split('_').filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_ascii_uppercase() + &word[1..])
}

pub(super) fn drop_silent(body: &mut Value) {
    /// Where an empty object or list is the same as none.
    const SETTINGS: [&str; 7] =
        ["generationConfig", "include", "reasoning", "systemInstruction", "text", "thinkingConfig", "toolConfig"];
    each_object(body, &mut |fields| {
        fields.retain(|name, value| {
            let is_empty = value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
            let is_silent = match name.as_str() {
                "description" => *value == "",
                name => is_empty && SETTINGS.contains(&name),
            };
            !(value.is_null() || is_silent)
        });
    });
}

pub(super) fn rename(body: &mut Value, old: &str, new: &str) {
    let fields = body.as_object_mut().expect("an object");
    if let Some(value) = fields.remove(old) {
        fields.insert(new.to_owned(), value);
    }
}

/// The items of a list in a body. None if there is no such list.
fn items<'a>(body: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    body.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

pub(super) fn developers_are_systems(body: &mut Value) {
    for message in items(body, "messages").filter(|message| message["role"] == "developer") {
        message["role"] = json!("system");
    }
}

pub(super) fn listed(value: &mut Value) {
    if value.is_string() {
        *value = json!([value.take()]);
    }
}

/// The system of Anthropic, the contents of messages, the results of calls.
pub(super) fn strings_are_blocks(body: &mut Value) {
    blocks_of(&mut body["system"], "text");
    for message in items(body, "messages") {
        blocks_of(&mut message["content"], "text");
        for block in items(message, "content").filter(|block| block["type"] == "tool_result") {
            blocks_of(&mut block["content"], "text");
        }
    }
    if let Some(said) = body["input"].as_str().map(str::to_owned) {
        body["input"] = json!([{"role": "user", "content": said}]);
    }
    for item in items(body, "input") {
        if let Some(role) = item["role"].as_str().map(str::to_owned) {
            if item["type"].is_null() {
                item["type"] = json!("message");
            }
            blocks_of(&mut item["content"], if role == "assistant" { "output_text" } else { "input_text" });
        }
        if item["type"] == "function_call_output" {
            blocks_of(&mut item["output"], "input_text");
        }
    }
}

fn blocks_of(content: &mut Value, kind: &str) {
    match content.as_str() {
        Some("") => *content = json!([]),
        Some(said) => *content = json!([{"type": kind, "text": said}]),
        None => {}
    }
    if content.as_array().is_some_and(Vec::is_empty) {
        *content = Value::Null;
    }
}

/// The lists that a conversation is of, and in each the lists that a turn is of.
pub(super) fn merge_turns(body: &mut Value) {
    for (turns, parts) in
        [("messages", &["content", "tool_calls"][..]), ("input", &["content"]), ("contents", &["parts"])]
    {
        let Some(whole) = body.get_mut(turns).and_then(Value::as_array_mut) else { continue };
        let mut merged: Vec<Value> = Vec::new();
        for mut turn in std::mem::take(whole) {
            match merged.last_mut().filter(|last| continues(last, &turn, parts)) {
                None => merged.push(turn),
                Some(last) => {
                    for part in parts {
                        let more = turn[*part].take();
                        append(&mut last[*part], more);
                    }
                }
            }
        }
        *whole = merged;
    }
}

/// Whether a turn is of the speaker of the last, and both say nothing but `parts`.
fn continues(last: &Value, turn: &Value, parts: &[&str]) -> bool {
    let is_plain = |turn: &Value| {
        let fields = turn.as_object().expect("a turn is an object");
        fields.keys().all(|name| ["role", "type"].contains(&name.as_str()) || parts.contains(&name.as_str()))
    };
    ["user", "assistant", "model"].iter().any(|role| turn["role"] == *role && last["role"] == *role)
        && is_plain(last)
        && is_plain(turn)
}

fn append(list: &mut Value, more: Value) {
    match (list.as_array_mut(), more) {
        (Some(list), Value::Array(more)) => list.extend(more),
        (None, more) => *list = more,
        (Some(_), _) => {}
    }
}

pub(super) fn includes_encrypted_reasoning(body: &mut Value) {
    if let Some(include) = body["include"].as_array_mut() {
        include.retain(|item| item != "reasoning.encrypted_content");
    }
}

pub(super) fn calls_without_item_ids(body: &mut Value) {
    for item in
        items(body, "input").filter(|item| item["type"].as_str().is_some_and(|it| it.starts_with("function_call")))
    {
        let item = item.as_object_mut().expect("an item is an object");
        item.remove("id");
        item.remove("status");
    }
}

pub(super) fn summaries_are_texts(body: &mut Value) {
    for item in items(body, "input").filter(|item| item["type"] == "reasoning") {
        let text =
            |part: &mut Value| part["text"].as_str().filter(|_| part["type"] == "summary_text").map(str::to_owned);
        if let Some(texts) = items(item, "summary").map(text).collect::<Option<Vec<_>>>() {
            item["summary"] = json!(texts.join("\n\n"));
        }
    }
}

pub(super) fn thoughts_say_so(body: &mut Value) {
    each_object(body, &mut |fields| {
        if fields.get("thought") == Some(&json!(false)) {
            fields.remove("thought");
        }
    });
}

/// All functions first, then each tool of the provider's as it comes.
pub(super) fn one_tool_an_entry(body: &mut Value) {
    let Some(tools) = body.get_mut("tools").and_then(Value::as_array_mut) else { return };
    let (mut functions, mut others) = (Vec::new(), Vec::new());
    for (kind, tool) in std::mem::take(tools).into_iter().filter_map(|entry| entry.as_object().cloned()).flatten() {
        match tool {
            Value::Array(more) if kind == "functionDeclarations" => functions.extend(more),
            tool => others.push(json!({ kind: tool })),
        }
    }
    *tools = others;
    if !functions.is_empty() {
        tools.insert(0, json!({ "functionDeclarations": functions }));
    }
}

pub(super) fn schemas_are_json_schemas(body: &mut Value) {
    each_object(body, &mut |fields| {
        for (own, common) in [("parameters", "parametersJsonSchema"), ("responseSchema", "responseJsonSchema")] {
            if let Some(schema) = fields.remove(own) {
                fields.insert(common.to_owned(), json_schema(&schema));
            }
        }
    });
}

/// A schema in Gemini's own form as a JSON Schema.
pub(crate) fn json_schema(schema: &Value) -> Value {
    /// What has schemas by name, and so no keyword.
    const BY_NAME: [&str; 1] = ["properties"];
    match schema {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                let value = match value {
                    Value::String(kind) if name == "type" => json!(kind.to_ascii_lowercase()),
                    Value::Object(named) if BY_NAME.contains(&name.as_str()) => {
                        named.iter().map(|(name, schema)| (name.clone(), json_schema(schema))).collect()
                    }
                    value => json_schema(value),
                };
                (name.clone(), value)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Array(schemas) => schemas.iter().map(json_schema).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}
