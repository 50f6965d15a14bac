//! The conversation as a list of items.
//!
//! The order of the parts is kept: what a model thought must stand right before what it
//! made of it, else the API refuses both.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{API, OPENAI};
use crate::{
    message::{
        AssistantPart, Chat, Document, FileSource, Image, Message, Part, ProviderPart, Reasoning, ToolCall, ToolResult,
        UserPart,
    },
    provider::{
        Unsupported,
        json_text::{self, DataUrl},
        limits,
        openai::responses::need::is_item,
    },
};

/// One thing of a conversation.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Item<'a> {
    Message(Turn<'a>),
    Known(Known<'a>),
    /// In OpenAI's own form.
    Own(&'a RawValue),
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum Turn<'a> {
    User { content: Content<'a> },
    Assistant { content: Vec<Said<'a>> },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Known<'a> {
    Reasoning {
        #[serde(skip_serializing_if = "str::is_empty")]
        id: &'a str,
        // Required, also where nothing was shown.
        summary: Vec<Shown<'a>>,
        #[serde(skip_serializing_if = "str::is_empty")]
        encrypted_content: &'a str,
    },
    FunctionCall {
        call_id: &'a str,
        name: &'a str,
        arguments: &'a str,
    },
    FunctionCallOutput {
        call_id: &'a str,
        output: Content<'a>,
    },
}

/// One text is sent as such.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Given<'a>>),
}

/// A part of what is given to the model.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Given<'a> {
    Known(Input<'a>),
    Own(&'a RawValue),
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum Input<'a> {
    #[serde(rename = "input_text")]
    Text { text: &'a str },
    #[serde(rename = "input_image")]
    Image {
        #[serde(flatten)]
        source: ImageSource<'a>,
        #[serde(skip_serializing_if = "str::is_empty")]
        detail: &'a str,
    },
    #[serde(rename = "input_file")]
    File {
        #[serde(flatten)]
        source: DocumentSource<'a>,
        #[serde(skip_serializing_if = "str::is_empty")]
        filename: &'a str,
    },
}

#[derive(Serialize)]
pub(super) enum ImageSource<'a> {
    #[serde(rename = "image_url")]
    Data(DataUrl<'a>),
    #[serde(rename = "image_url")]
    Url(&'a str),
    #[serde(rename = "file_id")]
    FileId(&'a str),
}

#[derive(Serialize)]
pub(super) enum DocumentSource<'a> {
    #[serde(rename = "file_data")]
    Data(DataUrl<'a>),
    #[serde(rename = "file_url")]
    Url(&'a str),
    #[serde(rename = "file_id")]
    FileId(&'a str),
}

/// A part of what the model said.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said<'a> {
    OutputText { text: &'a str },
    Refusal { refusal: &'a str },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Shown<'a> {
    SummaryText { text: &'a str },
}

/// The items of a conversation.
pub(super) fn items(chat: &Chat) -> Result<Vec<Item<'_>>, Unsupported> {
    let mut items = Vec::with_capacity(chat.messages.len());
    for (at, message) in chat.messages.iter().enumerate() {
        match message {
            Message::User(parts) => user(at, parts, &mut items)?,
            Message::Assistant(parts) => assistant(at, parts, &mut items)?,
            Message::Tool(results) => {
                for (part, result) in results.iter().enumerate() {
                    items.push(tool_result(at, part, &result.content)?);
                }
            }
        }
    }
    Ok(items)
}

fn user<'a>(message: usize, parts: &'a [Part<UserPart>], items: &mut Vec<Item<'a>>) -> Result<(), Unsupported> {
    let mut together = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let field = || format!("messages[{message}].parts[{at}]");
        match &part.content {
            UserPart::Provider(part) if is_item(part) => {
                let own = own(part, field)?;
                flush_user(&mut together, items);
                items.push(Item::Own(own));
            }
            other => together.push(given(other, &field)?),
        }
    }
    flush_user(&mut together, items);
    Ok(())
}

fn flush_user<'a>(together: &mut Vec<Given<'a>>, items: &mut Vec<Item<'a>>) {
    if !together.is_empty() {
        items.push(Item::Message(Turn::User { content: Content::of(std::mem::take(together)) }));
    }
}

impl<'a> Content<'a> {
    fn of(parts: Vec<Given<'a>>) -> Self {
        match parts.as_slice() {
            [] => Self::Text(""),
            [Given::Known(Input::Text { text })] => Self::Text(text),
            _ => Self::Parts(parts),
        }
    }
}

fn own(part: &ProviderPart, field: impl Fn() -> String) -> Result<&RawValue, Unsupported> {
    json_text::borrow(limits::own_part(OPENAI, part, &field)?, || format!("{}.provider.json", field()))
}

fn given<'a>(part: &'a UserPart, field: &impl Fn() -> String) -> Result<Given<'a>, Unsupported> {
    Ok(Given::Known(match part {
        UserPart::Text(text) => Input::Text { text },
        UserPart::Image(image) => self::image(image),
        UserPart::Document(document) => self::document(document, field)?,
        UserPart::Audio(_) => {
            return Err(Unsupported {
                field: format!("{}.audio", field()),
                problem: format!("{API} takes no audio; ask a model of Chat Completions"),
            });
        }
        UserPart::Provider(part) => return Ok(Given::Own(own(part, field)?)),
    }))
}

fn image(image: &Image) -> Input<'_> {
    let source = match &image.source {
        FileSource::Data(data) => ImageSource::Data(DataUrl { media_type: &image.media_type, data }),
        FileSource::Url(url) => ImageSource::Url(url),
        FileSource::FileId(id) => ImageSource::FileId(id),
    };
    Input::Image { source, detail: &image.detail }
}

const PDF: &str = "application/pdf";

fn document<'a>(document: &'a Document, field: &impl Fn() -> String) -> Result<Input<'a>, Unsupported> {
    let refuse = |name: &str| {
        let problem = format!("OpenAI has no {name} of a document; leave it unset");
        Err(Unsupported { field: format!("{}.document.{name}", field()), problem })
    };
    if !document.context.is_empty() {
        return refuse("context");
    }
    if document.citations {
        return refuse("citations");
    }
    let title = document.title.as_str();
    let (source, filename) = match &document.source {
        // What a file is, the API reads from its name.
        FileSource::Data(_) if title.is_empty() && document.media_type != PDF => {
            return Err(Unsupported {
                field: format!("{}.document.title", field()),
                problem: "OpenAI reads from the name what a file is; give it one, such as notes.txt".to_owned(),
            });
        }
        FileSource::Data(data) => {
            let source = DocumentSource::Data(DataUrl { media_type: &document.media_type, data });
            (source, if title.is_empty() { "document.pdf" } else { title })
        }
        FileSource::Url(url) => (DocumentSource::Url(url), title),
        FileSource::FileId(id) => (DocumentSource::FileId(id), title),
    };
    Ok(Input::File { source, filename })
}

fn assistant<'a>(
    message: usize,
    parts: &'a [Part<AssistantPart>],
    items: &mut Vec<Item<'a>>,
) -> Result<(), Unsupported> {
    let mut together = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let item = match &part.content {
            // Beside the signature of another provider.
            AssistantPart::Text { text, .. } if text.is_empty() => continue,
            AssistantPart::Text { text, .. } => {
                together.push(Said::OutputText { text });
                continue;
            }
            AssistantPart::Refusal(refusal) => {
                together.push(Said::Refusal { refusal });
                continue;
            }
            AssistantPart::Reasoning(reasoning) if !reasoning.is_of(OPENAI) => continue,
            AssistantPart::Reasoning(reasoning) => Item::Known(thought(reasoning)),
            AssistantPart::ToolCall(ToolCall { id, name, arguments, .. }) => {
                Item::Known(Known::FunctionCall { call_id: id, name, arguments })
            }
            AssistantPart::Provider(part) => Item::Own(own(part, || format!("messages[{message}].parts[{at}]"))?),
        };
        flush_assistant(&mut together, items);
        items.push(item);
    }
    flush_assistant(&mut together, items);
    Ok(())
}

fn flush_assistant<'a>(together: &mut Vec<Said<'a>>, items: &mut Vec<Item<'a>>) {
    if !together.is_empty() {
        items.push(Item::Message(Turn::Assistant { content: std::mem::take(together) }));
    }
}

fn thought(reasoning: &Reasoning) -> Known<'_> {
    let Reasoning { text, signature, redacted_data, id, .. } = reasoning;
    let summary = if text.is_empty() { Vec::new() } else { vec![Shown::SummaryText { text }] };
    let encrypted_content = if signature.is_empty() { redacted_data } else { signature };
    Known::Reasoning { id, summary, encrypted_content }
}

fn tool_result(message: usize, part: usize, result: &ToolResult) -> Result<Item<'_>, Unsupported> {
    let mut parts = Vec::with_capacity(result.content.len());
    for (at, content) in result.content.iter().enumerate() {
        let field = || format!("messages[{message}].parts[{part}].tool_result.content[{at}]");
        parts.push(given(&content.content, &field)?);
    }
    let output = Content::of(parts);
    Ok(Item::Known(Known::FunctionCallOutput { call_id: &result.call_id, output }))
}
