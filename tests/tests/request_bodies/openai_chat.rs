//! What a recorded request to Chat Completions says, in the contract.

use proto::{
    chat::{
        AudioPart, ContentPart, Message, OpenAiApi, Reasoning, RefusalPart, ResponseFormat, StreamChatRequest, Tool,
        ToolChoice, content_part::Part, document_part, image_part, message::Role, reasoning, response_format::Type,
        tool_choice::Mode,
    },
    types::Provider,
};
use serde_json::Value;

use crate::contract::{
    Fields, Turns, all_of, bytes, call, data_url, document, effort, image, own, part, replaced, result, single_text,
    text,
};

pub(crate) fn request(body: &Value) -> StreamChatRequest {
    let mut fields = Fields::of(body).expect("a request is an object");
    let mut request = StreamChatRequest { openai_api: OpenAiApi::ChatCompletions.into(), ..Default::default() };
    // Said by the call itself.
    fields.text("model");
    fields.flag("stream");
    fields.within("stream_options", |options| options.flag("include_usage"));
    (request.system, request.messages) =
        fields.take("messages", conversation).unwrap_or_else(|| (String::new(), replaced()));
    request.tools = fields.take("tools", tools).unwrap_or_default();
    if !request.tools.is_empty() {
        request.tool_choice = fields.take("tool_choice", tool_choice);
    }
    request.parallel_tool_calls = fields.flag("parallel_tool_calls");
    let limit = fields.whole_number("max_completion_tokens");
    request.max_output_tokens = limit.or_else(|| fields.whole_number("max_tokens"));
    request.temperature = fields.number("temperature");
    request.top_p = fields.number("top_p");
    request.presence_penalty = fields.number("presence_penalty");
    request.frequency_penalty = fields.number("frequency_penalty");
    request.seed = fields.take("seed", Value::as_i64);
    request.stop_sequences = fields.take("stop", stop).unwrap_or_default();
    request.response_format = fields.object("response_format", response_format);
    request.reasoning = fields.take("reasoning_effort", |word| {
        let amount = Some(reasoning::Amount::Effort(effort(word.as_str()?)?.into()));
        Some(Reasoning { amount, ..Reasoning::default() })
    });
    request.metadata = fields.take("metadata", labels).unwrap_or_default();
    request.provider_options = fields.options();
    request
}

pub(crate) fn labels(value: &Value) -> Option<std::collections::HashMap<String, String>> {
    value.as_object()?.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn stop(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        texts => texts.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
    }
}

/// What stands before the conversation, and the conversation.
fn conversation(value: &Value) -> Option<(String, Vec<Message>)> {
    let (mut system, mut turns) = (String::new(), Turns::default());
    for message in value.as_array()? {
        let message = &mut Fields::of(message)?;
        match message.text("role")?.as_str() {
            "system" | "developer" if turns.is_empty() && system.is_empty() => {
                system = message.take("content", |content| single_text(content, "text"))?;
            }
            "user" => {
                for block in blocks(message)? {
                    turns.add(Role::User, user_part(&block));
                }
            }
            "assistant" => {
                for part in assistant_parts(message)? {
                    turns.add(Role::Assistant, part);
                }
            }
            "tool" => {
                let content = blocks(message)?.iter().map(user_part).collect();
                turns.add(Role::Tool, part(Part::ToolResult(result(message.text("tool_call_id")?, content))));
            }
            _ => return None,
        }
        // A name, for example: the contract has none.
        if message.clone().options().is_some() {
            return None;
        }
    }
    Some((system, turns.into_messages()))
}

/// The content, which may be a string.
fn blocks(message: &mut Fields) -> Option<Vec<Value>> {
    match message.text("content") {
        Some(said) if said.is_empty() => Some(Vec::new()),
        Some(said) => Some(vec![serde_json::json!({"type": "text", "text": said})]),
        None => message.list("content"),
    }
}

fn user_part(block: &Value) -> ContentPart {
    let common = all_of(block, |block| match block.text("type")?.as_str() {
        "text" => Some(text(block.text("text")?)),
        "image_url" => block.object("image_url", |image| {
            let detail = image.text("detail").unwrap_or_default();
            Some(image_of(&image.text("url")?, detail))
        }),
        "input_audio" => block.object("input_audio", |audio| {
            let media_type = match audio.text("format")?.as_str() {
                "wav" => "audio/wav",
                "mp3" => "audio/mpeg",
                _ => return None,
            };
            let data = bytes(&audio.text("data")?)?;
            Some(part(Part::Audio(AudioPart { data, media_type: media_type.to_owned() })))
        }),
        "file" => block.object("file", file),
        _ => None,
    });
    common.unwrap_or_else(|| own(Provider::Openai, block))
}

/// An image at a URL, which may hold it.
pub(crate) fn image_of(url: &str, detail: String) -> ContentPart {
    match data_url(url) {
        Some((media_type, data)) => image(image_part::Source::Data(data), media_type, detail),
        None => image(image_part::Source::Url(url.to_owned()), String::new(), detail),
    }
}

/// A document. The contract has no other than PDF for OpenAI.
pub(crate) fn file(file: &mut Fields) -> Option<ContentPart> {
    let title = file.text("filename").unwrap_or_default();
    let (source, media_type) = match file.text("file_data") {
        Some(url) => {
            let (media_type, data) = data_url(&url).filter(|(media_type, _)| media_type == "application/pdf")?;
            (document_part::Source::Data(data), media_type)
        }
        None => (document_part::Source::FileId(file.text("file_id")?), String::new()),
    };
    Some(part(Part::Document(document(source, media_type, title))))
}

fn assistant_parts(message: &mut Fields) -> Option<Vec<ContentPart>> {
    let refused = |text| part(Part::Refusal(RefusalPart { text }));
    let mut parts = Vec::new();
    for block in blocks(message).unwrap_or_default() {
        parts.push(all_of(&block, |block| match block.text("type")?.as_str() {
            "text" => block.text("text").map(text),
            "refusal" => block.text("refusal").map(refused),
            _ => None,
        })?);
    }
    parts.extend(message.text("refusal").map(refused));
    for tool_call in message.list("tool_calls").unwrap_or_default() {
        parts.push(all_of(&tool_call, |tool_call| {
            tool_call.text("type").filter(|kind| kind == "function")?;
            let id = tool_call.text("id")?;
            tool_call.object("function", |function| {
                Some(part(Part::ToolCall(call(id, function.text("name")?, function.text("arguments")?))))
            })
        })?);
    }
    Some(parts)
}

/// All of them are functions, or they are left to the provider's options.
fn tools(value: &Value) -> Option<Vec<Tool>> {
    let tool = |tool: &mut Fields| {
        tool.text("type").filter(|kind| kind == "function")?;
        tool.object("function", function)
    };
    value.as_array()?.iter().map(|value| all_of(value, tool)).collect()
}

/// The fields of a function are the same in both of OpenAI's APIs.
pub(crate) fn function(function: &mut Fields) -> Option<Tool> {
    Some(Tool {
        name: function.text("name")?,
        description: function.text("description").unwrap_or_default(),
        parameters: function.json("parameters").unwrap_or_default(),
        strict: function.flag("strict"),
        ..Tool::default()
    })
}

fn tool_choice(value: &Value) -> Option<ToolChoice> {
    mode(value).or_else(|| {
        all_of(value, |choice| {
            choice.text("type").filter(|kind| kind == "function")?;
            let tool_name = choice.object("function", |function| function.text("name"))?;
            Some(ToolChoice { mode: Mode::Tool.into(), tool_name })
        })
    })
}

/// A choice that names no tool.
pub(crate) fn mode(value: &Value) -> Option<ToolChoice> {
    let mode = match value.as_str()? {
        "auto" => Mode::Auto,
        "none" => Mode::None,
        "required" => Mode::Required,
        _ => return None,
    };
    Some(ToolChoice { mode: mode.into(), tool_name: String::new() })
}

fn response_format(format: &mut Fields) -> Option<ResponseFormat> {
    match format.text("type")?.as_str() {
        "json_schema" => format.object("json_schema", schema),
        kind => plain_format(kind),
    }
}

/// A format without a schema.
pub(crate) fn plain_format(kind: &str) -> Option<ResponseFormat> {
    let kind = match kind {
        "text" => Type::Text,
        "json_object" => Type::Json,
        _ => return None,
    };
    Some(ResponseFormat { r#type: kind.into(), ..ResponseFormat::default() })
}

/// The fields of a schema are the same in both of OpenAI's APIs.
pub(crate) fn schema(format: &mut Fields) -> Option<ResponseFormat> {
    Some(ResponseFormat {
        r#type: Type::JsonSchema.into(),
        schema: format.json("schema")?,
        name: format.text("name")?,
        description: format.text("description").unwrap_or_default(),
        strict: format.flag("strict"),
    })
}
