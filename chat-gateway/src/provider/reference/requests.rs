//! Where each field of a request goes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Endpoint, code, markdown};
use crate::{
    message::{
        Amount, AssistantPart, Audio, CacheControl, Chat, Document, Effort, FileSource, Function, Image, Message, Part,
        ProviderPart, Reasoning, ResponseFormat, Schema, Summary, Thinking, Tool, ToolCall, ToolChoice, ToolResult,
        UserPart,
    },
    provider,
};

/// How much of a value a cell shows.
const VALUE_CHARS_MAX: usize = 120;

pub(super) fn table() -> String {
    let titles = Endpoint::ALL.map(Endpoint::title);
    let head: Vec<&str> = ["field"].into_iter().chain(titles).collect();
    let rows = rows().into_iter().map(|(name, base, change)| {
        let cells = Endpoint::ALL.map(|endpoint| cell(endpoint, base, &change));
        [code(name)].into_iter().chain(cells).collect()
    });
    markdown(&head, rows)
}

/// The field as the contract names it, the request without it, and what sets it.
type Row = (&'static str, fn() -> Chat, Box<dyn Fn(&mut Chat, Endpoint)>);

fn cell(endpoint: Endpoint, base: fn() -> Chat, change: &dyn Fn(&mut Chat, Endpoint)) -> String {
    let said = endpoint.models().map(|model| {
        let mut chat = base();
        chat.openai_api = endpoint.api();
        let before = body(endpoint, model, &chat).expect("the request without the field");
        change(&mut chat, endpoint);
        match body(endpoint, model, &chat) {
            Err(_) => "—".to_owned(),
            Ok(after) => {
                let mut found = Vec::new();
                differences(&before, &after, "", &mut found);
                if found.is_empty() { "left out".to_owned() } else { found.join("<br>") }
            }
        }
    });
    let [older, newer] = &said;
    if older == newer {
        return older.clone();
    }
    let models = endpoint.models();
    format!("{}: {older}<br>{}: {newer}", models[0], models[1])
}

fn body(endpoint: Endpoint, model: &str, chat: &Chat) -> Result<Value, String> {
    let outbound = provider::outbound(endpoint.provider(), model, chat).map_err(|refused| refused.field)?;
    Ok(serde_json::from_slice(&outbound.body).expect("a body is JSON"))
}

/// What `after` has otherwise than `before`, as code: path and value.
fn differences(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(old), Value::Object(new))
            if path.is_empty() || new.iter().any(|(k, v)| old.get(k) == Some(v)) =>
        {
            for (name, value) in new {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                differences(old.get(name).unwrap_or(&Value::Null), value, &path, found);
            }
            let gone = old.keys().filter(|name| !new.contains_key(*name));
            found.extend(gone.map(|name| format!("without {}", code(&format!("{path}.{name}")))));
        }
        (Value::Array(old), Value::Array(new)) if !old.is_empty() => {
            let same = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
            for (at, value) in new[..new.len() - same].iter().enumerate() {
                let before = old[..old.len() - same].get(at);
                differences(before.unwrap_or(&Value::Null), value, &format!("{path}[]"), found);
            }
        }
        (_, value) => {
            let text = value.to_string();
            let short: String = text.chars().take(VALUE_CHARS_MAX).collect();
            let dots = if short.len() < text.len() { "…" } else { "" };
            found.push(code(&format!("{path}: {short}{dots}")));
        }
    }
}

fn user(parts: impl IntoIterator<Item = UserPart>) -> Message {
    Message::User(parts.into_iter().map(Part::from).collect())
}

fn text(text: &str) -> UserPart {
    UserPart::Text(text.to_owned())
}

/// A question in two parts, the second to be replaced.
fn question() -> Chat {
    Chat { messages: vec![user([text("Hi"), text("x")])], ..Chat::default() }
}

/// A conversation whose answer is to be replaced.
fn answered() -> Chat {
    let said = AssistantPart::Text { text: "x".to_owned(), signature: String::new() };
    Chat {
        messages: vec![user([text("Hi")]), Message::Assistant(vec![said.into()]), user([text("Go on")])],
        ..Chat::default()
    }
}

fn function() -> Function {
    Function {
        name: "f".to_owned(),
        description: String::new(),
        parameters: r#"{"type":"object"}"#.to_owned(),
        strict: None,
    }
}

fn with_tool() -> Chat {
    Chat { tools: vec![Tool::Function(function()).into()], ..question() }
}

fn call(signature: &str) -> AssistantPart {
    AssistantPart::ToolCall(ToolCall {
        id: "c1".to_owned(),
        name: "f".to_owned(),
        arguments: r#"{"a":1}"#.to_owned(),
        signature: signature.to_owned(),
    })
}

/// A conversation with a call and its result.
fn called() -> Chat {
    let result =
        ToolResult { call_id: "c1".to_owned(), name: "f".to_owned(), content: vec![text("x").into()], is_error: false };
    let messages =
        vec![user([text("Hi")]), Message::Assistant(vec![call("").into()]), Message::Tool(vec![result.into()])];
    Chat { messages, ..with_tool() }
}

fn image(source: FileSource, detail: &str) -> UserPart {
    UserPart::Image(Image { source, media_type: "image/png".to_owned(), detail: detail.to_owned() })
}

fn document(source: FileSource, media_type: &str) -> Document {
    let (title, context) = (String::new(), String::new());
    Document { source, media_type: media_type.to_owned(), title, context, citations: false }
}

fn pdf() -> Document {
    document(data(), "application/pdf")
}

fn data() -> FileSource {
    FileSource::Data("abc".into())
}

fn url(endpoint: Endpoint) -> FileSource {
    let url = match endpoint {
        Endpoint::Gemini => "https://generativelanguage.googleapis.com/v1beta/files/a",
        Endpoint::Messages | Endpoint::ChatCompletions | Endpoint::Responses => "https://example.com/a",
    };
    FileSource::Url(url.to_owned())
}

fn file_id() -> FileSource {
    FileSource::FileId("file-1".to_owned())
}

fn says(chat: &mut Chat, part: UserPart) {
    chat.messages[0] = user([text("Hi"), part]);
}

fn answers(chat: &mut Chat, part: AssistantPart) {
    chat.messages[1] = Message::Assistant(vec![part.into()]);
}

fn returns(chat: &mut Chat, part: UserPart) {
    if let Message::Tool(results) = &mut chat.messages[2] {
        results[0].content.content = vec![part.into()];
    }
}

fn own(endpoint: Endpoint, json: &str) -> ProviderPart {
    ProviderPart { provider: endpoint.provider(), json: json.to_owned() }
}

/// What the provider's own parts look like.
fn own_json(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Messages => r#"{"type":"server_tool_use","id":"s1","name":"web_search","input":{}}"#,
        Endpoint::ChatCompletions => r#"{"type":"own"}"#,
        Endpoint::Responses => r#"{"type":"web_search_call","id":"s1","status":"completed"}"#,
        Endpoint::Gemini => r#"{"executableCode":{"language":"PYTHON","code":"1"}}"#,
    }
}

fn own_tool(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Messages => r#"{"type":"web_search_20250305","name":"web_search"}"#,
        Endpoint::ChatCompletions => r#"{"type":"custom","custom":{"name":"c"}}"#,
        Endpoint::Responses => r#"{"type":"web_search"}"#,
        Endpoint::Gemini => r#"{"googleSearch":{}}"#,
    }
}

fn schema() -> Schema {
    let schema = r#"{"type":"object"}"#.to_owned();
    Schema { json: schema, name: String::new(), description: String::new(), strict: None }
}

fn thinks(amount: Option<Amount>, summary: Option<Summary>) -> impl Fn(&mut Chat) {
    move |chat| chat.thinking = Some(Thinking { amount, summary })
}

fn reasoning(endpoint: Endpoint) -> Reasoning {
    Reasoning {
        provider: Some(endpoint.provider()),
        text: "why".to_owned(),
        signature: "sig".to_owned(),
        ..Reasoning::default()
    }
}

/// Makes a row of what sets a field whatever the endpoint.
fn row(name: &'static str, base: fn() -> Chat, change: impl Fn(&mut Chat) + 'static) -> Row {
    (name, base, Box::new(move |chat, _| change(chat)))
}

fn rows() -> Vec<Row> {
    [conversation(), turns(), tools(), sampling(), form()].into_iter().flatten().collect()
}

fn conversation() -> Vec<Row> {
    vec![
        row("system", question, |chat| "Be brief.".clone_into(&mut chat.system)),
        row("…text", question, |chat| says(chat, text("y"))),
        row("…image.data", question, |chat| says(chat, image(data(), ""))),
        ("…image.url", question, Box::new(|chat, endpoint| says(chat, image(url(endpoint), "")))),
        row("…image.file_id", question, |chat| says(chat, image(file_id(), ""))),
        row("…image.detail", question, |chat| says(chat, image(data(), "low"))),
        row("…document.data, PDF", question, |chat| says(chat, UserPart::Document(pdf()))),
        row("…document.data, text", question, |chat| says(chat, UserPart::Document(document(data(), "text/plain")))),
        (
            "…document.url",
            question,
            Box::new(|chat, endpoint| says(chat, UserPart::Document(document(url(endpoint), "application/pdf")))),
        ),
        row("…document.file_id", question, |chat| says(chat, UserPart::Document(document(file_id(), "")))),
        row("…document.title", question, |chat| {
            says(chat, UserPart::Document(Document { title: "A".to_owned(), ..pdf() }));
        }),
        row("…document.context", question, |chat| {
            says(chat, UserPart::Document(Document { context: "C".to_owned(), ..pdf() }));
        }),
        row("…document.citations", question, |chat| {
            says(chat, UserPart::Document(Document { citations: true, ..pdf() }));
        }),
        row("…audio", question, |chat| {
            says(chat, UserPart::Audio(Audio { data: "abc".into(), media_type: "audio/wav".to_owned() }));
        }),
        (
            "…provider, of a user",
            question,
            Box::new(|chat, endpoint| says(chat, UserPart::Provider(own(endpoint, own_json(endpoint))))),
        ),
    ]
}

fn turns() -> Vec<Row> {
    vec![
        row("…text.signature", answered, |chat| {
            answers(chat, AssistantPart::Text { text: "x".to_owned(), signature: "sig".to_owned() });
        }),
        (
            "…reasoning",
            answered,
            Box::new(|chat, endpoint| answers(chat, AssistantPart::Reasoning(reasoning(endpoint)))),
        ),
        (
            "…reasoning.redacted_data",
            answered,
            Box::new(|chat, endpoint| {
                let data = Reasoning {
                    text: String::new(),
                    signature: String::new(),
                    redacted_data: "data".to_owned(),
                    ..reasoning(endpoint)
                };
                answers(chat, AssistantPart::Reasoning(data));
            }),
        ),
        (
            "…reasoning of another provider",
            answered,
            Box::new(|chat, endpoint| {
                let other = if endpoint == Endpoint::Gemini { Endpoint::Messages } else { Endpoint::Gemini };
                let Message::Assistant(parts) = &mut chat.messages[1] else { return };
                parts.insert(0, AssistantPart::Reasoning(reasoning(other)).into());
            }),
        ),
        row("…refusal", answered, |chat| answers(chat, AssistantPart::Refusal("No.".to_owned()))),
        row("…tool_call", answered, |chat| answers(chat, call(""))),
        row("…tool_call.signature", answered, |chat| answers(chat, call("sig"))),
        (
            "…provider, of the assistant",
            answered,
            Box::new(|chat, endpoint| answers(chat, AssistantPart::Provider(own(endpoint, own_json(endpoint))))),
        ),
        row("…tool_result, text", called, |chat| returns(chat, text("y"))),
        row("…tool_result, image", called, |chat| returns(chat, image(data(), ""))),
        row("…tool_result, document", called, |chat| returns(chat, UserPart::Document(pdf()))),
        row("…tool_result.is_error", called, |chat| {
            if let Message::Tool(results) = &mut chat.messages[2] {
                results[0].content.is_error = true;
            }
        }),
        row("…cache_control", question, |chat| {
            if let Message::User(parts) = &mut chat.messages[0] {
                parts[1].cache = Some(CacheControl::Usual);
            }
        }),
        row(
            "system_cache_control",
            || Chat { system: "Be brief.".to_owned(), ..question() },
            |chat| {
                chat.system_cache = Some(CacheControl::OneHour);
            },
        ),
        row("cache_control", question, |chat| chat.cache = Some(CacheControl::FiveMinutes)),
    ]
}

fn tools() -> Vec<Row> {
    let choose = |choice: fn() -> ToolChoice| move |chat: &mut Chat| chat.tool_choice = Some(choice());
    vec![
        row("tools, function", question, |chat| {
            chat.tools.push(Tool::Function(Function { description: "D".to_owned(), ..function() }).into());
        }),
        row("tools.strict", with_tool, |chat| {
            chat.tools[0] = Tool::Function(Function { strict: Some(true), ..function() }).into();
        }),
        (
            "tools.provider_tool",
            question,
            Box::new(|chat, endpoint| chat.tools.push(Tool::Provider(own_tool(endpoint).to_owned()).into())),
        ),
        row("tools.cache_control", with_tool, |chat| chat.tools[0].cache = Some(CacheControl::Usual)),
        row("tool_choice: AUTO", with_tool, choose(|| ToolChoice::Auto)),
        row("tool_choice: NONE", with_tool, choose(|| ToolChoice::None)),
        row("tool_choice: REQUIRED", with_tool, choose(|| ToolChoice::Required)),
        row("tool_choice: TOOL", with_tool, choose(|| ToolChoice::Tool("f".to_owned()))),
        row("parallel_tool_calls: false", with_tool, |chat| chat.parallel_tool_calls = Some(false)),
    ]
}

fn sampling() -> Vec<Row> {
    vec![
        row("max_output_tokens", question, |chat| chat.max_output_tokens = Some(500)),
        row("temperature", question, |chat| chat.temperature = Some(0.5)),
        row("top_p", question, |chat| chat.top_p = Some(0.5)),
        row("top_k", question, |chat| chat.top_k = Some(5)),
        row("stop_sequences", question, |chat| chat.stop_sequences = vec!["END".to_owned()]),
        row("seed", question, |chat| chat.seed = Some(7)),
        row("presence_penalty", question, |chat| chat.presence_penalty = Some(0.5)),
        row("frequency_penalty", question, |chat| chat.frequency_penalty = Some(0.5)),
        row("metadata[\"user_id\"]", question, |chat| {
            chat.metadata = BTreeMap::from([("user_id".to_owned(), "u".to_owned())]);
        }),
        row("metadata, others", question, |chat| chat.metadata = BTreeMap::from([("team".to_owned(), "t".to_owned())])),
    ]
}

fn form() -> Vec<Row> {
    let formatted = |format: fn() -> ResponseFormat| move |chat: &mut Chat| chat.response_format = Some(format());
    let effort = |effort| thinks(Some(Amount::Effort(effort)), None);
    vec![
        row("response_format: TEXT", question, formatted(|| ResponseFormat::Text)),
        row("response_format: JSON", question, formatted(|| ResponseFormat::Json)),
        row("response_format: JSON_SCHEMA", question, formatted(|| ResponseFormat::Schema(schema()))),
        row(
            "response_format.name",
            question,
            formatted(|| ResponseFormat::Schema(Schema { name: "n".to_owned(), ..schema() })),
        ),
        row(
            "response_format.description",
            question,
            formatted(|| ResponseFormat::Schema(Schema { description: "d".to_owned(), ..schema() })),
        ),
        row(
            "response_format.strict",
            question,
            formatted(|| ResponseFormat::Schema(Schema { strict: Some(true), ..schema() })),
        ),
        row("reasoning.effort: NONE", question, effort(Effort::None)),
        row("reasoning.effort: MINIMAL", question, effort(Effort::Minimal)),
        row("reasoning.effort: LOW", question, effort(Effort::Low)),
        row("reasoning.effort: MAX", question, effort(Effort::Max)),
        row("reasoning.budget_tokens: 2048", question, thinks(Some(Amount::Tokens(2048)), None)),
        row("reasoning.budget_tokens: -1", question, thinks(Some(Amount::AnyTokens), None)),
        row("reasoning.summary: AUTO", question, thinks(None, Some(Summary::Auto))),
        row("reasoning.summary: NONE", question, thinks(None, Some(Summary::None))),
        row("reasoning.summary: DETAILED", question, thinks(None, Some(Summary::Detailed))),
    ]
}
