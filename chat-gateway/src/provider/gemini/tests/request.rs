//! Parameters, tools, and the form of an answer.

use serde_json::json;

use super::*;
use crate::message::{
    Amount, CacheControl, Effort, Function, OpenAiApi, ResponseFormat, Schema, Summary, Thinking, Tool, ToolChoice,
};

#[test]
fn the_model_stands_in_the_path() {
    for (model, path) in [
        ("gemini-2.5-pro", "/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("models/gemini-2.5-pro", "/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("tunedModels/mine-1", "/tunedModels/mine-1:streamGenerateContent?alt=sse"),
        ("../a b/c?d#é", "/models/..%2Fa%20b%2Fc%3Fd%23%C3%A9:streamGenerateContent?alt=sse"),
    ] {
        assert_eq!(Gemini.request(model, &chat()).unwrap().path, path);
    }
    assert_eq!(body("x", &chat()), json!({ "contents": [{ "role": "user", "parts": [{ "text": "Hi" }] }] }));
}

#[test]
fn every_parameter_has_its_place() {
    let chat = Chat {
        system: "Be brief.".to_owned(),
        max_output_tokens: Some(7),
        temperature: Some(2.0),
        top_p: Some(0.5),
        top_k: Some(40),
        stop_sequences: vec!["END".to_owned()],
        seed: Some(-3),
        presence_penalty: Some(1.0),
        frequency_penalty: Some(-1.0),
        ..chat()
    };
    let body = body("gemini-2.5-pro", &chat);
    assert_eq!(body["systemInstruction"], json!({ "parts": [{ "text": "Be brief." }] }));
    let expected = json!({
        "maxOutputTokens": 7, "temperature": 2.0, "topP": 0.5, "topK": 40, "stopSequences": ["END"], "seed": -3,
        "presencePenalty": 1.0, "frequencyPenalty": -1.0,
    });
    assert_eq!(body["generationConfig"], expected);
}

fn function(parameters: &str) -> Part<Tool> {
    Part::from(Tool::Function(Function {
        name: "tool".to_owned(),
        description: String::new(),
        parameters: parameters.to_owned(),
        strict: None,
    }))
}

fn own_tool() -> Part<Tool> {
    Part::from(Tool::Provider(r#"{"googleSearch": {}}"#.to_owned()))
}

#[test]
fn tools_and_their_choice() {
    for (tool_choice, expected) in [
        (None, Value::Null),
        (Some(ToolChoice::Auto), json!({ "functionCallingConfig": { "mode": "AUTO" } })),
        (Some(ToolChoice::None), json!({ "functionCallingConfig": { "mode": "NONE" } })),
        (Some(ToolChoice::Required), json!({ "functionCallingConfig": { "mode": "ANY" } })),
        (
            Some(ToolChoice::Tool("tool".to_owned())),
            json!({ "functionCallingConfig": { "mode": "ANY", "allowedFunctionNames": ["tool"] } }),
        ),
    ] {
        let chat =
            Chat { tools: vec![function(""), own_tool(), function(r#"{"type":"object"}"#)], tool_choice, ..chat() };
        let body = body("gemini-2.5-pro", &chat);
        let tools = json!([{ "functionDeclarations": [
            { "name": "tool" }, { "name": "tool", "parametersJsonSchema": { "type": "object" } },
        ]}, { "googleSearch": {} }]);
        assert_eq!((&body["tools"], &body["toolConfig"]), (&tools, &expected));
    }
}

#[test]
fn the_choice_is_one_of_functions() {
    for (tools, tool_choice, is_refused) in [
        (vec![own_tool()], ToolChoice::Auto, false),
        (vec![own_tool()], ToolChoice::None, true),
        (vec![own_tool()], ToolChoice::Required, true),
        (vec![], ToolChoice::None, false),
        (vec![], ToolChoice::Required, true),
    ] {
        let case = format!("{tools:?} {tool_choice:?}");
        let chat = Chat { tools, tool_choice: Some(tool_choice), ..chat() };
        if is_refused {
            assert_eq!(refused("gemini-2.5-pro", &chat), "tool_choice", "{case}");
        } else {
            assert_eq!(body("gemini-2.5-pro", &chat)["toolConfig"], Value::Null, "{case}");
        }
    }
}

fn schema() -> Schema {
    let schema = r#"{"type": "object"}"#.to_owned();
    Schema { json: schema, name: String::new(), description: String::new(), strict: None }
}

#[test]
fn an_answer_has_a_form() {
    for (format, expected) in [
        (ResponseFormat::Text, Value::Null),
        (ResponseFormat::Json, json!({ "responseMimeType": "application/json" })),
        (
            ResponseFormat::Schema(schema()),
            json!({ "responseMimeType": "application/json", "responseJsonSchema": { "type": "object" } }),
        ),
    ] {
        let chat = Chat { response_format: Some(format), ..chat() };
        assert_eq!(body("gemini-2.5-pro", &chat)["generationConfig"], expected);
    }
    for (schema, field) in [
        (Schema { name: "x".to_owned(), ..schema() }, "response_format.name"),
        (Schema { description: "x".to_owned(), ..schema() }, "response_format.description"),
        (Schema { strict: Some(false), ..schema() }, "response_format.strict"),
    ] {
        let chat = Chat { response_format: Some(ResponseFormat::Schema(schema)), ..chat() };
        assert_eq!(refused("gemini-2.5-pro", &chat), field);
    }
}

#[test]
fn a_form_beside_functions_needs_version_3() {
    let asks = |tool| Chat { tools: vec![tool], response_format: Some(ResponseFormat::Schema(schema())), ..chat() };
    assert_eq!(refused("gemini-2.5-pro", &asks(function(""))), "response_format");
    assert!(Gemini.request("gemini-3-flash-preview", &asks(function(""))).is_ok());
    assert!(Gemini.request("gemini-2.5-pro", &asks(own_tool())).is_ok());
}

#[test]
fn each_version_is_told_how_much_to_think() {
    let effort = |effort| Some(Amount::Effort(effort));
    let tokens = Some(Amount::Tokens(512));
    for (model, amount, summary, expected) in [
        ("gemini-2.5-flash", None, None, Ok(Value::Null)),
        ("gemini-2.0-flash", None, None, Ok(Value::Null)),
        ("gemini-2.0-flash", effort(Effort::Low), None, Err("reasoning")),
        ("gemini-2.0-flash", None, Some(Summary::Auto), Err("reasoning")),
        ("gemini-2.0-flash", effort(Effort::None), None, Ok(Value::Null)),
        ("gemini-2.0-flash", None, Some(Summary::None), Ok(Value::Null)),
        ("gemini-2.0-flash", effort(Effort::None), Some(Summary::None), Ok(Value::Null)),
        ("gemini-2.0-flash", effort(Effort::None), Some(Summary::Auto), Err("reasoning")),
        ("gemini-2.0-flash", tokens, Some(Summary::None), Err("reasoning")),
        ("gemini-2.5-flash", effort(Effort::None), None, Ok(json!({ "thinkingBudget": 0 }))),
        ("gemini-2.5-flash", effort(Effort::Low), None, Err("reasoning.effort")),
        (
            "gemini-2.5-flash",
            tokens,
            Some(Summary::Auto),
            Ok(json!({ "includeThoughts": true, "thinkingBudget": 512 })),
        ),
        ("gemini-2.5-flash", Some(Amount::AnyTokens), None, Ok(json!({ "thinkingBudget": -1 }))),
        ("gemini-3-pro", effort(Effort::None), None, Err("reasoning.effort")),
        ("gemini-3-pro", effort(Effort::Minimal), None, Ok(json!({ "thinkingLevel": "minimal" }))),
        (
            "gemini-3-pro",
            effort(Effort::Low),
            Some(Summary::None),
            Ok(json!({ "includeThoughts": false, "thinkingLevel": "low" })),
        ),
        ("gemini-flash-latest", effort(Effort::Medium), None, Ok(json!({ "thinkingLevel": "medium" }))),
        ("gemini-3-pro", effort(Effort::High), None, Ok(json!({ "thinkingLevel": "high" }))),
        ("gemini-3-pro", effort(Effort::Xhigh), None, Err("reasoning.effort")),
        ("gemini-3-pro", effort(Effort::Max), None, Err("reasoning.effort")),
        ("gemini-3-pro", tokens, None, Ok(json!({ "thinkingBudget": 512 }))),
        ("gemini-3-pro", None, Some(Summary::Concise), Err("reasoning.summary")),
        ("gemini-2.5-pro", None, Some(Summary::Detailed), Err("reasoning.summary")),
    ] {
        let chat = Chat { thinking: Some(Thinking { amount, summary }), ..chat() };
        let sent = Gemini.request(model, &chat).map(|outbound| {
            let body: Value = serde_json::from_slice(&outbound.body).unwrap();
            body["generationConfig"]["thinkingConfig"].clone()
        });
        let expected = expected.map_err(str::to_owned);
        assert_eq!(sent.map_err(|refused| refused.field), expected, "{model} {amount:?} {summary:?}");
    }
}

#[test]
fn what_gemini_does_not_have_is_refused() {
    let strict = |tool: Part<Tool>| match tool.content {
        Tool::Function(function) => Part::from(Tool::Function(Function { strict: Some(false), ..function })),
        Tool::Provider(_) => tool,
    };
    for (chat, field) in [
        (Chat { parallel_tool_calls: Some(true), ..chat() }, "parallel_tool_calls"),
        (Chat { metadata: [("user_id".to_owned(), "u".to_owned())].into(), ..chat() }, "metadata"),
        (Chat { cache: Some(CacheControl::Usual), ..chat() }, "cache_control"),
        (Chat { openai_api: Some(OpenAiApi::Responses), ..chat() }, "openai_api"),
        (Chat { temperature: Some(2.1), ..chat() }, "temperature"),
        (Chat { top_p: Some(f64::NAN), ..chat() }, "top_p"),
        (Chat { presence_penalty: Some(2.1), ..chat() }, "presence_penalty"),
        (Chat { frequency_penalty: Some(-2.1), ..chat() }, "frequency_penalty"),
        (Chat { seed: Some(1 << 31), ..chat() }, "seed"),
        (Chat { stop_sequences: vec!["x".to_owned(); 6], ..chat() }, "stop_sequences"),
        (Chat { tools: vec![own_tool(), strict(function(""))], ..chat() }, "tools[1].strict"),
    ] {
        assert_eq!(refused("gemini-2.5-pro", &chat), field);
    }
}

#[test]
fn only_the_number_of_answers_and_the_model_are_fixed() {
    let sent = |options: Value| {
        let Value::Object(provider_options) = options else { panic!("an object") };
        let chat = Chat { provider_options, temperature: Some(0.5), ..chat() };
        crate::provider::outbound(crate::message::Provider::Gemini, "gemini-2.5-pro", &chat)
    };
    for (options, field) in [
        (json!({ "model": "x" }), "model"),
        (json!({ "generationConfig": { "candidateCount": 2 } }), "generationConfig.candidateCount"),
        (json!({ "generationConfig": { "candidate_count": 2 } }), "generationConfig.candidate_count"),
        (json!({ "generation_config": { "candidateCount": 2 } }), "generation_config.candidateCount"),
        (json!({ "generation_config": { "candidate_count": 2 } }), "generation_config.candidate_count"),
        (json!({ "generationConfig": { "routingConfig": {} } }), "generationConfig.routingConfig"),
        (json!({ "generationConfig": { "routing_config": {} } }), "generationConfig.routing_config"),
        (json!({ "generation_config": { "routingConfig": {} } }), "generation_config.routingConfig"),
        (json!({ "generation_config": { "routing_config": {} } }), "generation_config.routing_config"),
    ] {
        assert_eq!(sent(options).unwrap_err().field, format!("provider_options.{field}"));
    }
    let options = json!({
        "cachedContent": "cachedContents/x",
        "safetySettings": [{ "category": "C", "threshold": "BLOCK_NONE" }],
        "generationConfig": { "responseModalities": ["TEXT"] },
    });
    let body: Value = serde_json::from_slice(&sent(options.clone()).unwrap().body).unwrap();
    assert_eq!(body["cachedContent"], options["cachedContent"]);
    assert_eq!(body["safetySettings"], options["safetySettings"]);
    assert_eq!(body["generationConfig"], json!({ "responseModalities": ["TEXT"], "temperature": 0.5 }));
}

#[test]
fn the_key_goes_into_a_header_that_is_not_shown() {
    let (name, value) = Gemini.credential(&KeyMaterial::new("AIza1".to_owned())).unwrap();
    assert_eq!((name.as_str(), value.as_bytes(), value.is_sensitive()), ("x-goog-api-key", b"AIza1".as_slice(), true));
}
