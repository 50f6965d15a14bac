//! The messages of a request.
//!
//! What is odd: an assistant's message has one text, one refusal and its calls, in no
//! order between them, and no place for what it thought; a tool's result is text.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Typed;
use crate::{
    message::{
        AssistantPart, Audio, Chat, Document, FileSource, Image, Message, Part as Cached, Provider, ProviderPart,
        Reasoning, ToolResult, UserPart,
    },
    provider::{
        Unsupported,
        json_text::{self, Base64, DataUrl},
        limits,
        openai::models::is_reasoning,
        place::Place,
    },
};

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum Turn<'a> {
    System { content: &'a str },
    Developer { content: &'a str },
    User { content: Content<'a> },
    Assistant(Answer<'a>),
    Tool { tool_call_id: &'a str, content: Content<'a> },
}

#[derive(Serialize)]
pub(super) struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

/// One text is sent as such: some servers that imitate the API take nothing else.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Null,
    Text(&'a str),
    Parts(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Part<'a> {
    Common(CommonPart<'a>),
    Own(&'a RawValue),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum CommonPart<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
    File { file: File<'a> },
    InputAudio { input_audio: Recording<'a> },
}

#[derive(Serialize)]
pub(super) struct ImageUrl<'a> {
    url: Url<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Url<'a> {
    Data(DataUrl<'a>),
    Elsewhere(&'a str),
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum File<'a> {
    Data { filename: &'a str, file_data: DataUrl<'a> },
    Uploaded { file_id: &'a str },
}

#[derive(Serialize)]
pub(super) struct Recording<'a> {
    data: Base64<'a>,
    format: &'static str,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(flatten)]
    function: Typed<CalledFunction<'a>>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// The instructions and the conversation.
pub(super) fn turns<'a>(model: &str, chat: &'a Chat) -> Result<Vec<Turn<'a>>, Unsupported> {
    let mut turns = Vec::with_capacity(chat.messages.len() + 1);
    let content = chat.system.as_str();
    match is_reasoning(model) {
        _ if content.is_empty() => {}
        true => turns.push(Turn::Developer { content }),
        false => turns.push(Turn::System { content }),
    }
    for (message, turn) in chat.messages.iter().enumerate() {
        let place = |part| Place { message, part, content: None };
        match turn {
            Message::User(parts) => {
                let parts = parts.iter().enumerate().map(|(at, part)| said(place(at), &part.content));
                turns.push(Turn::User { content: Content::of(parts.collect::<Result<_, _>>()?) });
            }
            Message::Assistant(parts) => turns.push(Turn::Assistant(answer(message, parts)?)),
            Message::Tool(results) => {
                for (at, result) in results.iter().enumerate() {
                    turns.push(returned(place(at), &result.content)?);
                }
            }
        }
    }
    Ok(turns)
}

impl Place {
    fn refuses(self, field: &str, problem: impl Into<String>) -> Unsupported {
        Unsupported { field: format!("{self}.{field}"), problem: problem.into() }
    }

    fn own(self, part: &ProviderPart) -> Result<Part<'_>, Unsupported> {
        let json = limits::own_part(Provider::OpenAi, part, || self.to_string())?;
        Ok(Part::Own(json_text::borrow(json, || format!("{self}.provider.json"))?))
    }
}

impl<'a> Content<'a> {
    fn of(parts: Vec<Part<'a>>) -> Self {
        match parts.as_slice() {
            [] => Self::Text(""),
            [Part::Common(CommonPart::Text { text })] => Self::Text(text),
            _ => Self::Parts(parts),
        }
    }
}

fn text(text: &str) -> Part<'_> {
    Part::Common(CommonPart::Text { text })
}

/// A part of what a user says.
fn said(place: Place, part: &UserPart) -> Result<Part<'_>, Unsupported> {
    Ok(Part::Common(match part {
        UserPart::Text(text) => CommonPart::Text { text },
        UserPart::Image(image) => CommonPart::ImageUrl { image_url: image_url(place, image)? },
        UserPart::Document(document) => CommonPart::File { file: file(place, document)? },
        UserPart::Audio(audio) => CommonPart::InputAudio { input_audio: recording(place, audio)? },
        UserPart::Provider(part) => return place.own(part),
    }))
}

fn image_url(place: Place, image: &Image) -> Result<ImageUrl<'_>, Unsupported> {
    let url = match &image.source {
        FileSource::Data(data) => Url::Data(DataUrl { media_type: &image.media_type, data }),
        FileSource::Url(url) => Url::Elsewhere(url),
        FileSource::FileId(_) => {
            return Err(place.refuses(
                "image.file_id",
                "Chat Completions takes no image by the id of a file; send the image or its URL",
            ));
        }
    };
    Ok(ImageUrl { url, detail: &image.detail })
}

fn file(place: Place, document: &Document) -> Result<File<'_>, Unsupported> {
    if !document.context.is_empty() {
        return Err(place.refuses("document.context", "OpenAI has no context of a document; say it as text"));
    }
    if document.citations {
        return Err(place.refuses("document.citations", "OpenAI does not cite documents; leave it unset"));
    }
    match &document.source {
        FileSource::Data(data) if document.media_type.eq_ignore_ascii_case("application/pdf") => {
            let filename = if document.title.is_empty() { "document.pdf" } else { &document.title };
            Ok(File::Data { filename, file_data: DataUrl { media_type: &document.media_type, data } })
        }
        FileSource::Data(_) => Err(place.refuses(
            "document.media_type",
            format!("Chat Completions reads application/pdf, not {}; send other text as text", document.media_type),
        )),
        FileSource::FileId(_) if !document.title.is_empty() => {
            Err(place.refuses("document.title", "a file that was uploaded has its name already; leave it unset"))
        }
        FileSource::FileId(file_id) => Ok(File::Uploaded { file_id }),
        FileSource::Url(_) => {
            Err(place.refuses("document.url", "Chat Completions fetches no documents; send the document itself"))
        }
    }
}

fn recording(place: Place, audio: &Audio) -> Result<Recording<'_>, Unsupported> {
    let format = match audio.media_type.to_ascii_lowercase().as_str() {
        "audio/wav" | "audio/x-wav" => "wav",
        "audio/mpeg" | "audio/mp3" => "mp3",
        other => {
            let problem = format!("Chat Completions hears audio/wav and audio/mpeg, not {other}");
            return Err(place.refuses("audio.media_type", problem));
        }
    };
    Ok(Recording { data: Base64(&audio.data), format })
}

/// A turn of the assistant. The order of text and calls between each other has no form
/// here, nor has the signature that another provider gives them.
fn answer(message: usize, parts: &[Cached<AssistantPart>]) -> Result<Answer<'_>, Unsupported> {
    let (mut texts, mut refusal, mut tool_calls) = (Vec::new(), None::<Cow<'_, str>>, Vec::new());
    for (part, found) in parts.iter().enumerate() {
        let place = Place { message, part, content: None };
        match &found.content {
            AssistantPart::Text { text: said, .. } if said.is_empty() => {}
            AssistantPart::Text { text: said, .. } => texts.push(text(said)),
            AssistantPart::Refusal(words) => match &mut refusal {
                Some(all) => all.to_mut().push_str(words),
                None => refusal = Some(Cow::Borrowed(words)),
            },
            AssistantPart::ToolCall(call) => {
                let function = Typed::new(CalledFunction { name: &call.name, arguments: &call.arguments });
                tool_calls.push(Call { id: &call.id, function });
            }
            AssistantPart::Reasoning(reasoning) => check_reasoning(place, reasoning)?,
            AssistantPart::Provider(part) => return Err(unplaced(place, part)),
        }
    }
    let content = match (texts.is_empty(), &refusal, tool_calls.is_empty()) {
        (false, _, _) => Some(Content::of(texts)),
        (true, _, false) => None,
        // What the API itself says beside a refusal. A turn of which all was left out is
        // still a turn.
        (true, Some(_), true) => Some(Content::Null),
        (true, None, true) => Some(Content::Text("")),
    };
    Ok(Answer { content, refusal, tool_calls })
}

/// There is no place for what a model thought. Words alone are left out: no API of OpenAI
/// takes them back without what is encrypted, so nothing is lost that could be used. What
/// Responses would take back is not left out in silence.
fn check_reasoning(place: Place, reasoning: &Reasoning) -> Result<(), Unsupported> {
    let is_words = reasoning.signature.is_empty() && reasoning.redacted_data.is_empty() && reasoning.id.is_empty();
    if is_words || !reasoning.is_of(Provider::OpenAi) {
        return Ok(());
    }
    Err(place.refuses(
        "reasoning",
        "Chat Completions takes no reasoning back; set openai_api to OPEN_AI_API_RESPONSES or leave the part out",
    ))
}

/// What Chat Completions answers has no parts of its own.
fn unplaced(place: Place, part: &ProviderPart) -> Unsupported {
    place.own(part).err().unwrap_or_else(|| {
        place.refuses(
            "provider",
            "Chat Completions takes no such part in an answer; set openai_api to OPEN_AI_API_RESPONSES or leave it out",
        )
    })
}

/// A tool's result. That the call failed has no field: the text says so.
fn returned(place: Place, result: &ToolResult) -> Result<Turn<'_>, Unsupported> {
    let mut parts = Vec::with_capacity(result.content.len());
    for (at, content) in result.content.iter().enumerate() {
        let place = Place { content: Some(at), ..place };
        let refused = |kind: &str| {
            let problem = "Chat Completions takes only text as a tool's result; send this in a message of the user";
            Err(place.refuses(kind, problem))
        };
        parts.push(match &content.content {
            UserPart::Text(said) => text(said),
            UserPart::Provider(part) => place.own(part)?,
            UserPart::Image(_) => return refused("image"),
            UserPart::Document(_) => return refused("document"),
            UserPart::Audio(_) => return refused("audio"),
        });
    }
    Ok(Turn::Tool { tool_call_id: &result.call_id, content: Content::of(parts) })
}
