use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    message::{
        Amount, AssistantPart, Audio, CacheControl, Chat, Document, Effort, FileSource, Function, Image, Message, Part,
        Provider, ProviderPart, Reasoning, ResponseFormat, Schema, Summary, Thinking, Tool, ToolCall, ToolChoice,
        ToolResult, UserPart,
    },
    provider::Unsupported,
};

fn text(text: &str) -> Part<UserPart> {
    UserPart::Text(text.to_owned()).into()
}

fn user(content: &str) -> Message {
    Message::User(vec![text(content)])
}

fn chat() -> Chat {
    Chat { messages: vec![user("Hi")], ..Chat::default() }
}

fn image() -> Part<UserPart> {
    UserPart::Image(Image {
        source: FileSource::Data("img".into()),
        media_type: "image/png".to_owned(),
        detail: String::new(),
    })
    .into()
}

fn body(model: &str, chat: &Chat) -> Value {
    serde_json::from_slice(&super::body(model, chat).unwrap()).unwrap()
}

fn refused(model: &str, chat: &Chat) -> Unsupported {
    super::body(model, chat).unwrap_err()
}

/// What a chat with these messages sends for them.
fn sent(messages: Vec<Message>) -> Value {
    body("gpt-4o", &Chat { messages, ..Chat::default() })["messages"].clone()
}

#[test]
fn a_plain_chat_asks_for_its_usage() {
    let expected = json!({
        "model": "gpt-4o", "stream": true, "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": "Hi" }],
    });
    assert_eq!(body("gpt-4o", &chat()), expected);
}

#[test]
fn every_parameter_has_its_place() {
    let chat = Chat {
        max_output_tokens: Some(7),
        temperature: Some(2.0),
        top_p: Some(0.9),
        stop_sequences: vec!["END".to_owned()],
        seed: Some(-3),
        presence_penalty: Some(-2.0),
        frequency_penalty: Some(2.0),
        ..chat()
    };
    let body = body("gpt-4o", &chat);
    for (field, value) in [
        ("max_completion_tokens", json!(7)),
        ("max_tokens", Value::Null),
        ("temperature", json!(2.0)),
        ("top_p", json!(0.9)),
        ("stop", json!(["END"])),
        ("seed", json!(-3)),
        ("presence_penalty", json!(-2.0)),
        ("frequency_penalty", json!(2.0)),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
}

#[test]
fn reasoning_models_are_instructed_by_the_developer() {
    let chat = Chat { system: "Be brief.".to_owned(), ..chat() };
    for (model, role) in [
        ("gpt-4o", "system"),
        ("gpt-4.1-mini", "system"),
        ("gpt-3.5-turbo", "system"),
        ("gpt-35-turbo", "system"),
        ("gpt-5-chat-latest", "system"),
        ("gpt-audio-mini", "system"),
        ("ft:gpt-4o:acme", "system"),
        ("o-series", "system"),
        ("o3", "developer"),
        ("o4-mini-2025-04-16", "developer"),
        ("gpt-5", "developer"),
        ("GPT-5.1-codex", "developer"),
        ("gpt-6-sol", "developer"),
        ("gpt-10", "developer"),
        ("ft:o4-mini-2025-04-16:acme", "developer"),
    ] {
        let first = json!({ "role": role, "content": "Be brief." });
        assert_eq!(body(model, &chat)["messages"][0], first, "{model}");
    }
}

#[test]
fn each_result_is_a_message_of_its_own() {
    let call = |id: &str| {
        let arguments = r#"{"z": 1}"#.to_owned();
        AssistantPart::ToolCall(ToolCall {
            id: id.to_owned(),
            name: "tool".to_owned(),
            arguments,
            signature: String::new(),
        })
        .into()
    };
    let result = |id: &str, content, is_error| {
        ToolResult { call_id: id.to_owned(), name: "tool".to_owned(), content, is_error }.into()
    };
    let url = Image {
        source: FileSource::Url("https://a.test/b".to_owned()),
        media_type: String::new(),
        detail: String::new(),
    };
    let chat = Chat {
        messages: vec![
            Message::User(vec![text("Look"), image(), UserPart::Image(url).into()]),
            Message::Assistant(vec![
                AssistantPart::Text { text: "Sure".to_owned(), signature: String::new() }.into(),
                call("a"),
                call("b"),
            ]),
            Message::Tool(vec![result("a", vec![text("4"), text("2")], false), result("b", vec![], true)]),
            Message::Assistant(vec![call("c")]),
        ],
        ..Chat::default()
    };
    let calls =
        |id: &str| json!({ "id": id, "type": "function", "function": { "name": "tool", "arguments": "{\"z\": 1}" } });
    let expected = json!([
        { "role": "user", "content": [
            { "type": "text", "text": "Look" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,aW1n" } },
            { "type": "image_url", "image_url": { "url": "https://a.test/b" } },
        ]},
        { "role": "assistant", "content": "Sure", "tool_calls": [calls("a"), calls("b")] },
        { "role": "tool", "tool_call_id": "a", "content": [
            { "type": "text", "text": "4" }, { "type": "text", "text": "2" },
        ]},
        { "role": "tool", "tool_call_id": "b", "content": "" },
        { "role": "assistant", "tool_calls": [calls("c")] },
    ]);
    assert_eq!(body("gpt-4o", &chat)["messages"], expected);
}

#[test]
fn tools_and_their_choice() {
    let tool = |parameters: &str| {
        Part::from(Tool::Function(Function {
            name: "tool".to_owned(),
            description: "Does it.".to_owned(),
            parameters: parameters.to_owned(),
            strict: None,
        }))
    };
    let with_tools = |tool_choice| Chat {
        tools: vec![tool(""), tool(r#"{"type":"object"}"#)],
        tool_choice,
        parallel_tool_calls: Some(false),
        ..chat()
    };
    let tools = json!([
        { "type": "function", "function": { "name": "tool", "description": "Does it." } },
        { "type": "function", "function": {
            "name": "tool", "description": "Does it.", "parameters": { "type": "object" },
        }},
    ]);
    let named = json!({ "type": "function", "function": { "name": "tool" } });
    for (choice, expected) in [
        (None, Value::Null),
        (Some(ToolChoice::Auto), json!("auto")),
        (Some(ToolChoice::None), json!("none")),
        (Some(ToolChoice::Required), json!("required")),
        (Some(ToolChoice::Tool("tool".to_owned())), named),
    ] {
        let body = body("gpt-4o", &with_tools(choice));
        assert_eq!((&body["tools"], &body["tool_choice"]), (&tools, &expected));
        assert_eq!(body["parallel_tool_calls"], false);
    }
    let without =
        body("gpt-4o", &Chat { tool_choice: Some(ToolChoice::Auto), parallel_tool_calls: Some(true), ..chat() });
    assert_eq!((&without["tool_choice"], &without["parallel_tool_calls"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_tool_may_be_strict_or_the_providers_own() {
    let strict = Function {
        name: "t".to_owned(),
        description: String::new(),
        parameters: r#"{"z":1.0}"#.to_owned(),
        strict: Some(true),
    };
    let own = r#"{"type":"custom","custom":{"name":"c"}}"#.to_owned();
    let chat = Chat { tools: vec![Tool::Function(strict).into(), Tool::Provider(own).into()], ..chat() };
    let expected = json!([
        { "type": "function", "function": { "name": "t", "parameters": { "z": 1.0 }, "strict": true } },
        { "type": "custom", "custom": { "name": "c" } },
    ]);
    assert_eq!(body("gpt-4o", &chat)["tools"], expected);
}

fn answer(form: ResponseFormat) -> Value {
    body("gpt-4o", &Chat { response_format: Some(form), ..chat() })["response_format"].clone()
}

#[test]
fn the_answer_has_a_form() {
    let schema = |name: &str, description: &str, strict| {
        let schema = r#"{"type":"object"}"#.to_owned();
        ResponseFormat::Schema(Schema { schema, name: name.to_owned(), description: description.to_owned(), strict })
    };
    for (form, expected) in [
        (ResponseFormat::Text, Value::Null),
        (ResponseFormat::Json, json!({ "type": "json_object" })),
        (
            schema("", "", None),
            json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": { "type": "object" } } }),
        ),
        (
            schema("n", "d", Some(false)),
            json!({ "type": "json_schema", "json_schema": {
                "name": "n", "description": "d", "schema": { "type": "object" }, "strict": false,
            }}),
        ),
    ] {
        assert_eq!(answer(form), expected);
    }
}

#[test]
fn labels_are_of_a_completion_that_is_kept() {
    let chat = Chat { metadata: [("k".to_owned(), "v".to_owned())].into(), ..chat() };
    let body = body("gpt-4o", &chat);
    assert_eq!((&body["metadata"], &body["store"]), (&json!({ "k": "v" }), &json!(true)));
}

fn thinking(amount: Option<Amount>, summary: Option<Summary>) -> Chat {
    Chat { thinking: Some(Thinking { amount, summary }), ..chat() }
}

fn effort(effort: Effort) -> Chat {
    thinking(Some(Amount::Effort(effort)), None)
}

#[test]
fn effort_is_said_in_the_callers_word() {
    for (word, sent) in [(Effort::None, "none"), (Effort::Minimal, "minimal"), (Effort::Xhigh, "xhigh")] {
        assert_eq!(body("gpt-5.1", &effort(word))["reasoning_effort"], sent);
    }
    let hidden = thinking(None, Some(Summary::None));
    assert_eq!(body("gpt-4o", &hidden), body("gpt-4o", &chat()));
}

#[test]
fn a_model_that_does_not_think_can_be_sampled() {
    let sampled = |chat: Chat| Chat {
        temperature: Some(1.0),
        top_p: Some(1.0),
        presence_penalty: Some(0.0),
        frequency_penalty: Some(0.0),
        stop_sequences: vec!["END".to_owned()],
        ..chat
    };
    for model in ["gpt-5.1", "gpt-5.2-2025-12-11", "gpt-6-sol", "ft:gpt-5.4-mini:acme", "gpt-10"] {
        assert_eq!(body(model, &sampled(effort(Effort::None)))["top_p"], 1.0, "{model}");
        assert_eq!(refused(model, &sampled(effort(Effort::Low))).field, "temperature");
        assert_eq!(refused(model, &sampled(chat())).field, "temperature");
    }
    for model in ["gpt-5", "gpt-5-mini", "gpt-5.0", "o3"] {
        assert_eq!(refused(model, &sampled(effort(Effort::None))).field, "temperature", "{model}");
    }
    let stopped = Chat { stop_sequences: vec!["END".to_owned()], ..chat() };
    for model in ["o1", "o1-2024-12-17", "o3-mini", "gpt-5-chat-latest"] {
        assert_eq!(body(model, &stopped)["stop"], json!(["END"]), "{model}");
    }
}

fn file(source: FileSource, media_type: &str, title: &str) -> Document {
    let (media_type, title) = (media_type.to_owned(), title.to_owned());
    Document { source, media_type, title, context: String::new(), citations: false }
}

fn audio(media_type: &str) -> Part<UserPart> {
    UserPart::Audio(Audio { data: Bytes::from_static(b"abc"), media_type: media_type.to_owned() }).into()
}

fn own(provider: Provider, json: &str) -> ProviderPart {
    ProviderPart { provider, json: json.to_owned() }
}

#[test]
fn a_user_may_send_files_of_all_kinds() {
    let pdf = || FileSource::Data(Bytes::from_static(b"abc"));
    let url = FileSource::Url("https://a.test/b".to_owned());
    let image = Image { source: url, media_type: String::new(), detail: "low".to_owned() };
    let sound = |format: &str| json!({ "type": "input_audio", "input_audio": { "data": "YWJj", "format": format } });
    let data = "data:application/pdf;base64,YWJj";
    for (part, expected) in [
        (
            UserPart::Image(image).into(),
            json!({ "type": "image_url", "image_url": { "url": "https://a.test/b", "detail": "low" } }),
        ),
        (
            UserPart::Document(file(pdf(), "application/pdf", "")).into(),
            json!({ "type": "file", "file": { "filename": "document.pdf", "file_data": data } }),
        ),
        (
            UserPart::Document(file(pdf(), "application/pdf", "a.pdf")).into(),
            json!({ "type": "file", "file": { "filename": "a.pdf", "file_data": data } }),
        ),
        (
            UserPart::Document(file(FileSource::FileId("file-1".to_owned()), "", "")).into(),
            json!({ "type": "file", "file": { "file_id": "file-1" } }),
        ),
        (audio("audio/wav"), sound("wav")),
        (audio("audio/x-wav"), sound("wav")),
        (audio("audio/mpeg"), sound("mp3")),
        (audio("audio/mp3"), sound("mp3")),
        (
            UserPart::Provider(own(Provider::OpenAi, r#"{"type":"new","big":12345678901234567890}"#)).into(),
            json!({ "type": "new", "big": 12345678901234567890_u64 }),
        ),
    ] {
        assert_eq!(sent(vec![Message::User(vec![part])])[0]["content"], json!([expected]));
    }
}

fn said(text: &str) -> Part<AssistantPart> {
    AssistantPart::Text { text: text.to_owned(), signature: String::new() }.into()
}

fn refusal(words: &str) -> Part<AssistantPart> {
    AssistantPart::Refusal(words.to_owned()).into()
}

fn called() -> Part<AssistantPart> {
    let (id, name, arguments) = ("a".to_owned(), "t".to_owned(), "{}".to_owned());
    AssistantPart::ToolCall(ToolCall { id, name, arguments, signature: "s".to_owned() }).into()
}

fn thought(provider: Option<Provider>, signature: &str) -> Part<AssistantPart> {
    let reasoning =
        Reasoning { provider, text: "hm".to_owned(), signature: signature.to_owned(), ..Reasoning::default() };
    AssistantPart::Reasoning(reasoning).into()
}

#[test]
fn an_answer_is_sent_back() {
    let call = json!({ "id": "a", "type": "function", "function": { "name": "t", "arguments": "{}" } });
    let texts = json!([{ "type": "text", "text": "A" }, { "type": "text", "text": "B" }]);
    for (parts, expected) in [
        (vec![said("A"), said(""), said("B")], json!({ "role": "assistant", "content": texts })),
        (vec![refusal("No"), refusal(", no.")], json!({ "role": "assistant", "content": null, "refusal": "No, no." })),
        (vec![said("A"), refusal("No")], json!({ "role": "assistant", "content": "A", "refusal": "No" })),
        (
            vec![thought(None, ""), called(), refusal("No")],
            json!({ "role": "assistant", "refusal": "No", "tool_calls": [call] }),
        ),
        (vec![thought(Some(Provider::Anthropic), "s"), said("A")], json!({ "role": "assistant", "content": "A" })),
        (vec![thought(Some(Provider::OpenAi), "")], json!({ "role": "assistant", "content": "" })),
    ] {
        assert_eq!(sent(vec![Message::Assistant(parts)]), json!([expected]));
    }
}

#[test]
fn what_openai_does_not_have_is_refused() {
    let result = ToolResult {
        call_id: "a".to_owned(),
        name: "tool".to_owned(),
        content: vec![text("see"), image()],
        is_error: false,
    };
    for (model, chat, field) in [
        ("gpt-4o", Chat { top_k: Some(1), ..chat() }, "top_k"),
        ("gpt-4o", Chat { temperature: Some(2.1), ..chat() }, "temperature"),
        ("gpt-4o", Chat { top_p: Some(1.1), ..chat() }, "top_p"),
        ("gpt-4o", Chat { presence_penalty: Some(-2.1), ..chat() }, "presence_penalty"),
        ("gpt-4o", Chat { frequency_penalty: Some(f64::INFINITY), ..chat() }, "frequency_penalty"),
        ("gpt-4o", Chat { stop_sequences: vec!["x".to_owned(); 5], ..chat() }, "stop_sequences"),
        ("gpt-4o", Chat { tool_choice: Some(ToolChoice::Tool("t".to_owned())), ..chat() }, "tool_choice"),
        ("gpt-5", Chat { temperature: Some(1.0), ..chat() }, "temperature"),
        ("o3", Chat { top_p: Some(1.0), ..chat() }, "top_p"),
        ("o4-mini", Chat { presence_penalty: Some(0.0), ..chat() }, "presence_penalty"),
        ("gpt-6-sol", Chat { frequency_penalty: Some(0.0), ..chat() }, "frequency_penalty"),
        ("gpt-4o-search-preview-2025-03-11", Chat { temperature: Some(1.0), ..chat() }, "temperature"),
        ("o1-mini-2024-09-12", Chat { system: "x".to_owned(), ..chat() }, "system"),
        ("gpt-5", Chat { stop_sequences: vec!["x".to_owned()], ..chat() }, "stop_sequences"),
        ("o4-mini", Chat { stop_sequences: vec!["x".to_owned()], ..chat() }, "stop_sequences"),
        ("o1-mini", Chat { stop_sequences: vec!["x".to_owned()], ..chat() }, "stop_sequences"),
        ("gpt-4o", effort(Effort::Low), "reasoning.effort"),
        ("gpt-5-chat-latest", effort(Effort::None), "reasoning.effort"),
        ("gpt-5", thinking(Some(Amount::Tokens(1024)), None), "reasoning.budget_tokens"),
        ("gpt-4o", thinking(Some(Amount::AnyTokens), None), "reasoning.budget_tokens"),
        ("gpt-5", thinking(None, Some(Summary::Auto)), "reasoning.summary"),
        ("gpt-5", thinking(None, Some(Summary::Concise)), "reasoning.summary"),
        ("gpt-5", thinking(None, Some(Summary::Detailed)), "reasoning.summary"),
        ("gpt-4o", Chat { cache: Some(CacheControl::Usual), ..chat() }, "cache_control"),
        ("gpt-4o", Chat { system_cache: Some(CacheControl::OneHour), ..chat() }, "system_cache_control"),
        (
            "gpt-4o",
            Chat { messages: vec![user("Hi"), Message::Tool(vec![result.into()])], ..chat() },
            "messages[1].parts[0].tool_result.content[1].image",
        ),
    ] {
        let refused = refused(model, &chat);
        assert_eq!(refused.field, field, "{model}: {}", refused.problem);
    }
}

#[test]
fn a_part_that_has_no_place_is_refused() {
    let pdf = || FileSource::Data(Bytes::from_static(b"abc"));
    let id = || FileSource::FileId("file-1".to_owned());
    let image = Image { source: id(), media_type: String::new(), detail: String::new() };
    let cited = Document { citations: true, ..file(pdf(), "application/pdf", "") };
    let explained = Document { context: "c".to_owned(), ..file(pdf(), "application/pdf", "") };
    let cached = Part { content: UserPart::Text("Hi".to_owned()), cache: Some(CacheControl::FiveMinutes) };
    let url = FileSource::Url("https://a.test/b".to_owned());
    for (part, field) in [
        (UserPart::Image(image).into(), "image.file_id"),
        (UserPart::Document(file(url, "", "")).into(), "document.url"),
        (UserPart::Document(file(pdf(), "text/plain", "")).into(), "document.media_type"),
        (UserPart::Document(file(id(), "", "a.pdf")).into(), "document.title"),
        (UserPart::Document(cited).into(), "document.citations"),
        (UserPart::Document(explained).into(), "document.context"),
        (audio("audio/ogg"), "audio.media_type"),
        (UserPart::Provider(own(Provider::Gemini, "{}")).into(), "provider"),
        (cached, "cache_control"),
    ] {
        let chat = Chat { messages: vec![user("Hi"), Message::User(vec![text("See"), part])], ..Chat::default() };
        assert_eq!(refused("gpt-4o", &chat).field, format!("messages[1].parts[1].{field}"));
    }
    let named = Reasoning { id: "rs_1".to_owned(), ..Reasoning::default() };
    let hidden = Reasoning { redacted_data: "x".to_owned(), ..Reasoning::default() };
    for (part, field) in [
        (thought(Some(Provider::OpenAi), "s"), "reasoning"),
        (thought(None, "s"), "reasoning"),
        (AssistantPart::Reasoning(named).into(), "reasoning"),
        (AssistantPart::Reasoning(hidden).into(), "reasoning"),
        (AssistantPart::Provider(own(Provider::OpenAi, "{}")).into(), "provider"),
        (AssistantPart::Provider(own(Provider::Anthropic, "{}")).into(), "provider"),
    ] {
        let chat = Chat { messages: vec![user("Hi"), Message::Assistant(vec![said("A"), part])], ..Chat::default() };
        assert_eq!(refused("gpt-5", &chat).field, format!("messages[1].parts[1].{field}"));
    }
}

#[test]
fn a_result_is_text() {
    let result = |part| {
        let content = vec![text("see"), part];
        ToolResult { call_id: "a".to_owned(), name: "t".to_owned(), content, is_error: true }
    };
    let own_text = own(Provider::OpenAi, r#"{"type":"text","text":"x"}"#);
    let turns = vec![Message::Tool(vec![result(UserPart::Provider(own_text).into()).into()])];
    assert_eq!(sent(turns)[0]["content"][1], json!({ "type": "text", "text": "x" }));
    let pdf = file(FileSource::Data(Bytes::from_static(b"abc")), "application/pdf", "");
    for (part, field) in [
        (image(), "image"),
        (UserPart::Document(pdf).into(), "document"),
        (audio("audio/wav"), "audio"),
        (UserPart::Provider(own(Provider::Anthropic, "{}")).into(), "provider"),
    ] {
        let chat = Chat { messages: vec![Message::Tool(vec![result(part).into()])], ..Chat::default() };
        let path = format!("messages[0].parts[0].tool_result.content[1].{field}");
        assert_eq!(refused("gpt-4o", &chat).field, path);
    }
}
