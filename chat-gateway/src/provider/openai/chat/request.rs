//! The body of a request: how to go on, and with which tools.

mod conversation;
mod refused;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    message::{self, Chat, ResponseFormat, Tool, ToolChoice},
    provider::{Unsupported, json_text, openai::models::effort},
};

use conversation::{Turn, turns};

pub(in super::super) fn body(model: &str, chat: &Chat) -> Result<Vec<u8>, Unsupported> {
    refused::check(model, chat)?;
    let has_tools = !chat.tools.is_empty();
    let tools = chat.tools.iter().enumerate().map(|(at, tool)| entry(at, &tool.content));
    json_text::serialize(&Body {
        model,
        messages: turns(model, chat)?,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        max_completion_tokens: chat.max_output_tokens,
        temperature: chat.temperature,
        top_p: chat.top_p,
        presence_penalty: chat.presence_penalty,
        frequency_penalty: chat.frequency_penalty,
        seed: chat.seed,
        stop: &chat.stop_sequences,
        tools: tools.collect::<Result<_, _>>()?,
        // Both are a 400 without tools, and mean nothing then.
        tool_choice: chat.tool_choice.as_ref().filter(|_| has_tools).map(choice),
        parallel_tool_calls: chat.parallel_tool_calls.filter(|_| has_tools),
        response_format: format(chat.response_format.as_ref())?,
        reasoning_effort: effort(model, chat),
        metadata: &chat.metadata,
        store: !chat.metadata.is_empty(),
    })
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    // `max_tokens` is the older name, which the reasoning models refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    // Labels are labels of a completion that OpenAI keeps: without this they are a 400.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    store: bool,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// `{"type":"function","function":…}`, the wrapping of everything about functions.
#[derive(Serialize)]
struct Typed<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: T,
}

impl<T> Typed<T> {
    fn new(function: T) -> Self {
        Self { kind: "function", function }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Function(Typed<Function<'a>>),
    Provider(&'a RawValue),
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Mode(&'static str),
    Tool(Typed<ChosenFunction<'a>>),
}

#[derive(Serialize)]
struct ChosenFunction<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonObject,
    JsonSchema { json_schema: Shape<'a> },
}

#[derive(Serialize)]
struct Shape<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

fn entry(at: usize, tool: &Tool) -> Result<Entry<'_>, Unsupported> {
    match tool {
        Tool::Function(tool) => Ok(Entry::Function(Typed::new(function(at, tool)?))),
        Tool::Provider(json) => Ok(Entry::Provider(json_text::borrow(json, || format!("tools[{at}].provider_tool"))?)),
    }
}

fn function(at: usize, tool: &message::Function) -> Result<Function<'_>, Unsupported> {
    let parameters = match tool.parameters.as_str() {
        "" => None,
        parameters => Some(json_text::borrow(parameters, || format!("tools[{at}].parameters"))?),
    };
    Ok(Function { name: &tool.name, description: &tool.description, parameters, strict: tool.strict })
}

fn choice(choice: &ToolChoice) -> Choice<'_> {
    match choice {
        ToolChoice::Auto => Choice::Mode("auto"),
        ToolChoice::None => Choice::Mode("none"),
        ToolChoice::Required => Choice::Mode("required"),
        ToolChoice::Tool(name) => Choice::Tool(Typed::new(ChosenFunction { name })),
    }
}

/// Text is what comes if nothing is said.
fn format(format: Option<&ResponseFormat>) -> Result<Option<Format<'_>>, Unsupported> {
    let schema = match format {
        None | Some(ResponseFormat::Text) => return Ok(None),
        Some(ResponseFormat::Json) => return Ok(Some(Format::JsonObject)),
        Some(ResponseFormat::Schema(schema)) => schema,
    };
    let json_schema = Shape {
        name: if schema.name.is_empty() { "answer" } else { &schema.name },
        description: &schema.description,
        schema: json_text::borrow(&schema.json, || "response_format.schema".to_owned())?,
        strict: schema.strict,
    };
    Ok(Some(Format::JsonSchema { json_schema }))
}
