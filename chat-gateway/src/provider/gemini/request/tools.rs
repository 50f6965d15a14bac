//! What the model may call: functions of the caller, and tools that Google runs.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    message::{self, Chat, ToolChoice},
    provider::{Unsupported, json_text, limits},
};

/// An entry of the list. All functions stand in one.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Tool<'a> {
    Functions(Functions<'a>),
    /// One that Google runs, in Gemini's own form.
    Own(&'a RawValue),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Functions<'a> {
    function_declarations: Vec<Function<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    function_calling_config: FunctionCallingConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionCallingConfig<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

pub(super) fn tools(tools: &[message::Part<message::Tool>]) -> Result<Vec<Tool<'_>>, Unsupported> {
    let mut functions = Vec::new();
    let mut own = Vec::new();
    for (at, tool) in tools.iter().enumerate() {
        match &tool.content {
            message::Tool::Function(tool) => functions.push(function(at, tool)?),
            message::Tool::Provider(json) => {
                own.push(Tool::Own(json_text::borrow(json, || format!("tools[{at}].provider_tool"))?));
            }
        }
    }
    let functions = (!functions.is_empty()).then_some(Tool::Functions(Functions { function_declarations: functions }));
    Ok(functions.into_iter().chain(own).collect())
}

fn function(at: usize, tool: &message::Function) -> Result<Function<'_>, Unsupported> {
    limits::absent(limits::title(super::WHO), &format!("tools[{at}].strict"), tool.strict.as_ref())?;
    let parameters_json_schema = match tool.parameters.as_str() {
        "" => None,
        parameters => Some(json_text::borrow(parameters, || format!("tools[{at}].parameters"))?),
    };
    Ok(Function { name: &tool.name, description: &tool.description, parameters_json_schema })
}

/// The choice is one of functions: Gemini refuses it where there are none.
pub(super) fn tool_config(chat: &Chat) -> Result<Option<ToolConfig<'_>>, Unsupported> {
    let Some(choice) = &chat.tool_choice else { return Ok(None) };
    let has_functions = chat.tools.iter().any(|tool| matches!(tool.content, message::Tool::Function(_)));
    let (mode, allowed_function_names) = match choice {
        _ if chat.tools.is_empty() => return Ok(None),
        ToolChoice::Auto if !has_functions => return Ok(None),
        _ if !has_functions => {
            return Err(Unsupported {
                field: "tool_choice".to_owned(),
                problem: "Gemini chooses by itself among its own tools; leave it unset".to_owned(),
            });
        }
        ToolChoice::Auto => ("AUTO", None),
        ToolChoice::None => ("NONE", None),
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Tool(name) => ("ANY", Some([name.as_str()])),
    };
    Ok(Some(ToolConfig { function_calling_config: FunctionCallingConfig { mode, allowed_function_names } }))
}
