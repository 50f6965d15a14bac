//! The parameters of a request.

use super::*;
use crate::message::{
    AssistantPart, CacheControl, FileSource, Function, Image, OpenAiApi, ResponseFormat, Schema, Tool, ToolCall,
    ToolChoice, ToolResult,
};

fn call(id: &str, arguments: &str) -> Part<AssistantPart> {
    AssistantPart::ToolCall(ToolCall {
        id: id.to_owned(),
        name: "tool".to_owned(),
        arguments: arguments.to_owned(),
        signature: String::new(),
    })
    .into()
}

fn result(id: &str, content: Vec<Part<UserPart>>, is_error: bool) -> Part<ToolResult> {
    ToolResult { call_id: id.to_owned(), name: "tool".to_owned(), content, is_error }.into()
}

fn tool(parameters: &str) -> Part<Tool> {
    let (name, parameters) = ("tool".to_owned(), parameters.to_owned());
    Tool::Function(Function { name, description: String::new(), parameters, strict: None }).into()
}

#[test]
fn a_plain_chat_needs_a_limit_and_a_version() {
    let chat = Chat { messages: vec![user("Hi")], ..Chat::default() };
    let outbound = Anthropic.request("claude-sonnet-4-5", &chat).unwrap();
    assert_eq!(outbound.path, "/messages");
    assert_eq!(outbound.headers["anthropic-version"], "2023-06-01");
    let expected = json!({
        "model": "claude-sonnet-4-5", "max_tokens": 64000, "stream": true,
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Hi" }] }],
    });
    assert_eq!(serde_json::from_slice::<Value>(&outbound.body).unwrap(), expected);
}

#[test]
fn every_parameter_has_its_place() {
    let chat = Chat {
        system: "Be brief.".to_owned(),
        messages: vec![user("Hi")],
        max_output_tokens: Some(7),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        stop_sequences: vec!["END".to_owned()],
        ..Chat::default()
    };
    let body = body("claude-3-haiku", &chat);
    assert_eq!(body["system"], "Be brief.");
    assert_eq!((&body["max_tokens"], &body["temperature"], &body["top_p"]), (&json!(7), &json!(0.5), &json!(0.9)));
    assert_eq!((&body["top_k"], &body["stop_sequences"]), (&json!(40), &json!(["END"])));
}

#[test]
fn turns_of_one_role_are_one_and_results_come_first() {
    let data =
        Image { source: FileSource::Data("img".into()), media_type: "image/png".to_owned(), detail: String::new() };
    let url = Image {
        source: FileSource::Url("https://a.test/b".to_owned()),
        media_type: String::new(),
        detail: String::new(),
    };
    let chat = Chat {
        messages: vec![
            user("Look"),
            Message::User(vec![UserPart::Image(data).into(), UserPart::Image(url).into()]),
            Message::Assistant(vec![
                AssistantPart::Text { text: String::new(), signature: String::new() }.into(),
                call("a", r#"{"z":1, "a":1.00}"#),
            ]),
            Message::Assistant(vec![call("b", "{}")]),
            user("By the way"),
            Message::Tool(vec![result("a", vec![text("4"), text("2")], false)]),
            Message::Tool(vec![result("b", vec![], true)]),
        ],
        ..Chat::default()
    };
    let expected = json!([
        { "role": "user", "content": [
            { "type": "text", "text": "Look" },
            { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aW1n" } },
            { "type": "image", "source": { "type": "url", "url": "https://a.test/b" } },
        ]},
        { "role": "assistant", "content": [
            { "type": "tool_use", "id": "a", "name": "tool", "input": { "z": 1, "a": 1.0 } },
            { "type": "tool_use", "id": "b", "name": "tool", "input": {} },
        ]},
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "a", "content": [
                { "type": "text", "text": "4" }, { "type": "text", "text": "2" },
            ]},
            { "type": "tool_result", "tool_use_id": "b", "is_error": true },
            { "type": "text", "text": "By the way" },
        ]},
    ]);
    assert_eq!(body("claude-3-haiku", &chat)["messages"], expected);
    let raw = Anthropic.request("claude-3-haiku", &chat).unwrap().body;
    assert!(String::from_utf8(raw.to_vec()).unwrap().contains(r#""input":{"z":1, "a":1.00}"#));
}

/// To move all texts for each result would take minutes, and a test that takes one is ended.
#[test]
fn results_among_much_text_come_first_in_no_time() {
    const ROUNDS: usize = 200_000;
    let round = |at: usize| [user("x"), Message::Tool(vec![result(&at.to_string(), vec![], false)])];
    let answers = Message::Assistant(vec![call("0", "{}")]);
    let messages = [answers].into_iter().chain((0..ROUNDS).flat_map(round)).collect();
    let chat = Chat { messages, ..Chat::default() };
    let written = Anthropic.request("claude-3-haiku", &chat).unwrap().body;
    let body: Value = serde_json::from_slice(&written).unwrap();
    let content = body["messages"][1]["content"].as_array().unwrap();
    assert_eq!(content.len(), 2 * ROUNDS);
    for (at, block) in content[..ROUNDS].iter().enumerate() {
        assert_eq!(block["tool_use_id"], at.to_string());
    }
    assert!(content[ROUNDS..].iter().all(|block| block["type"] == "text"));
}

#[test]
fn tools_and_their_choice() {
    let chat = |tool_choice, parallel_tool_calls| Chat {
        messages: vec![user("Hi")],
        tools: vec![tool(""), tool(r#"{"type":"object","required":["a"]}"#)],
        tool_choice,
        parallel_tool_calls,
        ..Chat::default()
    };
    let tools = json!([
        { "name": "tool", "input_schema": { "type": "object", "properties": {} } },
        { "name": "tool", "input_schema": { "type": "object", "required": ["a"] } },
    ]);
    assert_eq!(body("claude-3-haiku", &chat(None, None))["tools"], tools);
    for (choice, parallel, expected) in [
        (None, None, Value::Null),
        (None, Some(true), Value::Null),
        (None, Some(false), json!({ "type": "auto", "disable_parallel_tool_use": true })),
        (Some(ToolChoice::Auto), None, json!({ "type": "auto" })),
        (Some(ToolChoice::None), Some(false), json!({ "type": "none" })),
        (Some(ToolChoice::Required), Some(false), json!({ "type": "any", "disable_parallel_tool_use": true })),
        (Some(ToolChoice::Tool("tool".to_owned())), Some(true), json!({ "type": "tool", "name": "tool" })),
    ] {
        assert_eq!(body("claude-3-haiku", &chat(choice, parallel))["tool_choice"], expected);
    }
}

#[test]
fn without_a_limit_the_model_may_say_all_it_can() {
    let chat = Chat { messages: vec![user("Hi")], ..Chat::default() };
    for (model, tokens) in [
        ("claude-opus-5-5", 128_000),
        ("claude-opus-4-7", 128_000),
        ("claude-sonnet-4-6", 128_000),
        ("claude-fable-5-1", 128_000),
        ("claude-haiku-4-5-20251001", 64_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("claude-opus-4-5-20251101", 64_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-4-opus-20250514", 32_000),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-3-5-haiku-latest", 8_192),
        ("claude-3-opus-20240229", 4_096),
        ("claude-2.1", 4_096),
        ("claude-next", 4_096),
        ("claude-opus-45", 4_096),
        ("\u{e9}", 4_096),
    ] {
        assert_eq!(body(model, &chat)["max_tokens"], tokens, "{model}");
    }
}

#[test]
fn what_anthropic_does_not_have_is_refused() {
    let chat = || Chat { messages: vec![user("Hi")], ..Chat::default() };
    let old = "claude-sonnet-4-5";
    for (model, chat, field) in [
        (old, Chat { seed: Some(1), ..chat() }, "seed"),
        (old, Chat { presence_penalty: Some(0.0), ..chat() }, "presence_penalty"),
        (old, Chat { frequency_penalty: Some(0.0), ..chat() }, "frequency_penalty"),
        (old, Chat { temperature: Some(1.1), ..chat() }, "temperature"),
        (old, Chat { temperature: Some(f64::NAN), ..chat() }, "temperature"),
        (old, Chat { top_p: Some(-0.1), ..chat() }, "top_p"),
        (old, Chat { tool_choice: Some(ToolChoice::Required), ..chat() }, "tool_choice"),
        ("claude-opus-4-7", Chat { temperature: Some(1.0), ..chat() }, "temperature"),
        ("claude-opus-4-8-20260601", Chat { top_p: Some(1.0), ..chat() }, "top_p"),
        ("claude-sonnet-5", Chat { top_k: Some(1), ..chat() }, "top_k"),
        ("Claude-Opus-5-5", Chat { top_k: Some(1), ..chat() }, "top_k"),
        ("claude-fable-5-1", Chat { temperature: Some(0.0), ..chat() }, "temperature"),
        (old, Chat { tools: vec![tool("{")], ..chat() }, "tools[0].parameters"),
        (old, Chat { openai_api: Some(OpenAiApi::Responses), ..chat() }, "openai_api"),
        (old, Chat { system_cache: Some(CacheControl::Usual), ..chat() }, "system_cache_control"),
        (
            old,
            Chat { messages: vec![user("Hi"), Message::Assistant(vec![call("a", "{")])], ..chat() },
            "messages[1].parts[0].tool_call.arguments",
        ),
    ] {
        assert_eq!(refused(model, &chat), field);
    }
}

#[test]
fn what_can_be_cached_says_for_how_long() {
    let chat = Chat {
        system: "Be brief.".to_owned(),
        system_cache: Some(CacheControl::OneHour),
        cache: Some(CacheControl::Usual),
        messages: vec![user("Hi")],
        tools: vec![Part { cache: Some(CacheControl::FiveMinutes), ..tool("") }],
        ..Chat::default()
    };
    let body = body("claude-sonnet-4-6", &chat);
    assert_eq!(body["cache_control"], json!({ "type": "ephemeral" }));
    let hour = json!({ "type": "ephemeral", "ttl": "1h" });
    assert_eq!(body["system"], json!([{ "type": "text", "text": "Be brief.", "cache_control": hour }]));
    assert_eq!(body["tools"][0]["cache_control"], json!({ "type": "ephemeral", "ttl": "5m" }));
}

#[test]
fn tools_of_anthropic_go_on_as_they_are() {
    let own = r#"{"type":"web_search_20250305", "name":"web_search","max_uses":null}"#;
    let strict = |strict| {
        let (name, description) = ("f".to_owned(), "does".to_owned());
        Tool::Function(Function { name, description, parameters: String::new(), strict: Some(strict) })
    };
    let chat = |cache| Chat {
        messages: vec![user("Hi")],
        tools: vec![strict(true).into(), strict(false).into(), Part { cache, content: Tool::Provider(own.to_owned()) }],
        tool_choice: Some(ToolChoice::Auto),
        ..Chat::default()
    };
    let schema = json!({ "type": "object", "properties": {} });
    let expected = json!([
        { "name": "f", "description": "does", "input_schema": schema, "strict": true },
        { "name": "f", "description": "does", "input_schema": schema, "strict": false },
        { "type": "web_search_20250305", "name": "web_search", "max_uses": null },
    ]);
    assert_eq!(body("claude-sonnet-4-6", &chat(None))["tools"], expected);
    let raw = Anthropic.request("claude-sonnet-4-6", &chat(None)).unwrap().body;
    assert!(String::from_utf8(raw.to_vec()).unwrap().contains(own));
    assert_eq!(refused("claude-sonnet-4-6", &chat(Some(CacheControl::Usual))), "tools[2].cache_control");
}

#[test]
fn the_form_of_the_answer_is_a_schema_or_text() {
    let schema = |name: &str, description: &str, strict| {
        let (name, description) = (name.to_owned(), description.to_owned());
        ResponseFormat::Schema(Schema { json: r#"{"type": "object"}"#.to_owned(), name, description, strict })
    };
    let chat = |format| Chat { messages: vec![user("Hi")], response_format: Some(format), ..Chat::default() };
    let expected = json!({ "format": { "type": "json_schema", "schema": { "type": "object" } } });
    assert_eq!(body("claude-sonnet-4-5", &chat(schema("", "", None)))["output_config"], expected);
    assert_eq!(body("claude-sonnet-4-5", &chat(ResponseFormat::Text))["output_config"], Value::Null);
    for (format, field) in [
        (ResponseFormat::Json, "response_format.type"),
        (schema("a", "", None), "response_format.name"),
        (schema("", "b", None), "response_format.description"),
        (schema("", "", Some(true)), "response_format.strict"),
    ] {
        assert_eq!(refused("claude-sonnet-4-5", &chat(format)), field);
    }
}

#[test]
fn of_labels_there_is_only_the_user() {
    let labelled = |label: &str| Chat {
        messages: vec![user("Hi")],
        metadata: [(label.to_owned(), "u".to_owned())].into(),
        ..Chat::default()
    };
    assert_eq!(body("claude-sonnet-4-5", &labelled("user_id"))["metadata"], json!({ "user_id": "u" }));
    assert_eq!(refused("claude-sonnet-4-5", &labelled("team")), r#"metadata["team"]"#);
}
