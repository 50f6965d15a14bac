//! What a request says beside its conversation: tools, the form of the answer, how much
//! to think, what only one provider has.

use std::collections::{HashMap, HashSet};

use proto::chat::{self as pb, reasoning, response_format::Type, tool_choice::Mode};
use serde_json::{Map, Number, Value, value::RawValue};
use service_runtime::fields::Invalid;

use super::Result;
use crate::message::{
    Amount, CacheControl, Effort, Function, OpenAiApi, Part, ResponseFormat, Schema, Summary, Thinking, Tool,
    ToolChoice,
};

/// Beyond every provider's own limit, which says so itself.
const TOOLS_MAX: usize = 1024;

/// What OpenAI takes, which has the most.
const METADATA_MAX: usize = 16;
const METADATA_KEY_CHARS_MAX: usize = 64;
const METADATA_VALUE_CHARS_MAX: usize = 512;

pub(super) fn tools(tools: Vec<pb::Tool>) -> Result<Vec<Part<Tool>>> {
    if tools.len() > TOOLS_MAX {
        return Err(Invalid::new("tools", format_args!("may have {TOOLS_MAX} tools at most")));
    }
    let mut names = HashSet::with_capacity(tools.len());
    let one = |(n, tool): (usize, pb::Tool)| {
        let path = format!("tools[{n}]");
        let cache =
            tool.cache_control.map(|cache| cache_control(&format!("{path}.cache_control"), cache)).transpose()?;
        let content = if tool.provider_tool.is_empty() {
            Tool::Function(function(&path, tool, &mut names)?)
        } else {
            Tool::Provider(provider_tool(&path, tool)?)
        };
        Ok(Part { content, cache })
    };
    tools.into_iter().enumerate().map(one).collect()
}

fn function(path: &str, tool: pb::Tool, names: &mut HashSet<String>) -> Result<Function> {
    let name = tool_name(&format!("{path}.name"), tool.name)?;
    if !names.insert(name.clone()) {
        return Err(Invalid::new(format!("{path}.name"), "is the name of another tool too"));
    }
    if !tool.parameters.is_empty() {
        json_object(&format!("{path}.parameters"), &tool.parameters)?;
    }
    Ok(Function { name, description: tool.description, parameters: tool.parameters, strict: tool.strict })
}

fn provider_tool(path: &str, tool: pb::Tool) -> Result<String> {
    let is_function =
        !(tool.name.is_empty() && tool.description.is_empty() && tool.parameters.is_empty() && tool.strict.is_none());
    if is_function {
        return Err(Invalid::new(path, "is a function or a tool of the provider's, not both"));
    }
    json_object(&format!("{path}.provider_tool"), &tool.provider_tool)?;
    Ok(tool.provider_tool)
}

pub(super) fn tool_choice(choice: pb::ToolChoice, tools: &[Part<Tool>]) -> Result<ToolChoice> {
    let mode = choice.mode();
    if mode != Mode::Tool && !choice.tool_name.is_empty() {
        return Err(Invalid::new("tool_choice.tool_name", "is for MODE_TOOL only"));
    }
    if tools.is_empty() {
        return Err(Invalid::new("tool_choice", "needs tools to choose from"));
    }
    let is_chosen =
        |tool: &Part<Tool>| matches!(&tool.content, Tool::Function(function) if function.name == choice.tool_name);
    match mode {
        Mode::Auto => Ok(ToolChoice::Auto),
        Mode::None => Ok(ToolChoice::None),
        Mode::Required => Ok(ToolChoice::Required),
        Mode::Tool if tools.iter().any(is_chosen) => Ok(ToolChoice::Tool(choice.tool_name)),
        Mode::Tool => Err(Invalid::new("tool_choice.tool_name", "is not the name of a function of this request")),
        Mode::Unspecified => {
            Err(Invalid::new("tool_choice.mode", "must be MODE_AUTO, MODE_NONE, MODE_REQUIRED or MODE_TOOL"))
        }
    }
}

pub(super) fn response_format(format: pb::ResponseFormat) -> Result<ResponseFormat> {
    let kind = format.r#type();
    let pb::ResponseFormat { schema, name, description, strict, .. } = format;
    if kind == Type::JsonSchema {
        json_object("response_format.schema", &schema)?;
        if !name.is_empty() && !is_schema_name(&name) {
            return Err(Invalid::new("response_format.name", "must be 1 to 64 of A-Z a-z 0-9 _ -"));
        }
        return Ok(ResponseFormat::Schema(Schema { json: schema, name, description, strict }));
    }
    for (field, is_set) in [
        ("schema", !schema.is_empty()),
        ("name", !name.is_empty()),
        ("description", !description.is_empty()),
        ("strict", strict.is_some()),
    ] {
        if is_set {
            return Err(Invalid::new(format!("response_format.{field}"), "is for TYPE_JSON_SCHEMA only"));
        }
    }
    match kind {
        Type::Text => Ok(ResponseFormat::Text),
        Type::Json => Ok(ResponseFormat::Json),
        Type::Unspecified | Type::JsonSchema => {
            Err(Invalid::new("response_format.type", "must be TYPE_TEXT, TYPE_JSON or TYPE_JSON_SCHEMA"))
        }
    }
}

fn is_schema_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

pub(super) fn thinking(reasoning: pb::Reasoning) -> Result<Thinking> {
    use reasoning::Amount as Sent;
    let summary = match reasoning::Summary::try_from(reasoning.summary) {
        Ok(reasoning::Summary::Unspecified) => None,
        Ok(reasoning::Summary::None) => Some(Summary::None),
        Ok(reasoning::Summary::Auto) => Some(Summary::Auto),
        Ok(reasoning::Summary::Concise) => Some(Summary::Concise),
        Ok(reasoning::Summary::Detailed) => Some(Summary::Detailed),
        Err(_) => return Err(Invalid::new("reasoning.summary", "must be a value of Summary")),
    };
    let amount = match reasoning.amount {
        None => None,
        Some(Sent::Effort(effort)) => Some(Amount::Effort(self::effort(effort)?)),
        Some(Sent::BudgetTokens(-1)) => Some(Amount::AnyTokens),
        Some(Sent::BudgetTokens(tokens)) => match u32::try_from(tokens) {
            Ok(tokens @ 1..) => Some(Amount::Tokens(tokens)),
            Ok(0) | Err(_) => {
                return Err(Invalid::new("reasoning.budget_tokens", "must be 1 or more, or -1; none is EFFORT_NONE"));
            }
        },
    };
    Ok(Thinking { amount, summary })
}

fn effort(effort: i32) -> Result<Effort> {
    match reasoning::Effort::try_from(effort) {
        Ok(reasoning::Effort::None) => Ok(Effort::None),
        Ok(reasoning::Effort::Minimal) => Ok(Effort::Minimal),
        Ok(reasoning::Effort::Low) => Ok(Effort::Low),
        Ok(reasoning::Effort::Medium) => Ok(Effort::Medium),
        Ok(reasoning::Effort::High) => Ok(Effort::High),
        Ok(reasoning::Effort::Xhigh) => Ok(Effort::Xhigh),
        Ok(reasoning::Effort::Max) => Ok(Effort::Max),
        Ok(reasoning::Effort::Unspecified) | Err(_) => {
            Err(Invalid::new("reasoning.effort", "must be EFFORT_NONE to EFFORT_MAX"))
        }
    }
}

pub(super) fn metadata(labels: &HashMap<String, String>) -> Result<()> {
    if labels.len() > METADATA_MAX {
        return Err(Invalid::new("metadata", format_args!("may have {METADATA_MAX} labels at most")));
    }
    for (key, value) in labels {
        if !(1..=METADATA_KEY_CHARS_MAX).contains(&key.chars().count()) {
            let problem = format_args!("must have keys of 1 to {METADATA_KEY_CHARS_MAX} characters");
            return Err(Invalid::new("metadata", problem));
        }
        if value.chars().count() > METADATA_VALUE_CHARS_MAX {
            let problem = format_args!("must have {METADATA_VALUE_CHARS_MAX} characters at most");
            return Err(Invalid::new(format!("metadata[{key:?}]"), problem));
        }
    }
    Ok(())
}

pub(super) fn openai_api(api: pb::OpenAiApi) -> Option<OpenAiApi> {
    match api {
        pb::OpenAiApi::Unspecified => None,
        pb::OpenAiApi::ChatCompletions => Some(OpenAiApi::ChatCompletions),
        pb::OpenAiApi::Responses => Some(OpenAiApi::Responses),
    }
}

pub(super) fn cache_control(path: &str, cache: pb::CacheControl) -> Result<CacheControl> {
    match cache.ttl.map(|ttl| (ttl.seconds, ttl.nanos)) {
        None => Ok(CacheControl::Usual),
        Some((300, 0)) => Ok(CacheControl::FiveMinutes),
        Some((3600, 0)) => Ok(CacheControl::OneHour),
        Some(_) => Err(Invalid::new(format!("{path}.ttl"), "must be 5 minutes or 1 hour")),
    }
}

/// The JSON of a `google.protobuf.Struct`. Its numbers are doubles; whole ones are
/// written as providers want them, without a fraction.
pub(super) fn json(options: prost_types::Struct) -> Result<Map<String, Value>> {
    options.fields.into_iter().map(|(name, value)| Ok((name, json_value(value)?))).collect()
}

fn json_value(value: prost_types::Value) -> Result<Value> {
    use prost_types::value::Kind;
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::NumberValue(number)) => Value::Number(json_number(number)?),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(json_value).collect::<Result<_>>()?),
        Some(Kind::StructValue(object)) => Value::Object(json(object)?),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "whole and within what a double counts exactly")]
fn json_number(number: f64) -> Result<Number> {
    /// Up to here a double holds every whole number: 2^53.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        return Ok(Number::from(number as i64));
    }
    Number::from_f64(number).ok_or_else(|| Invalid::new("provider_options", "must have finite numbers"))
}

fn tool_name(path: &str, name: String) -> Result<String> {
    let fits = (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits { Ok(name) } else { Err(Invalid::new(path, "must be 1 to 128 of A-Z a-z 0-9 _ . -")) }
}

/// Refuses what is not the text of a JSON object. The text itself goes on unchanged.
pub(super) fn json_object(path: &str, text: &str) -> Result<()> {
    let is_object = text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok();
    if is_object { Ok(()) } else { Err(Invalid::new(path, "must be a JSON object, as text")) }
}
