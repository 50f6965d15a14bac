//! Two bodies of a request, the recorded and the sent, and where they differ.
//!
//! Numbers are compared by their value: `1` and `1.0` are one number of JSON. All else that
//! may differ is an [`Equivalence`], with its reason.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

/// A difference that means nothing.
pub(crate) struct Equivalence {
    /// Of which endpoints. All, if it is empty.
    endpoints: &'static [&'static str],
    pub(crate) name: &'static str,
    /// Brings both bodies, first the recorded, to one form.
    apply: fn(&mut Value, &mut Value),
}

const ANTHROPIC: &str = "anthropic.messages";
const CHAT: &str = "openai.chat";
const RESPONSES: &str = "openai.responses";
const GEMINI: [&str; 2] = ["gemini.generateContent", "gemini.streamGenerateContent"];

/// Applied in this order. What each says is its reason.
pub(crate) const EQUIVALENCES: &[Equivalence] = &[
    Equivalence {
        endpoints: &GEMINI,
        name: "Gemini reads its names in snake case and in camel case",
        apply: |recorded, sent| both(recorded, sent, to_camel_case),
    },
    Equivalence {
        endpoints: &[],
        name: "an explicit null, an empty description, an empty object of settings say nothing",
        apply: |recorded, sent| both(recorded, sent, drop_silent),
    },
    Equivalence {
        endpoints: &[ANTHROPIC, CHAT, RESPONSES],
        name: "the gateway always streams",
        apply: |recorded, _| recorded["stream"] = json!(true),
    },
    Equivalence {
        endpoints: &[CHAT],
        name: "the gateway always asks for the usage, which Chat Completions else leaves out of a stream",
        apply: |recorded, _| recorded["stream_options"]["include_usage"] = json!(true),
    },
    Equivalence {
        endpoints: &[CHAT],
        name: "max_completion_tokens is the newer name of max_tokens, and the only one for reasoning models",
        apply: |recorded, sent| both(recorded, sent, |body| rename(body, "max_tokens", "max_completion_tokens")),
    },
    Equivalence {
        endpoints: &[CHAT],
        name: "`developer` is the name of `system` for reasoning models; each is taken for the other",
        apply: |recorded, sent| both(recorded, sent, developers_are_systems),
    },
    Equivalence {
        endpoints: &[CHAT],
        name: "one stop sequence may be a string",
        apply: |recorded, sent| both(recorded, sent, |body| listed(&mut body["stop"])),
    },
    Equivalence {
        endpoints: &[ANTHROPIC, CHAT, RESPONSES],
        name: "a string is one block of text, and an empty one none",
        apply: |recorded, sent| both(recorded, sent, strings_are_blocks),
    },
    Equivalence {
        endpoints: &[ANTHROPIC, CHAT, RESPONSES, GEMINI[0], GEMINI[1]],
        name: "turns of one role that follow each other are one turn",
        apply: |recorded, sent| both(recorded, sent, merge_turns),
    },
    Equivalence {
        endpoints: &[RESPONSES],
        name: "the gateway keeps nothing at OpenAI: it sends reasoning back encrypted",
        apply: |recorded, sent| {
            recorded.as_object_mut().expect("an object").entry("store").or_insert(json!(false));
            both(recorded, sent, includes_encrypted_reasoning);
        },
    },
    Equivalence {
        endpoints: &[RESPONSES],
        name: "a call and its result are found by call_id; id and status are of OpenAI's stored item",
        apply: |recorded, sent| both(recorded, sent, calls_without_item_ids),
    },
    Equivalence {
        endpoints: &[RESPONSES],
        name: "the parts of a summary are one text with blank lines between",
        apply: |recorded, sent| both(recorded, sent, summaries_are_texts),
    },
    Equivalence {
        endpoints: &GEMINI,
        name: "a part is no thought unless it says so",
        apply: |recorded, sent| both(recorded, sent, thoughts_say_so),
    },
    Equivalence {
        endpoints: &GEMINI,
        name: "an instruction has no speaker: its role is not read",
        apply: |recorded, sent| {
            both(recorded, sent, |body| {
                body["systemInstruction"].as_object_mut().map(|instruction| instruction.remove("role"));
            });
        },
    },
    Equivalence {
        endpoints: &GEMINI,
        name: "tools may stand in one entry or in many",
        apply: |recorded, sent| both(recorded, sent, one_tool_an_entry),
    },
    Equivalence {
        endpoints: &GEMINI,
        name: "Gemini's form of a schema is a JSON Schema with its types in capitals",
        apply: |recorded, sent| both(recorded, sent, schemas_are_json_schemas),
    },
];

fn both(recorded: &mut Value, sent: &mut Value, change: impl Fn(&mut Value)) {
    change(recorded);
    change(sent);
}

/// A place at which two bodies differ. `None` is nothing.
#[derive(PartialEq)]
pub(crate) struct Difference {
    /// A JSON path.
    place: String,
    recorded: Option<Value>,
    sent: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: recorded {}, sent {}", self.place, shown(self.recorded.as_ref()), shown(self.sent.as_ref()))
    }
}

/// Where two bodies differ after all equivalences. `applied` hears of each equivalence that changed something.
pub(crate) fn differences(
    endpoint: &str,
    recorded: &Value,
    sent: &Value,
    mut applied: impl FnMut(&'static str),
) -> Vec<Difference> {
    let (mut recorded, mut sent) = (recorded.clone(), sent.clone());
    for rule in EQUIVALENCES.iter().filter(|rule| rule.endpoints.is_empty() || rule.endpoints.contains(&endpoint)) {
        let before = (recorded.clone(), sent.clone());
        (rule.apply)(&mut recorded, &mut sent);
        // To look at a field that is not there makes a null of it.
        both(&mut recorded, &mut sent, drop_silent);
        if before.0 != recorded || before.1 != sent {
            applied(rule.name);
        }
    }
    let mut found = Vec::new();
    differ("$", Some(&recorded), Some(&sent), &mut found);
    found
}

fn differ(path: &str, recorded: Option<&Value>, sent: Option<&Value>, found: &mut Vec<Difference>) {
    match (recorded, sent) {
        (Some(Value::Object(recorded)), Some(Value::Object(sent))) => {
            let only_sent = sent.keys().filter(|name| !recorded.contains_key(*name));
            for name in recorded.keys().chain(only_sent) {
                differ(&format!("{path}.{name}"), recorded.get(name), sent.get(name), found);
            }
        }
        (Some(Value::Array(recorded)), Some(Value::Array(sent))) => {
            for at in 0..recorded.len().max(sent.len()) {
                differ(&format!("{path}[{at}]"), recorded.get(at), sent.get(at), found);
            }
        }
        (Some(Value::Number(recorded)), Some(Value::Number(sent))) if recorded.as_f64() == sent.as_f64() => {}
        (recorded, sent) if recorded == sent => {}
        (recorded, sent) => {
            let place = path.to_owned();
            found.push(Difference { place, recorded: recorded.cloned(), sent: sent.cloned() });
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    const SHOWN_MAX: usize = 200;
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        let _ = write!(shown, "... ({} bytes)", text.len());
    }
    shown
}

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

fn drop_silent(body: &mut Value) {
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

fn rename(body: &mut Value, old: &str, new: &str) {
    let fields = body.as_object_mut().expect("an object");
    if let Some(value) = fields.remove(old) {
        fields.insert(new.to_owned(), value);
    }
}

/// The items of a list in a body. None if there is no such list.
fn items<'a>(body: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    body.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn developers_are_systems(body: &mut Value) {
    for message in items(body, "messages").filter(|message| message["role"] == "developer") {
        message["role"] = json!("system");
    }
}

fn listed(value: &mut Value) {
    if value.is_string() {
        *value = json!([value.take()]);
    }
}

/// The system of Anthropic, the contents of messages, the results of calls.
fn strings_are_blocks(body: &mut Value) {
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
fn merge_turns(body: &mut Value) {
    for (turns, parts) in
        [("messages", &["content", "tool_calls"][..]), ("input", &["content"]), ("contents", &["parts"])]
    {
        let Some(list) = body.get_mut(turns).and_then(Value::as_array_mut) else { continue };
        let mut merged: Vec<Value> = Vec::new();
        for mut turn in std::mem::take(list) {
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
        *list = merged;
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

fn includes_encrypted_reasoning(body: &mut Value) {
    if let Some(include) = body["include"].as_array_mut() {
        include.retain(|item| item != "reasoning.encrypted_content");
    }
}

fn calls_without_item_ids(body: &mut Value) {
    for item in
        items(body, "input").filter(|item| item["type"].as_str().is_some_and(|it| it.starts_with("function_call")))
    {
        let item = item.as_object_mut().expect("an item is an object");
        item.remove("id");
        item.remove("status");
    }
}

fn summaries_are_texts(body: &mut Value) {
    for item in items(body, "input").filter(|item| item["type"] == "reasoning") {
        let text =
            |part: &mut Value| part["text"].as_str().filter(|_| part["type"] == "summary_text").map(str::to_owned);
        if let Some(texts) = items(item, "summary").map(text).collect::<Option<Vec<_>>>() {
            item["summary"] = json!(texts.join("\n\n"));
        }
    }
}

fn thoughts_say_so(body: &mut Value) {
    each_object(body, &mut |fields| {
        if fields.get("thought") == Some(&json!(false)) {
            fields.remove("thought");
        }
    });
}

/// All functions first, then each tool of the provider's as it comes.
fn one_tool_an_entry(body: &mut Value) {
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

fn schemas_are_json_schemas(body: &mut Value) {
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
