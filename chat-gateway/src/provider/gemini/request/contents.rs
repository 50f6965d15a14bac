//! The conversation as turns of two roles.
//!
//! What is odd: a result of a tool stands in a turn of the user, and is matched with its
//! call by name and order. A part with a signature goes back alone and as it came; the
//! first call of a turn may not be without one from version 3 on.

use std::{borrow::Cow, collections::HashMap};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    WHO,
    files::{self, File, FileData, InlineData},
};
use crate::{
    message::{self, AssistantPart, Message, Reasoning, ToolCall, ToolResult, UserPart},
    provider::{
        Unsupported,
        gemini::{MADE_ID, models::Abilities},
        json_text, limits,
    },
};

/// Stands for the signature of a thought that was not kept. From version 3 on, a call
/// that is repeated without any signature is a 400.
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

#[derive(Serialize)]
pub(super) struct Content<'a> {
    role: Role,
    parts: Vec<Part<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Model,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Part<'a> {
    Made(Made<'a>),
    /// In Gemini's own form, from the caller.
    Own(&'a RawValue),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made<'a> {
    #[serde(flatten)]
    kind: Kind<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    thought: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    thought_signature: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Kind<'a> {
    Text(&'a str),
    InlineData(InlineData<'a>),
    FileData(FileData<'a>),
    FunctionCall(FunctionCall<'a>),
    FunctionResponse(FunctionResponse<'a>),
}

#[derive(Serialize)]
struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: &'a RawValue,
}

#[derive(Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: Response<'a>,
    /// Files of the result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part<'a>>,
}

/// What a call returned must be an object.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Response<'a> {
    Result(Cow<'a, str>),
    Error(Cow<'a, str>),
    #[serde(untagged)]
    Object(Box<RawValue>),
}

/// The conversation as turns of two roles, each once in a row.
pub(super) fn contents(abilities: Abilities, messages: &[Message]) -> Result<Vec<Content<'_>>, Unsupported> {
    let mut turns = Turns { abilities, whole: Vec::new(), calls: HashMap::new() };
    for (at, message) in messages.iter().enumerate() {
        match message {
            Message::User(parts) => {
                for (part, content) in parts.iter().enumerate() {
                    let part = user_part(&content.content, || format!("messages[{at}].parts[{part}]"))?;
                    turns.last(Role::User).parts.push(part);
                }
            }
            Message::Assistant(parts) => turns.add_answer(at, parts)?,
            Message::Tool(results) => turns.add_results(at, results)?,
        }
    }
    Ok(turns.into_contents())
}

struct Turns<'a> {
    abilities: Abilities,
    whole: Vec<Turn<'a>>,
    /// The place of each call in the conversation, by its id.
    calls: HashMap<&'a str, usize>,
}

struct Turn<'a> {
    role: Role,
    /// Results of tools by the place of their calls: they come first, and in the order
    /// of the calls, because that is how Gemini matches those without an id.
    results: Vec<(usize, Vec<Part<'a>>)>,
    parts: Vec<Part<'a>>,
}

impl<'a> Turns<'a> {
    fn last(&mut self, role: Role) -> &mut Turn<'a> {
        if self.whole.last().is_none_or(|turn| turn.role != role) {
            self.whole.push(Turn { role, results: Vec::new(), parts: Vec::new() });
        }
        let last = self.whole.len() - 1;
        &mut self.whole[last]
    }

    fn add_answer(&mut self, message: usize, parts: &'a [message::Part<AssistantPart>]) -> Result<(), Unsupported> {
        for (at, part) in parts.iter().enumerate() {
            let field = || format!("messages[{message}].parts[{at}]");
            let part = match &part.content {
                AssistantPart::Text { text, signature } => Part::new(Kind::Text(text), signature),
                AssistantPart::Refusal(text) => Part::text(text),
                AssistantPart::Reasoning(reasoning) if !reasoning.is_of(WHO) => continue,
                AssistantPart::Reasoning(reasoning) => thought(reasoning, field)?,
                AssistantPart::ToolCall(call) => {
                    let place = self.calls.len();
                    self.calls.insert(&call.id, place);
                    Part::new(Kind::FunctionCall(function_call(call, field)?), &call.signature)
                }
                AssistantPart::Provider(part) => own_part(part, field)?,
            };
            self.last(Role::Model).parts.push(part);
        }
        Ok(())
    }

    fn add_results(&mut self, message: usize, results: &'a [message::Part<ToolResult>]) -> Result<(), Unsupported> {
        for (at, result) in results.iter().enumerate() {
            let result = &result.content;
            let place = self.calls.get(result.call_id.as_str()).copied().unwrap_or(usize::MAX);
            let field = || format!("messages[{message}].parts[{at}].tool_result");
            let parts = result_parts(self.abilities, result, field)?;
            self.last(Role::User).results.push((place, parts));
        }
        Ok(())
    }

    fn into_contents(self) -> Vec<Content<'a>> {
        let signs = self.abilities.since_third;
        let contents = self.whole.into_iter().map(|Turn { role, mut results, mut parts }| {
            if signs {
                stand_in(&mut parts);
            }
            results.sort_by_key(|(place, _)| *place);
            let results = results.into_iter().flat_map(|(_, parts)| parts);
            Content { role, parts: results.chain(parts).collect() }
        });
        contents.collect()
    }
}

/// Marks the first call of a turn in which nothing is signed.
fn stand_in(parts: &mut [Part<'_>]) {
    if parts.iter().any(Part::is_signed) {
        return;
    }
    let first = parts.iter_mut().find_map(|part| match part {
        Part::Made(part) if matches!(part.kind, Kind::FunctionCall(_)) => Some(part),
        Part::Made(_) | Part::Own(_) => None,
    });
    if let Some(part) = first {
        part.thought_signature = NO_SIGNATURE;
    }
}

impl<'a> Part<'a> {
    pub(super) fn text(text: &'a str) -> Self {
        Self::new(Kind::Text(text), "")
    }

    fn file(file: File<'a>) -> Self {
        match file {
            File::Inline(data) => Self::new(Kind::InlineData(data), ""),
            File::Hosted(data) => Self::new(Kind::FileData(data), ""),
        }
    }

    fn new(kind: Kind<'a>, thought_signature: &'a str) -> Self {
        Self::Made(Made { kind, thought: false, thought_signature })
    }

    fn is_signed(&self) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Signed {
            #[serde(alias = "thought_signature")]
            thought_signature: Option<IgnoredAny>,
        }
        match self {
            Part::Made(part) => !part.thought_signature.is_empty(),
            Part::Own(json) => {
                serde_json::from_str(json.get()).is_ok_and(|Signed { thought_signature }| thought_signature.is_some())
            }
        }
    }
}

fn thought(reasoning: &Reasoning, field: impl Fn() -> String) -> Result<Part<'_>, Unsupported> {
    let Reasoning { text, signature, redacted_data, id, .. } = reasoning;
    for (name, value) in [("redacted_data", redacted_data), ("id", id)] {
        if !value.is_empty() {
            return Err(Unsupported {
                field: format!("{}.reasoning.{name}", field()),
                problem: format!("Gemini has no {name}; say who made it, or leave it out"),
            });
        }
    }
    Ok(Part::Made(Made { kind: Kind::Text(text), thought: true, thought_signature: signature }))
}

fn own_part(part: &message::ProviderPart, field: impl Fn() -> String) -> Result<Part<'_>, Unsupported> {
    let json = limits::own_part(WHO, part, &field)?;
    Ok(Part::Own(json_text::borrow(json, || format!("{}.provider.json", field()))?))
}

fn user_part(part: &UserPart, field: impl Fn() -> String) -> Result<Part<'_>, Unsupported> {
    match part {
        UserPart::Text(text) => Ok(Part::text(text)),
        UserPart::Image(image) => Ok(Part::file(files::image(image, field)?)),
        UserPart::Document(document) => Ok(Part::file(files::document(document, field)?)),
        UserPart::Audio(audio) => Ok(Part::file(files::audio(audio))),
        UserPart::Provider(part) => own_part(part, field),
    }
}

fn function_call(call: &ToolCall, field: impl Fn() -> String) -> Result<FunctionCall<'_>, Unsupported> {
    let args = json_text::borrow(&call.arguments, || format!("{}.tool_call.arguments", field()))?;
    Ok(FunctionCall { id: own_id(&call.id), name: &call.name, args })
}

/// An id that was made here means nothing to Gemini.
fn own_id(id: &str) -> Option<&str> {
    Some(id).filter(|id| !id.starts_with(MADE_ID))
}

/// The result, with the files that belong to it. From version 3 on images and documents
/// stand within it if their bytes are here; all others stand behind it.
/// <https://ai.google.dev/gemini-api/docs/function-calling#multimodal>
fn result_parts(
    abilities: Abilities,
    result: &ToolResult,
    field: impl Fn() -> String,
) -> Result<Vec<Part<'_>>, Unsupported> {
    let mut texts = Vec::new();
    let (mut within, mut behind) = (Vec::new(), Vec::new());
    for (at, content) in result.content.iter().enumerate() {
        if let UserPart::Text(text) = &content.content {
            texts.push(text.as_str());
            continue;
        }
        let part = user_part(&content.content, || format!("{}.content[{at}]", field()))?;
        let fits = !part.is_hosted() && !matches!(content.content, UserPart::Audio(_));
        if abilities.since_third && fits {
            within.push(part);
        } else {
            behind.push(part);
        }
    }
    let response = Kind::FunctionResponse(FunctionResponse {
        id: own_id(&result.call_id),
        name: &result.name,
        response: response(&texts, result.is_error),
        parts: within,
    });
    behind.insert(0, Part::new(response, ""));
    Ok(behind)
}

impl Part<'_> {
    fn is_hosted(&self) -> bool {
        matches!(self, Part::Made(Made { kind: Kind::FileData(_), .. }))
    }
}

fn response<'a>(texts: &[&'a str], is_error: bool) -> Response<'a> {
    let text: Cow<'a, str> = match texts {
        [text] => Cow::Borrowed(text),
        _ => texts.join("\n").into(),
    };
    if is_error {
        return Response::Error(text);
    }
    match serde_json::from_str::<Box<RawValue>>(&text) {
        Ok(json) if json.get().starts_with('{') => Response::Object(json),
        Ok(_) | Err(_) => Response::Result(text),
    }
}
