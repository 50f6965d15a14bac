//! The conversation of a request: messages and their parts. Paths of refused fields are
//! those of the contract: `messages[2].parts[0].image.url`.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use proto::{
    chat::{self as pb, content_part::Part as Sent, document_part, image_part, message::Role},
    types,
};
use service_runtime::fields::Invalid;

use super::{
    Result,
    options::{cache_control, json_object},
    provider,
};
use crate::message::{
    AssistantPart, Audio, Document, FileSource, Image, Message, Part, ProviderPart, Reasoning, ToolCall, ToolResult,
    UserPart,
};

/// Images that all three providers read.
const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// How closely an image is looked at.
const IMAGE_DETAILS: [&str; 4] = ["", "auto", "low", "high"];

/// The names of the calls so far, for the results that answer them.
type Calls = HashMap<String, String>;

pub(super) fn messages(messages: Vec<pb::Message>) -> Result<Vec<Message>> {
    if messages.is_empty() {
        return Err(Invalid::new("messages", "must have a message"));
    }
    let mut calls = Calls::new();
    messages.into_iter().enumerate().map(|(n, message)| one(&format!("messages[{n}]"), message, &mut calls)).collect()
}

fn one(path: &str, message: pb::Message, calls: &mut Calls) -> Result<Message> {
    let role = message.role();
    if message.parts.is_empty() {
        return Err(Invalid::new(format!("{path}.parts"), "must have a part"));
    }
    let path = format!("{path}.parts");
    match role {
        Role::User => Ok(Message::User(parts(&path, message.parts, user_part)?)),
        Role::Assistant => {
            let mut own = HashSet::new();
            let read = |path: &str, part| assistant_part(path, part, calls, &mut own);
            Ok(Message::Assistant(parts(&path, message.parts, read)?))
        }
        Role::Tool => Ok(Message::Tool(parts(&path, message.parts, |path, part| tool_part(path, part, calls))?)),
        Role::Unspecified => {
            Err(Invalid::new(path.replace(".parts", ".role"), "must be ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL"))
        }
    }
}

/// The parts of a message or a result, each read by `read`.
fn parts<T>(
    path: &str,
    parts: Vec<pb::ContentPart>,
    mut read: impl FnMut(&str, Sent) -> Result<T>,
) -> Result<Vec<Part<T>>> {
    let one = |(n, part): (usize, pb::ContentPart)| {
        let path = format!("{path}[{n}]");
        let cache =
            part.cache_control.map(|cache| cache_control(&format!("{path}.cache_control"), cache)).transpose()?;
        let content = read(&path, part.part.ok_or_else(|| Invalid::new(path.clone(), "must be set"))?)?;
        Ok(Part { content, cache })
    };
    parts.into_iter().enumerate().map(one).collect()
}

fn user_part(path: &str, part: Sent) -> Result<UserPart> {
    match part {
        Sent::Text(text) if !text.signature.is_empty() => {
            Err(Invalid::new(format!("{path}.text.signature"), "stands in what the assistant says"))
        }
        Sent::Text(text) => Ok(UserPart::Text(not_empty(&format!("{path}.text.text"), text.text)?)),
        Sent::Image(image) => Ok(UserPart::Image(self::image(&format!("{path}.image"), image)?)),
        Sent::Document(document) => Ok(UserPart::Document(self::document(&format!("{path}.document"), document)?)),
        Sent::Audio(audio) => Ok(UserPart::Audio(self::audio(&format!("{path}.audio"), audio)?)),
        Sent::Provider(part) => Ok(UserPart::Provider(provider_part(&format!("{path}.provider"), part)?)),
        Sent::ToolCall(_) | Sent::ToolResult(_) | Sent::Reasoning(_) | Sent::Refusal(_) => Err(Invalid::new(
            path,
            "must be text, an image, a document, audio or a part of the provider's: it stands in what a user or a tool says",
        )),
    }
}

/// `own` has the ids of the calls of the same message.
fn assistant_part(path: &str, part: Sent, calls: &mut Calls, own: &mut HashSet<String>) -> Result<AssistantPart> {
    match part {
        Sent::Text(text) if text.signature.is_empty() => {
            let text = not_empty(&format!("{path}.text.text"), text.text)?;
            Ok(AssistantPart::Text { text, signature: String::new() })
        }
        Sent::Text(text) => Ok(AssistantPart::Text { text: text.text, signature: text.signature }),
        Sent::Reasoning(reasoning) => Ok(AssistantPart::Reasoning(self::reasoning(path, reasoning)?)),
        Sent::Refusal(refusal) => Ok(AssistantPart::Refusal(not_empty(&format!("{path}.refusal.text"), refusal.text)?)),
        Sent::ToolCall(call) => {
            let call = tool_call(&format!("{path}.tool_call"), call)?;
            if !own.insert(call.id.clone()) {
                return Err(Invalid::new(format!("{path}.tool_call.id"), "is the id of another call of the message"));
            }
            // Some servers count their calls anew in each answer: a result is of the latest.
            calls.insert(call.id.clone(), call.name.clone());
            Ok(AssistantPart::ToolCall(call))
        }
        Sent::Provider(part) => Ok(AssistantPart::Provider(provider_part(&format!("{path}.provider"), part)?)),
        Sent::Image(_) | Sent::Document(_) | Sent::Audio(_) | Sent::ToolResult(_) => Err(Invalid::new(
            path,
            "must be text, reasoning, a tool call, a refusal or a part of the provider's: it stands in a message of the assistant",
        )),
    }
}

fn reasoning(path: &str, part: pb::ReasoningPart) -> Result<Reasoning> {
    let path = format!("{path}.reasoning");
    let provider = match part.provider() {
        types::Provider::Unspecified => None,
        known => Some(provider(&format!("{path}.provider"), known)?),
    };
    let pb::ReasoningPart { text, signature, redacted_data, id, .. } = part;
    if text.is_empty() && signature.is_empty() && redacted_data.is_empty() && id.is_empty() {
        return Err(Invalid::new(path, "must not be empty"));
    }
    let says_more = !text.is_empty() || !signature.is_empty();
    if says_more && !redacted_data.is_empty() {
        return Err(Invalid::new(format!("{path}.redacted_data"), "stands alone: without a text and a signature"));
    }
    Ok(Reasoning { provider, text, signature, redacted_data, id })
}

fn tool_call(path: &str, call: pb::ToolCallPart) -> Result<ToolCall> {
    if call.incomplete {
        return Err(Invalid::new(format!("{path}.incomplete"), "must be false: leave out calls that were cut off"));
    }
    let id = not_empty(&format!("{path}.id"), call.id)?;
    // As a model wrote it, which may call what there is not.
    let name = not_empty(&format!("{path}.name"), call.name)?;
    let arguments = match call.arguments.trim() {
        "" | "null" => "{}".to_owned(),
        _ => call.arguments,
    };
    json_object(&format!("{path}.arguments"), &arguments)?;
    Ok(ToolCall { id, name, arguments, signature: call.signature })
}

fn tool_part(path: &str, part: Sent, calls: &Calls) -> Result<ToolResult> {
    let Sent::ToolResult(result) = part else {
        return Err(Invalid::new(path, "must be a tool result: it stands in a message of tools"));
    };
    let path = format!("{path}.tool_result");
    let Some(name) = calls.get(&result.tool_call_id) else {
        return Err(Invalid::new(
            format!("{path}.tool_call_id"),
            "is not the id of a call in an earlier message of the assistant",
        ));
    };
    let content = parts(&format!("{path}.content"), result.content, user_part)?;
    Ok(ToolResult { call_id: result.tool_call_id, name: name.clone(), content, is_error: result.is_error })
}

fn image(path: &str, image: pb::ImagePart) -> Result<Image> {
    use image_part::Source;
    let source = match image.source {
        Some(Source::Data(data)) => self::data(path, data)?,
        Some(Source::Url(url)) => self::url(path, url)?,
        Some(Source::FileId(id)) => file_id(path, id)?,
        None => return Err(Invalid::new(path, "must have data, a url or a file_id")),
    };
    let is_known = IMAGE_TYPES.contains(&image.media_type.as_str());
    if !is_known && (matches!(source, FileSource::Data(_)) || !image.media_type.is_empty()) {
        let problem = format_args!("must be one of {}", IMAGE_TYPES.join(", "));
        return Err(Invalid::new(format!("{path}.media_type"), problem));
    }
    if !IMAGE_DETAILS.contains(&image.detail.as_str()) {
        return Err(Invalid::new(format!("{path}.detail"), "must be auto, low or high"));
    }
    Ok(Image { source, media_type: image.media_type, detail: image.detail })
}

fn document(path: &str, document: pb::DocumentPart) -> Result<Document> {
    use document_part::Source;
    let source = match document.source {
        Some(Source::Data(data)) => self::data(path, data)?,
        Some(Source::Url(url)) => self::url(path, url)?,
        Some(Source::FileId(id)) => file_id(path, id)?,
        None => return Err(Invalid::new(path, "must have data, a url or a file_id")),
    };
    let type_path = format!("{path}.media_type");
    let media_type = match source {
        FileSource::Url(_) | FileSource::FileId(_) if document.media_type.is_empty() => String::new(),
        FileSource::Data(_) | FileSource::Url(_) | FileSource::FileId(_) => {
            media_type(&type_path, document.media_type)?
        }
    };
    let pb::DocumentPart { title, context, citations, .. } = document;
    Ok(Document { source, media_type, title, context, citations })
}

fn audio(path: &str, audio: pb::AudioPart) -> Result<Audio> {
    if audio.data.is_empty() {
        return Err(Invalid::new(format!("{path}.data"), "must not be empty"));
    }
    Ok(Audio { data: audio.data, media_type: media_type(&format!("{path}.media_type"), audio.media_type)? })
}

fn provider_part(path: &str, part: pb::ProviderPart) -> Result<ProviderPart> {
    let provider = provider(&format!("{path}.provider"), part.provider())?;
    json_object(&format!("{path}.json"), &part.json)?;
    Ok(ProviderPart { provider, json: part.json })
}

fn data(path: &str, data: Bytes) -> Result<FileSource> {
    if data.is_empty() {
        return Err(Invalid::new(format!("{path}.data"), "must not be empty"));
    }
    Ok(FileSource::Data(data))
}

fn url(path: &str, url: String) -> Result<FileSource> {
    let scheme_fits = url.starts_with("https://") || url.starts_with("gs://");
    if !scheme_fits || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::new(format!("{path}.url"), "must be an https:// URL"));
    }
    Ok(FileSource::Url(url))
}

fn file_id(path: &str, id: String) -> Result<FileSource> {
    if id.is_empty() || id.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::new(format!("{path}.file_id"), "must be the id of a file"));
    }
    Ok(FileSource::FileId(id))
}

/// A media type without parameters: RFC 6838, section 4.2.
fn media_type(path: &str, text: String) -> Result<String> {
    let is_name = |name: &str| {
        (1..=127).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match text.split_once('/') {
        Some((kind, name)) if is_name(kind) && is_name(name) => Ok(text),
        Some(_) | None => Err(Invalid::new(path, "must be a media type such as application/pdf")),
    }
}

fn not_empty(path: &str, text: String) -> Result<String> {
    if text.is_empty() { Err(Invalid::new(path, "must not be empty")) } else { Ok(text) }
}
