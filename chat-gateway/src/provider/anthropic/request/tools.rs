//! Tools, and how they are chosen.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Cache, refuse};
use crate::{
    message::{self, Chat, Part, ToolChoice},
    provider::{Unsupported, json_text},
};

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Tool<'a> {
    Function(Function<'a>),
    /// One that Anthropic runs.
    Own(&'a RawValue),
}

#[derive(Serialize)]
pub(super) struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Cache>,
}

#[derive(Serialize)]
pub(super) struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

pub(super) fn tools(tools: &[Part<message::Tool>]) -> Result<Vec<Tool<'_>>, Unsupported> {
    tools.iter().enumerate().map(|(at, tool)| one(at, tool)).collect()
}

fn one(at: usize, tool: &Part<message::Tool>) -> Result<Tool<'_>, Unsupported> {
    match &tool.content {
        message::Tool::Function(function) => Ok(Tool::Function(described(at, function, tool.cache.map(Cache::from))?)),
        message::Tool::Provider(_) if tool.cache.is_some() => {
            Err(refuse(format!("tools[{at}].cache_control"), "put it into the JSON of provider_tool"))
        }
        message::Tool::Provider(json) => {
            Ok(Tool::Own(json_text::borrow(json, || format!("tools[{at}].provider_tool"))?))
        }
    }
}

fn described(at: usize, tool: &message::Function, cache_control: Option<Cache>) -> Result<Function<'_>, Unsupported> {
    let schema = match tool.parameters.as_str() {
        "" => r#"{"type":"object","properties":{}}"#,
        parameters => parameters,
    };
    let input_schema = json_text::borrow(schema, || format!("tools[{at}].parameters"))?;
    let (name, description, strict) = (&tool.name, &tool.description, tool.strict);
    Ok(Function { name, description, input_schema, strict, cache_control })
}

/// How tools are chosen. Whether calls may be parallel is part of the choice.
pub(super) fn choice(chat: &Chat) -> Option<Choice<'_>> {
    let one_at_a_time = chat.parallel_tool_calls == Some(false);
    if chat.tools.is_empty() {
        return None;
    }
    let (kind, name) = match &chat.tool_choice {
        None if one_at_a_time => ("auto", None),
        None => return None,
        Some(ToolChoice::Auto) => ("auto", None),
        // Without a call there is nothing to be parallel, and the API takes no other field.
        Some(ToolChoice::None) => return Some(Choice { kind: "none", name: None, disable_parallel_tool_use: false }),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Tool(name)) => ("tool", Some(name.as_str())),
    };
    Some(Choice { kind, name, disable_parallel_tool_use: one_at_a_time })
}
