//! The events as they are sent. Fields that only have to be known are borrowed as text:
//! read as `IgnoredAny` they would count as fields that nobody reads.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    message::{Citation, CitationKind, Event, ProviderEvent},
    provider::{Broken, Output, json_text, openai::responses::type_of},
};

#[derive(Deserialize)]
pub(super) struct Head<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Lifecycle {
    pub(super) response: Identity,
}

/// Who answers, of all that is said of the answer.
#[derive(Deserialize)]
pub(super) struct Identity {
    id: Option<String>,
    model: Option<String>,
}

impl Identity {
    pub(super) fn identify(self, out: &mut Output) {
        let said = |word: Option<String>| word.filter(|word| !word.is_empty());
        out.model = out.model.take().or_else(|| said(self.model));
        out.response_id = out.response_id.take().or_else(|| said(self.id));
    }
}

/// A piece of a text, a thought or the arguments of a call.
#[derive(Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(default)]
    pub(super) output_index: u64,
    #[serde(default, alias = "content_index", alias = "summary_index")]
    pub(super) part: u64,
    #[serde(rename = "delta")]
    pub(super) text: String,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
}

/// The whole of what came in pieces.
#[derive(Deserialize)]
pub(super) struct Done<'a> {
    #[serde(default)]
    pub(super) output_index: u64,
    #[serde(default, alias = "content_index", alias = "summary_index")]
    pub(super) part: u64,
    #[serde(alias = "refusal", alias = "arguments")]
    pub(super) text: String,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
    /// Of a call.
    #[serde(borrow, rename = "name")]
    _name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct ItemEvent<'a> {
    #[serde(default)]
    pub(super) output_index: u64,
    #[serde(borrow)]
    pub(super) item: &'a RawValue,
}

#[derive(Deserialize)]
pub(super) struct MessageItem<'a> {
    #[serde(borrow, rename = "id")]
    _id: Option<&'a RawValue>,
    #[serde(borrow, rename = "status")]
    _status: Option<&'a RawValue>,
    #[serde(borrow, rename = "role")]
    _role: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    /// Whether it comments or answers.
    #[serde(borrow)]
    pub(super) phase: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct ReasoningItem<'a> {
    pub(super) id: Option<String>,
    pub(super) encrypted_content: Option<String>,
    pub(super) summary: Option<Vec<Paragraph>>,
    pub(super) content: Option<Vec<Paragraph>>,
    #[serde(borrow, rename = "status")]
    _status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Paragraph {
    #[serde(default)]
    pub(super) text: String,
}

#[derive(Deserialize)]
pub(super) struct FunctionCall<'a> {
    pub(super) id: Option<String>,
    pub(super) call_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
    pub(super) status: Option<String>,
    /// Where a tool that was searched for comes from.
    #[serde(borrow)]
    namespace: Option<&'a RawValue>,
    /// The program that calls, if it is not the model itself.
    #[serde(borrow)]
    caller: Option<&'a RawValue>,
}

impl FunctionCall<'_> {
    /// The names of what is said of a call and has no common form.
    pub(super) fn aside(&self) -> impl Iterator<Item = &'static str> {
        let fields = [("namespace", self.namespace.is_some()), ("caller", self.caller.is_some())];
        fields.into_iter().filter(|(_, is_said)| *is_said).map(|(name, _)| name)
    }
}

#[derive(Deserialize)]
pub(super) struct PartEvent<'a> {
    #[serde(default)]
    pub(super) output_index: u64,
    #[serde(rename = "content_index", alias = "summary_index")]
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) part: &'a RawValue,
}

/// A part of an item, of the kinds that are known.
#[derive(Default, Deserialize)]
pub(super) struct ContentPart<'a> {
    #[serde(borrow)]
    pub(super) annotations: Option<Vec<&'a RawValue>>,
    /// Borrowed, for it has mostly come in pieces before.
    #[serde(borrow)]
    pub(super) text: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
}

pub(super) fn is_known_part(kind: &str) -> bool {
    matches!(kind, "output_text" | "refusal" | "summary_text" | "reasoning_text")
}

#[derive(Deserialize)]
pub(super) struct AnnotationEvent<'a> {
    #[serde(default)]
    pub(super) output_index: u64,
    #[serde(borrow, rename = "content_index")]
    _part: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) annotation: &'a RawValue,
}

#[derive(Deserialize)]
struct Annotation {
    title: Option<String>,
    filename: Option<String>,
    url: Option<String>,
    index: Option<u64>,
    start_index: Option<u64>,
    end_index: Option<u64>,
}

/// Where something in the text comes from. All of it goes on as JSON, so that fields which
/// are not read are not lost.
pub(super) fn citation(raw: &RawValue) -> Result<Citation, Broken> {
    let json = raw.get();
    let kind = match type_of(json).as_ref() {
        "url_citation" => CitationKind::Web,
        "file_citation" | "container_file_citation" | "file_path" => CitationKind::File,
        _ => return Ok(Citation { json: json.to_owned(), ..Citation::default() }),
    };
    let read: Annotation =
        json_text::object(json.as_bytes()).ok_or(Broken::Malformed("an annotation has an unknown form"))?;
    Ok(Citation {
        kind,
        title: read.title.or(read.filename).unwrap_or_default(),
        url: read.url.unwrap_or_default(),
        start: read.start_index.or(read.index),
        end: read.end_index,
        json: json.to_owned(),
        ..Citation::default()
    })
}

/// Something that has no common form.
pub(super) fn own(kind: &str, json: &str, replayable: bool) -> Event {
    Event::Provider(ProviderEvent { kind: kind.to_owned(), json: json.to_owned(), replayable })
}

/// Whether there is anything in a list.
pub(super) fn has_items(list: &RawValue) -> bool {
    !matches!(list.get(), "[]" | "null")
}
