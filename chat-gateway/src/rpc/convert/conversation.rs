//! The conversation of a request: messages, their parts, tools. Paths of refused fields
//! are those of the contract: `messages[2].parts[0].image.url`.

use std::collections::HashMap;

use proto::chat::{self as pb, content_part::Part, image_part::Source, message::Role, tool_choice::Mode};
use serde_json::value::RawValue;
use service_runtime::fields::Invalid;

use super::Result;
use crate::message::{AssistantPart, Image, ImageSource, Message, Tool, ToolCall, ToolChoice, ToolResult, UserPart};

/// Images that all three providers read.
const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

pub(super) fn messages(messages: Vec<pb::Message>) -> Result<Vec<Message>> {
    if messages.is_empty() {
        return Err(Invalid::new("messages", "must have a message"));
    }
    // The names of the calls so far, for the results that answer them.
    let mut calls = HashMap::new();
    messages.into_iter().enumerate().map(|(n, message)| one(&format!("messages[{n}]"), message, &mut calls)).collect()
}

fn one(path: &str, message: pb::Message, calls: &mut HashMap<String, String>) -> Result<Message> {
    let role = message.role();
    if message.parts.is_empty() {
        return Err(Invalid::new(format!("{path}.parts"), "must have a part"));
    }
    let parts = message.parts.into_iter().enumerate().map(|(n, part)| (format!("{path}.parts[{n}]"), part));
    match role {
        Role::User => Ok(Message::User(parts.map(|(path, part)| user_part(&path, part)).collect::<Result<_>>()?)),
        Role::Assistant => {
            Ok(Message::Assistant(parts.map(|(path, part)| assistant_part(&path, part, calls)).collect::<Result<_>>()?))
        }
        Role::Tool => {
            Ok(Message::Tool(parts.map(|(path, part)| tool_part(&path, part, calls)).collect::<Result<_>>()?))
        }
        Role::Unspecified => {
            Err(Invalid::new(format!("{path}.role"), "must be ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL"))
        }
    }
}

fn user_part(path: &str, part: pb::ContentPart) -> Result<UserPart> {
    match part.part {
        Some(Part::Text(text)) => Ok(UserPart::Text(not_empty(&format!("{path}.text.text"), text.text)?)),
        Some(Part::Image(image)) => Ok(UserPart::Image(self::image(&format!("{path}.image"), image)?)),
        Some(Part::ToolCall(_) | Part::ToolResult(_)) => {
            Err(Invalid::new(path, "must be a text or an image: it stands in what a user or a tool says"))
        }
        None => Err(Invalid::new(path, "must be set")),
    }
}

fn assistant_part(path: &str, part: pb::ContentPart, calls: &mut HashMap<String, String>) -> Result<AssistantPart> {
    match part.part {
        Some(Part::Text(text)) => Ok(AssistantPart::Text(not_empty(&format!("{path}.text.text"), text.text)?)),
        Some(Part::ToolCall(call)) => {
            let call = tool_call(&format!("{path}.tool_call"), call)?;
            if calls.insert(call.id.clone(), call.name.clone()).is_some() {
                return Err(Invalid::new(format!("{path}.tool_call.id"), "is the id of an earlier call too"));
            }
            Ok(AssistantPart::ToolCall(call))
        }
        Some(Part::Image(_) | Part::ToolResult(_)) => {
            Err(Invalid::new(path, "must be a text or a tool call: it stands in a message of the assistant"))
        }
        None => Err(Invalid::new(path, "must be set")),
    }
}

fn tool_call(path: &str, call: pb::ToolCallPart) -> Result<ToolCall> {
    if call.incomplete {
        return Err(Invalid::new(format!("{path}.incomplete"), "must be false: leave out calls that were cut off"));
    }
    let id = not_empty(&format!("{path}.id"), call.id)?;
    let name = tool_name(&format!("{path}.name"), call.name)?;
    let arguments = if call.arguments.is_empty() { "{}".to_owned() } else { call.arguments };
    json_object(&format!("{path}.arguments"), &arguments)?;
    Ok(ToolCall { id, name, arguments })
}

fn tool_part(path: &str, part: pb::ContentPart, calls: &HashMap<String, String>) -> Result<ToolResult> {
    let Some(Part::ToolResult(result)) = part.part else {
        return Err(Invalid::new(path, "must be a tool result: it stands in a message of tools"));
    };
    let path = format!("{path}.tool_result");
    let Some(name) = calls.get(&result.tool_call_id) else {
        return Err(Invalid::new(
            format!("{path}.tool_call_id"),
            "is not the id of a call in an earlier message of the assistant",
        ));
    };
    let content = result
        .content
        .into_iter()
        .enumerate()
        .map(|(n, part)| user_part(&format!("{path}.content[{n}]"), part))
        .collect::<Result<_>>()?;
    Ok(ToolResult { call_id: result.tool_call_id, name: name.clone(), content, is_error: result.is_error })
}

fn image(path: &str, image: pb::ImagePart) -> Result<Image> {
    let media_type = image.media_type;
    let known = IMAGE_TYPES.contains(&media_type.as_str());
    let type_path = format!("{path}.media_type");
    let type_problem = format!("must be one of {}", IMAGE_TYPES.join(", "));
    let source = match image.source {
        Some(Source::Data(data)) if data.is_empty() => {
            return Err(Invalid::new(format!("{path}.data"), "must not be empty"));
        }
        Some(Source::Data(_)) if !known => return Err(Invalid::new(type_path, type_problem)),
        Some(Source::Url(_)) if !known && !media_type.is_empty() => return Err(Invalid::new(type_path, type_problem)),
        Some(Source::Data(data)) => ImageSource::Data(data),
        Some(Source::Url(url)) => {
            let scheme_fits = url.starts_with("https://") || url.starts_with("gs://");
            if !scheme_fits || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(Invalid::new(format!("{path}.url"), "must be an https:// URL"));
            }
            ImageSource::Url(url)
        }
        None => return Err(Invalid::new(path, "must have data or a url")),
    };
    Ok(Image { source, media_type })
}

pub(super) fn tools(tools: Vec<pb::Tool>) -> Result<Vec<Tool>> {
    let mut checked: Vec<Tool> = Vec::with_capacity(tools.len());
    for (n, tool) in tools.into_iter().enumerate() {
        let path = format!("tools[{n}]");
        let name = tool_name(&format!("{path}.name"), tool.name)?;
        if checked.iter().any(|other| other.name == name) {
            return Err(Invalid::new(format!("{path}.name"), "is the name of another tool too"));
        }
        if !tool.parameters.is_empty() {
            json_object(&format!("{path}.parameters"), &tool.parameters)?;
        }
        checked.push(Tool { name, description: tool.description, parameters: tool.parameters });
    }
    Ok(checked)
}

pub(super) fn tool_choice(choice: pb::ToolChoice, tools: &[Tool]) -> Result<ToolChoice> {
    let mode = choice.mode();
    if mode != Mode::Tool && !choice.tool_name.is_empty() {
        return Err(Invalid::new("tool_choice.tool_name", "is for MODE_TOOL only"));
    }
    if tools.is_empty() {
        return Err(Invalid::new("tool_choice", "needs tools to choose from"));
    }
    match mode {
        Mode::Auto => Ok(ToolChoice::Auto),
        Mode::None => Ok(ToolChoice::None),
        Mode::Required => Ok(ToolChoice::Required),
        Mode::Tool if tools.iter().any(|tool| tool.name == choice.tool_name) => Ok(ToolChoice::Tool(choice.tool_name)),
        Mode::Tool => Err(Invalid::new("tool_choice.tool_name", "is not the name of a tool of this request")),
        Mode::Unspecified => {
            Err(Invalid::new("tool_choice.mode", "must be MODE_AUTO, MODE_NONE, MODE_REQUIRED or MODE_TOOL"))
        }
    }
}

fn not_empty(path: &str, text: String) -> Result<String> {
    if text.is_empty() { Err(Invalid::new(path, "must not be empty")) } else { Ok(text) }
}

fn tool_name(path: &str, name: String) -> Result<String> {
    let fits = (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits { Ok(name) } else { Err(Invalid::new(path, "must be 1 to 128 of A-Z a-z 0-9 _ . -")) }
}

/// Refuses what is not the text of a JSON object. The text itself goes on unchanged.
fn json_object(path: &str, text: &str) -> Result<()> {
    let is_object = text.trim_start().starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok();
    if is_object { Ok(()) } else { Err(Invalid::new(path, "must be a JSON object, as text")) }
}
