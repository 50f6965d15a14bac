//! The conversation: turns of two roles, each of blocks.
//!
//! What is odd: results of tools are said by the user, before all else that it says; an
//! empty text is refused by Anthropic; what a model thought must come back as it was.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Cache, WHO, refuse};
use crate::{
    message::{
        AssistantPart, Chat, Document, FileSource, Image, Message, Part, ProviderPart, Reasoning, ToolCall, ToolResult,
        UserPart,
    },
    provider::{Unsupported, json_text, json_text::Base64, limits, place::Place},
};

#[derive(Serialize)]
pub(super) struct Turn<'a> {
    role: Role,
    content: Vec<Block<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Assistant,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
    },
    Image {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "str::is_empty")]
        title: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        context: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        citations: Option<Citations>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Cache>,
    },
    /// Whatever has no common form.
    #[serde(untagged)]
    Own(&'a RawValue),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Source<'a> {
    Base64 { media_type: &'a str, data: Base64<'a> },
    Text { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    File { file_id: &'a str },
}

#[derive(Serialize)]
pub(super) struct Citations {
    enabled: bool,
}

/// The conversation as turns of two roles, each once in a row.
pub(super) fn turns(messages: &[Message]) -> Result<Vec<Turn<'_>>, Unsupported> {
    let mut turns = Turns::default();
    for (message, said) in messages.iter().enumerate() {
        let place = |part| Place { message, part, content: None };
        match said {
            Message::User(parts) => turns.add(Role::User, blocks(parts, place, user_block)?),
            Message::Assistant(parts) => turns.add(Role::Assistant, blocks(parts, place, assistant_block)?),
            Message::Tool(results) => turns.add_results(blocks(results, place, result_block)?),
        }
    }
    Ok(turns.into_whole())
}

/// Whether a file is named that was uploaded before. Anthropic asks for a header then.
pub(in crate::provider::anthropic) fn names_files(chat: &Chat) -> bool {
    let in_own = |part: &ProviderPart| part.json.contains("\"file_id\"");
    let in_user = |part: &Part<UserPart>| match &part.content {
        UserPart::Image(Image { source, .. }) | UserPart::Document(Document { source, .. }) => {
            matches!(source, FileSource::FileId(_))
        }
        UserPart::Provider(part) => in_own(part),
        UserPart::Text(_) | UserPart::Audio(_) => false,
    };
    chat.messages.iter().any(|message| match message {
        Message::User(parts) => parts.iter().any(in_user),
        Message::Tool(results) => results.iter().any(|result| result.content.content.iter().any(in_user)),
        Message::Assistant(parts) => {
            parts.iter().any(|part| matches!(&part.content, AssistantPart::Provider(part) if in_own(part)))
        }
    })
}

#[derive(Default)]
struct Turns<'a> {
    whole: Vec<Turn<'a>>,
    /// The results of tools that lead the last turn. They come to it when it is whole.
    results: Vec<Block<'a>>,
}

impl<'a> Turns<'a> {
    fn add(&mut self, role: Role, blocks: Vec<Block<'a>>) {
        if !blocks.is_empty() {
            self.last(role).extend(blocks);
        }
    }

    /// Results stand before any text of their turn, or Anthropic takes them for missing.
    fn add_results(&mut self, results: Vec<Block<'a>>) {
        self.last(Role::User);
        self.results.extend(results);
    }

    fn last(&mut self, role: Role) -> &mut Vec<Block<'a>> {
        if self.whole.last().is_none_or(|turn| turn.role != role) {
            self.join();
            self.whole.push(Turn { role, content: Vec::new() });
        }
        let last = self.whole.len() - 1;
        &mut self.whole[last].content
    }

    /// Puts the results before what else the last turn says.
    fn join(&mut self) {
        if let Some(turn) = self.whole.last_mut() {
            let mut content = std::mem::take(&mut self.results);
            content.append(&mut turn.content);
            turn.content = content;
        }
    }

    fn into_whole(mut self) -> Vec<Turn<'a>> {
        self.join();
        self.whole
    }
}

/// The blocks of some parts. A part that is left out has none.
fn blocks<'a, T>(
    parts: &'a [Part<T>],
    place: impl Fn(usize) -> Place,
    block: impl Fn(Place, &'a T, Option<Cache>) -> Result<Option<Block<'a>>, Unsupported>,
) -> Result<Vec<Block<'a>>, Unsupported> {
    let one =
        |(at, part): (usize, &'a Part<T>)| block(place(at), &part.content, part.cache.map(Cache::from)).transpose();
    parts.iter().enumerate().filter_map(one).collect()
}

fn user_block(place: Place, part: &UserPart, cache_control: Option<Cache>) -> Result<Option<Block<'_>>, Unsupported> {
    match part {
        UserPart::Text(text) => self::text(place, text, cache_control),
        UserPart::Image(image) => Ok(Some(Block::Image { source: image_source(place, image)?, cache_control })),
        UserPart::Document(document) => Ok(Some(Block::Document {
            source: document_source(place, document)?,
            title: &document.title,
            context: &document.context,
            citations: document.citations.then_some(Citations { enabled: true }),
            cache_control,
        })),
        UserPart::Audio(_) => Err(refuse(format!("{place}.audio"), "Anthropic does not hear; leave it out")),
        UserPart::Provider(part) => own(place, part, cache_control),
    }
}

fn assistant_block(
    place: Place,
    part: &AssistantPart,
    cache_control: Option<Cache>,
) -> Result<Option<Block<'_>>, Unsupported> {
    match part {
        AssistantPart::Text { text, .. } | AssistantPart::Refusal(text) => self::text(place, text, cache_control),
        AssistantPart::Reasoning(_) if cache_control.is_some() => Err(refuse(
            format!("{place}.cache_control"),
            "Anthropic does not cache up to what was thought; put it on another part",
        )),
        AssistantPart::Reasoning(reasoning) => thought(place, reasoning),
        AssistantPart::ToolCall(call) => Ok(Some(tool_use(place, call, cache_control)?)),
        AssistantPart::Provider(part) => own(place, part, cache_control),
    }
}

fn result_block(
    place: Place,
    result: &ToolResult,
    cache_control: Option<Cache>,
) -> Result<Option<Block<'_>>, Unsupported> {
    let content = blocks(&result.content, |at| Place { content: Some(at), ..place }, user_block)?;
    let (tool_use_id, is_error) = (&result.call_id, result.is_error);
    Ok(Some(Block::ToolResult { tool_use_id, content, is_error, cache_control }))
}

/// A text block must not be empty; nothing is lost with one that is.
fn text(place: Place, text: &str, cache_control: Option<Cache>) -> Result<Option<Block<'_>>, Unsupported> {
    match cache_control {
        Some(_) if text.is_empty() => Err(refuse(
            format!("{place}.cache_control"),
            "there is no text up to which to cache; put it on another part",
        )),
        None if text.is_empty() => Ok(None),
        Some(_) | None => Ok(Some(Block::Text { text, cache_control })),
    }
}

fn own(place: Place, part: &ProviderPart, cache_control: Option<Cache>) -> Result<Option<Block<'_>>, Unsupported> {
    let json = limits::own_part(WHO, part, || place.to_string())?;
    if cache_control.is_some() {
        return Err(refuse(format!("{place}.cache_control"), "put it into the JSON of the part"));
    }
    Ok(Some(Block::Own(json_text::borrow(json, || format!("{place}.provider.json"))?)))
}

/// What a model thought, to the byte. What another provider's model thought, or nobody
/// signed, is left out.
fn thought(place: Place, reasoning: &Reasoning) -> Result<Option<Block<'_>>, Unsupported> {
    let Reasoning { text, signature, redacted_data, id, .. } = reasoning;
    if !reasoning.is_of(WHO) {
        return Ok(None);
    }
    if !id.is_empty() {
        return Err(refuse(
            format!("{place}.reasoning.id"),
            "Anthropic has none; leave it unset, or name its provider",
        ));
    }
    match (redacted_data.as_str(), signature.as_str()) {
        // Anthropic takes back only what it signed. An answer that was cut within a thought
        // has none, nor have those of servers that imitate the API: they are sent back as
        // they came, and this part of them says nothing to the model.
        ("", "") => Ok(None),
        ("", signature) => Ok(Some(Block::Thinking { thinking: text, signature })),
        (data, _) => Ok(Some(Block::RedactedThinking { data })),
    }
}

fn tool_use(place: Place, call: &ToolCall, cache_control: Option<Cache>) -> Result<Block<'_>, Unsupported> {
    let input = json_text::borrow(&call.arguments, || format!("{place}.tool_call.arguments"))?;
    Ok(Block::ToolUse { id: &call.id, name: &call.name, input, cache_control })
}

fn image_source(place: Place, image: &Image) -> Result<Source<'_>, Unsupported> {
    if !image.detail.is_empty() {
        return Err(refuse(format!("{place}.image.detail"), "Anthropic has none; leave it unset"));
    }
    match &image.source {
        FileSource::Data(bytes) => Ok(Source::Base64 { media_type: &image.media_type, data: Base64(bytes) }),
        FileSource::Url(url) => https(url, || format!("{place}.image.url")),
        FileSource::FileId(file_id) => Ok(Source::File { file_id }),
    }
}

/// A PDF, or a text, which Anthropic reads as it is and not in base64. What is at a URL is
/// a PDF.
fn document_source(place: Place, document: &Document) -> Result<Source<'_>, Unsupported> {
    const PDF: &str = "application/pdf";
    const TEXT: &str = "text/plain";
    let wrong_type = |problem: &str| Err(refuse(format!("{place}.document.media_type"), problem));
    let media_type = document.media_type.as_str();
    match &document.source {
        FileSource::Data(bytes) if media_type == PDF => Ok(Source::Base64 { media_type, data: Base64(bytes) }),
        FileSource::Data(bytes) if media_type == TEXT => match std::str::from_utf8(bytes) {
            Ok(data) => Ok(Source::Text { media_type, data }),
            Err(_) => Err(refuse(format!("{place}.document.data"), "must be UTF-8, as Anthropic takes a text as text")),
        },
        FileSource::Data(_) => wrong_type("Anthropic reads application/pdf and text/plain"),
        FileSource::Url(url) if matches!(media_type, "" | PDF) => https(url, || format!("{place}.document.url")),
        FileSource::Url(_) => wrong_type("Anthropic fetches only application/pdf; send other documents as data"),
        FileSource::FileId(file_id) => Ok(Source::File { file_id }),
    }
}

fn https(url: &str, field: impl FnOnce() -> String) -> Result<Source<'_>, Unsupported> {
    if url.starts_with("https://") {
        return Ok(Source::Url { url });
    }
    Err(refuse(field(), "Anthropic fetches only https:// URLs"))
}
