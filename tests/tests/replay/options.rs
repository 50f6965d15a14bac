//! `provider_options`: what they may change of a body, and what they may not.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use proto::chat::{OpenAiApi, ResponseFormat, StreamChatRequest, response_format::Type};
use serde_json::{Value, json};

use crate::{KEY, Stage, request, user};

const CHAT: OpenAiApi = OpenAiApi::ChatCompletions;
const RESPONSES: OpenAiApi = OpenAiApi::Responses;
const ANY: OpenAiApi = OpenAiApi::Unspecified;

#[tokio::test]
async fn the_model_the_streaming_and_the_number_of_answers_are_the_gateways() {
    let mut stage = Stage::set().await;
    for (model, api, options, field) in [
        ("claude-sonnet-4-5", ANY, json!({"model": "claude-opus-4-5"}), "model"),
        ("claude-sonnet-4-5", ANY, json!({"model": null}), "model"),
        ("claude-sonnet-4-5", ANY, json!({"stream": false}), "stream"),
        ("gpt-4o", CHAT, json!({"model": "gpt-4o-mini"}), "model"),
        ("gpt-4o", CHAT, json!({"stream": null}), "stream"),
        ("gpt-4o", CHAT, json!({"n": 2}), "n"),
        ("gpt-5-mini", RESPONSES, json!({"model": "gpt-5"}), "model"),
        ("gpt-5-mini", RESPONSES, json!({"stream": false}), "stream"),
        ("gpt-5-mini", RESPONSES, json!({"background": true}), "background"),
        ("gemini-2.5-flash", ANY, json!({"model": "gemini-2.5-pro"}), "model"),
        (
            "gemini-2.5-flash",
            ANY,
            json!({"generationConfig": {"candidateCount": 2}}),
            "generationConfig.candidateCount",
        ),
        ("gemini-2.5-flash", ANY, json!({"generationConfig": "none"}), "generationConfig.candidateCount"),
    ] {
        let failure = stage.sends(with(plain(model, api), &options)).await.expect_err("it is refused");
        assert_eq!(failure.class(), "InvalidArgument INVALID_FIELD", "{model} {options}");
        assert_eq!(failure.fields, [format!("provider_options.{field}")], "{model} {options}");
    }
}

/// Credentials are no field of a body: what looks like one is merged like anything else, and
/// the stored key stays the one that is sent.
#[tokio::test]
async fn the_key_stays_the_stored_one() {
    let mut stage = Stage::set().await;
    let names = ["api_key", "x-api-key", "x-goog-api-key", "authorization", "key", "headers", "extra_headers"];
    let options: BTreeMap<&str, &str> = names.iter().map(|name| (*name, "sk-another")).collect();
    for (model, api) in
        [("claude-sonnet-4-5", ANY), ("gpt-4o", CHAT), ("gpt-5-mini", RESPONSES), ("gemini-2.5-flash", ANY)]
    {
        let sent = stage.sends(with(plain(model, api), &json!(options))).await.expect("it is sent");
        assert_eq!(sent.key(), KEY, "{model}");
        assert!(!format!("{:?} {}", sent.headers, sent.path).contains("sk-another"), "{model}");
    }
}

#[tokio::test]
async fn objects_are_merged_null_removes_and_the_rest_is_replaced() {
    let mut stage = Stage::set().await;
    let format = || {
        let schema = r#"{"type":"object"}"#.to_owned();
        Some(ResponseFormat { r#type: Type::JsonSchema.into(), schema, ..ResponseFormat::default() })
    };
    let base = |model, api| StreamChatRequest { max_output_tokens: Some(100), ..plain(model, api) };
    let stops = || vec!["a".to_owned(), "b".to_owned()];
    for (request, options, expected) in [
        (
            StreamChatRequest {
                metadata: [("user_id".to_owned(), "u".to_owned())].into(),
                stop_sequences: stops(),
                temperature: Some(0.5),
                ..base("claude-sonnet-4-5", ANY)
            },
            json!({"metadata": {"more": 1}, "stop_sequences": ["c"], "temperature": null, "service_tier": "auto"}),
            json!({"metadata": {"user_id": "u", "more": 1}, "stop_sequences": ["c"], "temperature": null, "service_tier": "auto", "max_tokens": 100}),
        ),
        (
            StreamChatRequest { response_format: format(), stop_sequences: stops(), ..base("gpt-4o", CHAT) },
            json!({"response_format": {"json_schema": {"strict": true}}, "stop": null, "verbosity": "low"}),
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": true}}, "stop": null, "verbosity": "low", "max_completion_tokens": 100}),
        ),
        (
            StreamChatRequest { response_format: format(), ..base("gpt-5-mini", RESPONSES) },
            json!({"text": {"verbosity": "low", "format": {"name": "other"}}, "include": ["file_search_call.results"], "max_output_tokens": null, "store": true}),
            json!({"text": {"verbosity": "low", "format": {"type": "json_schema", "name": "other", "schema": {"type": "object"}}}, "include": ["file_search_call.results"], "max_output_tokens": null, "store": true}),
        ),
        (
            StreamChatRequest { temperature: Some(0.5), ..base("gemini-2.5-flash", ANY) },
            json!({"generationConfig": {"temperature": null, "responseModalities": ["TEXT"]}, "safetySettings": [{"category": "C", "threshold": "T"}]}),
            json!({"generationConfig": {"maxOutputTokens": 100, "responseModalities": ["TEXT"]}, "safetySettings": [{"category": "C", "threshold": "T"}]}),
        ),
    ] {
        let body = stage.sends(with(request, &options)).await.expect("it is sent").json();
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(body[name], *value, "{name} of {body}");
            assert!(!value.is_null() || body.get(name).is_none(), "{name} is removed");
        }
    }
}

/// A question without tools.
fn plain(model: &str, api: OpenAiApi) -> StreamChatRequest {
    StreamChatRequest { messages: vec![user("Hi")], tools: Vec::new(), ..request(model, api) }
}

fn with(request: StreamChatRequest, options: &Value) -> StreamChatRequest {
    let Some(Kind::StructValue(provider_options)) = structured(options).kind else { panic!("{options} is no object") };
    StreamChatRequest { provider_options: Some(provider_options), ..request }
}

fn structured(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().expect("a number that a double holds")),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(structured).collect() })
        }
        Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields.iter().map(|(name, value)| (name.clone(), structured(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}
