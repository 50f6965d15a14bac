use serde_json::{Value, json};

use crate::{
    message::{
        Amount, AssistantPart, Audio, CacheControl, Chat, Document, Effort, FileSource, Function, Image, Message,
        OpenAiApi, Part, Provider, ProviderPart, Reasoning, ResponseFormat, Schema, Summary, Thinking, Tool, ToolCall,
        ToolChoice, ToolResult, UserPart,
    },
    provider::{Provider as _, openai::OpenAi, outbound},
};

/// A chat that asks for this API.
fn chat(messages: Vec<Message>) -> Chat {
    Chat { messages, openai_api: Some(OpenAiApi::Responses), ..Chat::default() }
}

fn hi() -> Chat {
    chat(vec![user(vec![text("Hi")])])
}

/// A chat that leaves the API open.
fn plain() -> Chat {
    Chat { openai_api: None, ..hi() }
}

fn text(text: &str) -> UserPart {
    UserPart::Text(text.to_owned())
}

fn said(text: &str) -> AssistantPart {
    AssistantPart::Text { text: text.to_owned(), signature: String::new() }
}

fn user(parts: Vec<UserPart>) -> Message {
    Message::User(parts.into_iter().map(Part::from).collect())
}

fn assistant(parts: Vec<AssistantPart>) -> Message {
    Message::Assistant(parts.into_iter().map(Part::from).collect())
}

fn results(content: Vec<UserPart>) -> Message {
    let content = content.into_iter().map(Part::from).collect();
    Message::Tool(vec![
        ToolResult { call_id: "c1".to_owned(), name: "tool".to_owned(), content, is_error: true }.into(),
    ])
}

fn image(source: FileSource, detail: &str) -> UserPart {
    UserPart::Image(Image { source, media_type: "image/png".to_owned(), detail: detail.to_owned() })
}

fn document(source: FileSource, title: &str) -> Document {
    let (media_type, title) = ("application/pdf".to_owned(), title.to_owned());
    Document { source, media_type, title, context: String::new(), citations: false }
}

fn data() -> FileSource {
    FileSource::Data("img".into())
}

fn url() -> FileSource {
    FileSource::Url("https://a.test/b".to_owned())
}

fn file_id() -> FileSource {
    FileSource::FileId("file-1".to_owned())
}

fn own(json: &str) -> ProviderPart {
    ProviderPart { provider: Provider::OpenAi, json: json.to_owned() }
}

fn thought() -> Reasoning {
    Reasoning { text: "Hm".to_owned(), signature: "enc".to_owned(), id: "rs1".to_owned(), ..Reasoning::default() }
}

fn thinking(effort: Option<Effort>, summary: Option<Summary>) -> Thinking {
    Thinking { amount: effort.map(Amount::Effort), summary }
}

fn function(parameters: &str, strict: Option<bool>) -> Part<Tool> {
    let (name, description, parameters) = ("tool".to_owned(), "Does it.".to_owned(), parameters.to_owned());
    Tool::Function(Function { name, description, parameters, strict }).into()
}

fn body(model: &str, chat: &Chat) -> Value {
    let outbound = outbound(Provider::OpenAi, model, chat).unwrap();
    assert_eq!((outbound.path.as_str(), outbound.headers.len()), ("/responses", 0));
    serde_json::from_slice(&outbound.body).unwrap()
}

fn refused(model: &str, chat: &Chat) -> String {
    outbound(Provider::OpenAi, model, chat).map(|_| ()).unwrap_err().field
}

#[test]
fn a_plain_chat_is_not_stored() {
    let expected = json!({
        "model": "gpt-4o", "stream": true, "store": false, "input": [{ "role": "user", "content": "Hi" }],
    });
    assert_eq!(body("gpt-4o", &hi()), expected);
}

#[test]
fn reasoning_models_give_their_thoughts_encrypted() {
    for (model, encrypted) in [
        ("gpt-4o", false),
        ("gpt-5-chat-latest", false),
        ("gpt-5", true),
        ("o3-mini", true),
        ("codex-mini-latest", true),
        ("computer-use-preview", true),
        ("ft:o4-mini-2025-04-16:acme", true),
    ] {
        let expected = if encrypted { json!(["reasoning.encrypted_content"]) } else { Value::Null };
        assert_eq!(body(model, &hi())["include"], expected, "{model}");
    }
    for (model, thinking, encrypted) in [
        ("gpt-4o", thinking(Some(Effort::None), Some(Summary::None)), false),
        ("openai/gpt-oss-120b", thinking(None, None), false),
        ("openai/gpt-oss-120b", thinking(Some(Effort::None), None), false),
        ("openai/gpt-oss-120b", thinking(Some(Effort::Low), None), true),
        ("daybreak-blue", thinking(None, Some(Summary::Auto)), true),
    ] {
        let body = body(model, &Chat { thinking: Some(thinking), ..hi() });
        assert_eq!(body["include"].is_array(), encrypted, "{model} {thinking:?}");
        assert_eq!(body["reasoning"].is_null(), model == "gpt-4o" || thinking == Thinking::default(), "{model}");
    }
}

#[test]
fn every_parameter_has_its_place() {
    let chat = Chat {
        system: "Be brief.".to_owned(),
        max_output_tokens: Some(16),
        temperature: Some(2.0),
        top_p: Some(0.9),
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        ..hi()
    };
    let body = body("gpt-4o", &chat);
    for (field, value) in [
        ("instructions", json!("Be brief.")),
        ("max_output_tokens", json!(16)),
        ("temperature", json!(2.0)),
        ("top_p", json!(0.9)),
        ("metadata", json!({ "k": "v" })),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
}

#[test]
fn thinking_is_asked_for_in_words() {
    for (thinking, expected) in [
        (thinking(None, None), Value::Null),
        (thinking(None, Some(Summary::None)), Value::Null),
        (thinking(Some(Effort::None), Some(Summary::None)), json!({ "effort": "none" })),
        (thinking(Some(Effort::Xhigh), Some(Summary::Auto)), json!({ "effort": "xhigh", "summary": "auto" })),
        (thinking(None, Some(Summary::Concise)), json!({ "summary": "concise" })),
        (thinking(Some(Effort::Low), Some(Summary::Detailed)), json!({ "effort": "low", "summary": "detailed" })),
    ] {
        assert_eq!(body("gpt-5", &Chat { thinking: Some(thinking), ..hi() })["reasoning"], expected);
    }
    for effort in [Some(thinking(Some(Effort::None), None)), None] {
        let sampled = Chat { thinking: effort, temperature: Some(0.3), ..hi() };
        assert_eq!(body("gpt-5.2", &sampled)["temperature"], 0.3);
    }
    assert_eq!(body("gpt-5", &Chat { temperature: Some(1.0), ..hi() })["temperature"], 1.0);
}

#[test]
fn the_form_of_the_answer() {
    let schema = |name: &str, description: &str, strict| {
        let (name, description) = (name.to_owned(), description.to_owned());
        ResponseFormat::Schema(Schema { json: r#"{"b":1.0,"a":2}"#.to_owned(), name, description, strict })
    };
    for (format, expected) in [
        (ResponseFormat::Text, r#"{"type":"text"}"#),
        (ResponseFormat::Json, r#"{"type":"json_object"}"#),
        (schema("", "", None), r#"{"type":"json_schema","name":"answer","schema":{"b":1.0,"a":2}}"#),
        (
            schema("n", "d", Some(true)),
            r#"{"type":"json_schema","name":"n","schema":{"b":1.0,"a":2},"description":"d","strict":true}"#,
        ),
    ] {
        let outbound = OpenAi.request("gpt-4o", &Chat { response_format: Some(format), ..hi() }).unwrap();
        let sent = String::from_utf8(outbound.body.to_vec()).unwrap();
        assert!(sent.contains(&format!(r#""text":{{"format":{expected}}}"#)), "{sent}");
    }
}

#[test]
fn tools_and_their_choice() {
    let search = r#"{"type":"web_search","filters":{"x":1.0}}"#;
    let tools = vec![
        function("", None),
        function(r#"{"type":"object"}"#, Some(false)),
        Tool::Provider(search.to_owned()).into(),
    ];
    let expected = json!([
        { "type": "function", "name": "tool", "description": "Does it.", "parameters": { "type": "object", "properties": {} } },
        { "type": "function", "name": "tool", "description": "Does it.", "parameters": { "type": "object" }, "strict": false },
        { "type": "web_search", "filters": { "x": 1.0 } },
    ]);
    let mut chat = Chat { tools, parallel_tool_calls: Some(false), ..hi() };
    for (choice, sent) in [
        (None, Value::Null),
        (Some(ToolChoice::Auto), json!("auto")),
        (Some(ToolChoice::None), json!("none")),
        (Some(ToolChoice::Required), json!("required")),
        (Some(ToolChoice::Tool("tool".to_owned())), json!({ "type": "function", "name": "tool" })),
    ] {
        chat.tool_choice = choice;
        let body = body("gpt-5", &chat);
        assert_eq!(
            (&body["tools"], &body["tool_choice"], &body["parallel_tool_calls"]),
            (&expected, &sent, &json!(false))
        );
    }
    let without = Chat { tool_choice: Some(ToolChoice::Auto), parallel_tool_calls: Some(true), ..hi() };
    let body = body("gpt-5", &without);
    assert_eq!((&body["tool_choice"], &body["parallel_tool_calls"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_user_gives_parts_and_answers_to_items() {
    let approval = r#"{"type":"mcp_approval_response","approval_request_id":"a","approve":true}"#;
    let chat = chat(vec![user(vec![
        text("Look"),
        image(data(), "high"),
        image(url(), ""),
        image(file_id(), ""),
        UserPart::Provider(own(approval)),
        UserPart::Document(document(data(), "")),
        UserPart::Document(document(data(), "a.pdf")),
        UserPart::Document(document(url(), "")),
        UserPart::Document(document(file_id(), "")),
        UserPart::Provider(own(r#"{"type":"input_text","text":"x"}"#)),
    ])]);
    let expected = json!([
        { "role": "user", "content": [
            { "type": "input_text", "text": "Look" },
            { "type": "input_image", "image_url": "data:image/png;base64,aW1n", "detail": "high" },
            { "type": "input_image", "image_url": "https://a.test/b" },
            { "type": "input_image", "file_id": "file-1" },
        ]},
        { "type": "mcp_approval_response", "approval_request_id": "a", "approve": true },
        { "role": "user", "content": [
            { "type": "input_file", "file_data": "data:application/pdf;base64,aW1n", "filename": "document.pdf" },
            { "type": "input_file", "file_data": "data:application/pdf;base64,aW1n", "filename": "a.pdf" },
            { "type": "input_file", "file_url": "https://a.test/b" },
            { "type": "input_file", "file_id": "file-1" },
            { "type": "input_text", "text": "x" },
        ]},
    ]);
    assert_eq!(body("gpt-5", &chat)["input"], expected);
}

#[test]
fn the_order_of_a_turn_is_kept() {
    let call = AssistantPart::ToolCall(ToolCall {
        id: "c1".to_owned(),
        name: "tool".to_owned(),
        arguments: r#"{"z": 1}"#.to_owned(),
        signature: "gemini's".to_owned(),
    });
    let bare = Reasoning { text: String::new(), id: String::new(), provider: Some(Provider::OpenAi), ..thought() };
    let foreign = Reasoning { provider: Some(Provider::Anthropic), ..thought() };
    let hidden = Reasoning { redacted_data: "red".to_owned(), ..Reasoning::default() };
    let chat = chat(vec![
        user(vec![text("Hi")]),
        assistant(vec![
            AssistantPart::Reasoning(thought()),
            said("A"),
            said(""),
            AssistantPart::Refusal("No".to_owned()),
            AssistantPart::Reasoning(foreign),
            AssistantPart::Provider(own(r#"{"type":"web_search_call","id":"w"}"#)),
            AssistantPart::Reasoning(bare),
            call,
        ]),
        results(vec![text("42")]),
        results(vec![]),
        results(vec![text("4"), text("2")]),
        results(vec![image(url(), "")]),
        assistant(vec![AssistantPart::Reasoning(hidden), said("B")]),
    ]);
    let output = |output: Value| json!({ "type": "function_call_output", "call_id": "c1", "output": output });
    let expected = json!([
        { "role": "user", "content": "Hi" },
        { "type": "reasoning", "id": "rs1", "summary": [{ "type": "summary_text", "text": "Hm" }], "encrypted_content": "enc" },
        { "role": "assistant", "content": [
            { "type": "output_text", "text": "A" }, { "type": "refusal", "refusal": "No" },
        ]},
        { "type": "web_search_call", "id": "w" },
        { "type": "reasoning", "summary": [], "encrypted_content": "enc" },
        { "type": "function_call", "call_id": "c1", "name": "tool", "arguments": "{\"z\": 1}" },
        output(json!("42")),
        output(json!("")),
        output(json!([{ "type": "input_text", "text": "4" }, { "type": "input_text", "text": "2" }])),
        output(json!([{ "type": "input_image", "image_url": "https://a.test/b" }])),
        { "type": "reasoning", "summary": [], "encrypted_content": "red" },
        { "role": "assistant", "content": [{ "type": "output_text", "text": "B" }] },
    ]);
    assert_eq!(body("gpt-5", &chat)["input"], expected);
}

#[test]
fn what_responses_does_not_have_is_refused() {
    let of = |part| chat(vec![user(vec![text("Hi"), part])]);
    let audio = || UserPart::Audio(Audio { data: "x".into(), media_type: "audio/wav".to_owned() });
    let context = Document { context: "c".to_owned(), ..document(data(), "") };
    let citations = Document { citations: true, ..document(data(), "") };
    let foreign = || ProviderPart { provider: Provider::Gemini, json: "{}".to_owned() };
    let cached = Part { content: text("Hi"), cache: Some(CacheControl::Usual) };
    let budget = Some(Thinking { amount: Some(Amount::Tokens(1)), summary: None });
    let any = Some(Thinking { amount: Some(Amount::AnyTokens), summary: None });
    let low = Some(thinking(Some(Effort::Low), None));
    for (model, chat, field) in [
        ("gpt-4o", Chat { top_k: Some(1), ..hi() }, "top_k"),
        ("gpt-4o", Chat { stop_sequences: vec!["x".to_owned()], ..hi() }, "stop_sequences"),
        ("gpt-4o", Chat { seed: Some(1), ..hi() }, "seed"),
        ("gpt-4o", Chat { presence_penalty: Some(0.0), ..hi() }, "presence_penalty"),
        ("gpt-4o", Chat { frequency_penalty: Some(0.0), ..hi() }, "frequency_penalty"),
        ("gpt-4o", Chat { temperature: Some(2.1), ..hi() }, "temperature"),
        ("gpt-4o", Chat { top_p: Some(f64::NAN), ..hi() }, "top_p"),
        ("gpt-5", Chat { temperature: Some(0.9), ..hi() }, "temperature"),
        ("gpt-5.1", Chat { top_p: Some(0.9), thinking: low, ..hi() }, "top_p"),
        ("gpt-4o", Chat { max_output_tokens: Some(15), ..hi() }, "max_output_tokens"),
        ("gpt-4o", Chat { tool_choice: Some(ToolChoice::Required), ..hi() }, "tool_choice"),
        ("o1-mini", Chat { system: "x".to_owned(), ..hi() }, "system"),
        ("gpt-4.1", Chat { thinking: low, ..hi() }, "reasoning.effort"),
        ("gpt-4.1", Chat { thinking: Some(thinking(None, Some(Summary::Auto))), ..hi() }, "reasoning.summary"),
        ("gpt-5", Chat { thinking: budget, ..hi() }, "reasoning.budget_tokens"),
        ("gpt-5", Chat { thinking: any, ..hi() }, "reasoning.budget_tokens"),
        ("gpt-4o", Chat { cache: Some(CacheControl::OneHour), ..hi() }, "cache_control"),
        ("gpt-4o", chat(vec![Message::User(vec![cached])]), "messages[0].parts[0].cache_control"),
        ("gpt-4o", of(audio()), "messages[0].parts[1].audio"),
        ("gpt-4o", of(UserPart::Document(context)), "messages[0].parts[1].document.context"),
        ("gpt-4o", of(UserPart::Document(citations)), "messages[0].parts[1].document.citations"),
        ("gpt-4o", of(UserPart::Provider(foreign())), "messages[0].parts[1].provider"),
        ("gpt-4o", chat(vec![assistant(vec![AssistantPart::Provider(foreign())])]), "messages[0].parts[0].provider"),
        ("gpt-4o", chat(vec![results(vec![audio()])]), "messages[0].parts[0].tool_result.content[0].audio"),
    ] {
        assert_eq!(refused(model, &chat), field, "{model}");
    }
}

#[test]
fn what_is_the_gateways_cannot_be_set() {
    for (options, field) in [
        (json!({ "model": "x" }), "model"),
        (json!({ "models": ["x", "y"] }), "models"),
        (json!({ "fallbacks": ["x"] }), "fallbacks"),
        (json!({ "route": "fallback" }), "route"),
        (json!({ "stream": false }), "stream"),
        (json!({ "background": true }), "background"),
        (json!({ "stream_options": { "include_usage": false } }), "stream_options.include_usage"),
        (json!({ "stream_options": null }), "stream_options.include_usage"),
    ] {
        let Value::Object(provider_options) = options else { panic!("an object") };
        assert_eq!(refused("gpt-5", &Chat { provider_options, ..hi() }), format!("provider_options.{field}"));
    }
    let Value::Object(provider_options) = json!({ "stream_options": { "include_obfuscation": false }, "store": true })
    else {
        panic!("an object")
    };
    let body = body("gpt-5", &Chat { provider_options, ..hi() });
    assert_eq!((&body["stream_options"]["include_obfuscation"], &body["store"]), (&json!(false), &json!(true)));
}

#[test]
fn responses_is_chosen_where_it_is_needed() {
    let asked = |messages| Chat { messages, ..Chat::default() };
    let tool = |json: &str| Chat { tools: vec![Tool::Provider(json.to_owned()).into()], ..plain() };
    let reasoned = |reasoning| asked(vec![assistant(vec![AssistantPart::Reasoning(reasoning)])]);
    let words = Reasoning { text: "Hm".to_owned(), ..Reasoning::default() };
    for (model, chat, path) in [
        ("gpt-4o", plain(), "/chat/completions"),
        ("gpt-5-codex", plain(), "/responses"),
        ("gpt-4o", Chat { openai_api: Some(OpenAiApi::Responses), ..plain() }, "/responses"),
        ("gpt-5", Chat { openai_api: Some(OpenAiApi::ChatCompletions), ..plain() }, "/chat/completions"),
        ("gpt-5", Chat { thinking: Some(thinking(Some(Effort::Low), None)), ..plain() }, "/chat/completions"),
        ("gpt-5", Chat { thinking: Some(thinking(None, Some(Summary::None))), ..plain() }, "/chat/completions"),
        ("gpt-5", Chat { thinking: Some(thinking(None, Some(Summary::Auto))), ..plain() }, "/responses"),
        ("gpt-5", Chat { thinking: Some(thinking(None, Some(Summary::Detailed))), ..plain() }, "/responses"),
        ("gpt-5", reasoned(thought()), "/responses"),
        ("gpt-5", reasoned(Reasoning { provider: Some(Provider::Gemini), ..thought() }), "/chat/completions"),
        ("gpt-5", reasoned(words), "/chat/completions"),
        ("gpt-4o", Chat { tools: vec![function("", None)], ..plain() }, "/chat/completions"),
        ("gpt-4o", tool(r#"{"type":"web_search"}"#), "/responses"),
        ("gpt-4o", asked(vec![assistant(vec![AssistantPart::Provider(own("{}"))])]), "/responses"),
        ("gpt-4o", asked(vec![user(vec![UserPart::Document(document(url(), ""))])]), "/responses"),
        ("gpt-4o", asked(vec![user(vec![image(file_id(), "")])]), "/responses"),
        ("gpt-4o", asked(vec![user(vec![image(url(), "")])]), "/chat/completions"),
        ("gpt-4o", asked(vec![user(vec![UserPart::Provider(own(r#"{"type":"input_image"}"#))])]), "/responses"),
        ("gpt-4o", asked(vec![results(vec![image(data(), "")])]), "/responses"),
        ("gpt-4o", asked(vec![results(vec![text("x")])]), "/chat/completions"),
    ] {
        assert_eq!(OpenAi.request(model, &chat).unwrap().path, path, "{model} {chat:?}");
    }
    let impossible = Chat { openai_api: Some(OpenAiApi::ChatCompletions), ..plain() };
    assert_eq!(refused("o3-pro", &impossible), "openai_api");
}

#[test]
fn responses_is_chosen_where_functions_and_thinking_need_it() {
    let called = |thinking| Chat { tools: vec![function("", None)], thinking, ..plain() };
    let none = Some(thinking(Some(Effort::None), None));
    let custom: Part<Tool> = Tool::Provider(r#"{"type":"custom","custom":{"name":"c"}}"#.to_owned()).into();
    let audio = UserPart::Audio(Audio { data: "x".into(), media_type: "audio/wav".to_owned() });
    let verbosity = [("verbosity".to_owned(), json!("low"))].into_iter().collect();
    for (model, chat, path) in [
        ("gpt-5.4", called(None), "/responses"),
        ("gpt-5.4-mini", called(Some(thinking(Some(Effort::Low), None))), "/responses"),
        ("gpt-6-sol", called(None), "/responses"),
        ("gpt-5.4", called(none), "/chat/completions"),
        ("gpt-5.3", called(Some(thinking(Some(Effort::Low), None))), "/chat/completions"),
        ("openai/gpt-5.4", called(None), "/chat/completions"),
        ("gpt-5.4", plain(), "/chat/completions"),
        ("gpt-5.4", Chat { seed: Some(1), ..called(None) }, "/chat/completions"),
        ("gpt-5.4", Chat { stop_sequences: vec!["x".to_owned()], ..called(None) }, "/chat/completions"),
        ("gpt-5.4", Chat { presence_penalty: Some(0.5), ..called(None) }, "/chat/completions"),
        ("gpt-5.4", Chat { frequency_penalty: Some(0.5), ..called(None) }, "/chat/completions"),
        ("gpt-5.4", Chat { max_output_tokens: Some(15), ..called(None) }, "/chat/completions"),
        ("gpt-5.4", Chat { max_output_tokens: Some(16), ..called(None) }, "/responses"),
        ("gpt-5.4", Chat { tools: vec![function("", None), custom], ..plain() }, "/chat/completions"),
        ("gpt-5.4", Chat { messages: vec![user(vec![audio])], ..called(None) }, "/chat/completions"),
        ("gpt-5.4", Chat { provider_options: verbosity, ..called(None) }, "/chat/completions"),
        ("gpt-5.4", Chat { openai_api: Some(OpenAiApi::ChatCompletions), ..called(None) }, "/chat/completions"),
    ] {
        assert_eq!(OpenAi.request(model, &chat).unwrap().path, path, "{model} {chat:?}");
    }
}
