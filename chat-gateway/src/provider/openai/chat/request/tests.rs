use serde_json::{Value, json};

use crate::{
    message::{
        Amount, CacheControl, Chat, Effort, Function, Message, Part, ResponseFormat, Schema, Summary, Thinking, Tool,
        ToolChoice, UserPart,
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

fn body(model: &str, chat: &Chat) -> Value {
    serde_json::from_slice(&super::body(model, chat).unwrap()).unwrap()
}

fn refused(model: &str, chat: &Chat) -> Unsupported {
    super::body(model, chat).unwrap_err()
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
        ("openai/gpt-oss-120b", "system"),
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
        ResponseFormat::Schema(Schema {
            json: schema,
            name: name.to_owned(),
            description: description.to_owned(),
            strict,
        })
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
        assert_eq!(body("openai/gpt-oss-120b", &effort(word))["reasoning_effort"], sent);
    }
    for model in ["gpt-4o", "gpt-5-chat-latest", "chatgpt-4o-latest"] {
        assert_eq!(body(model, &effort(Effort::None)), body(model, &chat()), "{model}");
    }
    let hidden = thinking(None, Some(Summary::None));
    assert_eq!(body("gpt-4o", &hidden), body("gpt-4o", &chat()));
}

#[test]
fn a_model_that_does_not_think_can_be_sampled() {
    let sampled = |chat: Chat| Chat {
        temperature: Some(0.3),
        top_p: Some(0.5),
        presence_penalty: Some(0.0),
        frequency_penalty: Some(0.0),
        stop_sequences: vec!["END".to_owned()],
        ..chat
    };
    for model in ["gpt-5.1", "gpt-5.2-2025-12-11", "gpt-6-sol", "ft:gpt-5.4-mini:acme", "gpt-10"] {
        for chat in [chat(), effort(Effort::None)] {
            let body = body(model, &sampled(chat));
            assert_eq!((&body["temperature"], &body["stop"]), (&json!(0.3), &json!(["END"])), "{model}");
        }
        assert_eq!(refused(model, &sampled(effort(Effort::Low))).field, "temperature");
    }
    for model in ["gpt-5", "gpt-5-mini", "gpt-5.0", "o3"] {
        assert_eq!(refused(model, &sampled(effort(Effort::None))).field, "temperature", "{model}");
    }
    let default = Chat { temperature: Some(1.0), top_p: Some(1.0), ..chat() };
    for model in ["gpt-5", "o3"] {
        assert_eq!(body(model, &default)["temperature"], 1.0, "{model}");
    }
    let stopped = Chat { stop_sequences: vec!["END".to_owned()], ..chat() };
    for model in ["o1", "o1-2024-12-17", "o3-mini", "gpt-5-chat-latest"] {
        assert_eq!(body(model, &stopped)["stop"], json!(["END"]), "{model}");
    }
}

#[test]
fn what_openai_does_not_have_is_refused() {
    for (model, chat, field) in [
        ("gpt-4o", Chat { top_k: Some(1), ..chat() }, "top_k"),
        ("gpt-4o", Chat { temperature: Some(2.1), ..chat() }, "temperature"),
        ("gpt-4o", Chat { top_p: Some(1.1), ..chat() }, "top_p"),
        ("gpt-4o", Chat { presence_penalty: Some(-2.1), ..chat() }, "presence_penalty"),
        ("gpt-4o", Chat { frequency_penalty: Some(f64::INFINITY), ..chat() }, "frequency_penalty"),
        ("gpt-4o", Chat { stop_sequences: vec!["x".to_owned(); 5], ..chat() }, "stop_sequences"),
        ("gpt-4o", Chat { tool_choice: Some(ToolChoice::Tool("t".to_owned())), ..chat() }, "tool_choice"),
        ("gpt-5", Chat { temperature: Some(0.9), ..chat() }, "temperature"),
        ("o3", Chat { top_p: Some(0.9), ..chat() }, "top_p"),
        ("o4-mini", Chat { presence_penalty: Some(0.0), ..chat() }, "presence_penalty"),
        ("gpt-6-sol", Chat { frequency_penalty: Some(0.0), ..effort(Effort::Low) }, "frequency_penalty"),
        ("gpt-5.1", Chat { stop_sequences: vec!["x".to_owned()], ..effort(Effort::Low) }, "stop_sequences"),
        ("gpt-4o-search-preview-2025-03-11", Chat { temperature: Some(1.0), ..chat() }, "temperature"),
        ("o1-mini-2024-09-12", Chat { system: "x".to_owned(), ..chat() }, "system"),
        ("gpt-5", Chat { stop_sequences: vec!["x".to_owned()], ..chat() }, "stop_sequences"),
        ("o4-mini", Chat { stop_sequences: vec!["x".to_owned()], ..chat() }, "stop_sequences"),
        ("o1-mini", Chat { stop_sequences: vec!["x".to_owned()], ..chat() }, "stop_sequences"),
        ("gpt-4o", effort(Effort::Low), "reasoning.effort"),
        ("gpt-5-chat-latest", effort(Effort::Minimal), "reasoning.effort"),
        ("gpt-audio", effort(Effort::Max), "reasoning.effort"),
        ("gpt-5", thinking(Some(Amount::Tokens(1024)), None), "reasoning.budget_tokens"),
        ("gpt-4o", thinking(Some(Amount::AnyTokens), None), "reasoning.budget_tokens"),
        ("gpt-5", thinking(None, Some(Summary::Auto)), "reasoning.summary"),
        ("gpt-5", thinking(None, Some(Summary::Concise)), "reasoning.summary"),
        ("gpt-5", thinking(None, Some(Summary::Detailed)), "reasoning.summary"),
        ("gpt-4o", Chat { cache: Some(CacheControl::Usual), ..chat() }, "cache_control"),
        ("gpt-4o", Chat { system_cache: Some(CacheControl::OneHour), ..chat() }, "system_cache_control"),
    ] {
        let refused = refused(model, &chat);
        assert_eq!(refused.field, field, "{model}: {}", refused.problem);
    }
}
