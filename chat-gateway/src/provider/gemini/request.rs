//! The path and the body of a request to Gemini.

use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use serde_json::value::RawValue;

use super::MADE_ID;
use crate::{
    message::{
        AssistantPart, Chat, FileSource, Image, Message, Provider, Tool, ToolCall, ToolChoice, ToolResult, UserPart,
    },
    provider::{Unsupported, json_text, limits},
};

const STOP_SEQUENCES_MAX: usize = 5;

/// Stands for the signature of a thought that was not kept. From version 3 on, a call
/// that is repeated without any signature is a 400.
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// A tuned model is a collection of its own; `models/` is taken off and put back.
pub(super) fn path(model: &str) -> String {
    let (collection, name) = match model.strip_prefix("tunedModels/") {
        Some(name) => ("tunedModels", name),
        None => ("models", model.strip_prefix("models/").unwrap_or(model)),
    };
    format!("/{collection}/{}:streamGenerateContent?alt=sse", segment(name))
}

/// Encodes what may not stand in a segment of a path (RFC 3986, section 2.3).
fn segment(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut segment, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(segment, "%{byte:02X}");
        }
        segment
    })
}

pub(super) fn body(model: &str, chat: &Chat) -> Result<Vec<u8>, Unsupported> {
    check(chat)?;
    let functions = chat
        .tools
        .iter()
        .enumerate()
        .filter_map(|(at, tool)| function(at, &tool.content))
        .collect::<Result<Vec<_>, _>>()?;
    let system = Some(&chat.system).filter(|system| !system.is_empty());
    json_text::serialize(&Body {
        contents: contents(model, &chat.messages)?,
        system_instruction: system.map(|text| Instruction { parts: [Part::text(text)] }),
        tool_config: chat.tool_choice.as_ref().filter(|_| !functions.is_empty()).map(tool_config),
        tools: if functions.is_empty() { vec![] } else { vec![Tools { function_declarations: functions }] },
        generation_config: GenerationConfig {
            max_output_tokens: chat.max_output_tokens,
            temperature: chat.temperature,
            top_p: chat.top_p,
            top_k: chat.top_k,
            stop_sequences: &chat.stop_sequences,
            seed: chat.seed,
            presence_penalty: chat.presence_penalty,
            frequency_penalty: chat.frequency_penalty,
        },
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Instruction<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "GenerationConfig::is_default")]
    generation_config: GenerationConfig<'a>,
}

#[derive(Serialize)]
struct Instruction<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Content<'a> {
    role: Role,
    parts: Vec<Part<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Model,
}

/// A part has one of these, and a call may have a signature.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<InlineData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<FileData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<FunctionResponse<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InlineData<'a> {
    mime_type: &'a str,
    data: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileData<'a> {
    mime_type: &'a str,
    file_uri: &'a str,
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
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
struct ToolConfig<'a> {
    function_calling_config: FunctionCallingConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionCallingConfig<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
}

impl GenerationConfig<'_> {
    fn is_default(&self) -> bool {
        *self == GenerationConfig::default()
    }
}

impl<'a> Part<'a> {
    fn text(text: &'a str) -> Self {
        Part { text: Some(text), ..Part::default() }
    }
}

fn check(chat: &Chat) -> Result<(), Unsupported> {
    const WHO: Provider = Provider::Gemini;
    limits::tool_choice(chat)?;
    limits::absent(limits::title(WHO), "parallel_tool_calls", chat.parallel_tool_calls.as_ref())?;
    limits::within(WHO, "temperature", chat.temperature, &(0.0..=2.0))?;
    limits::within(WHO, "top_p", chat.top_p, &limits::TOP_P)?;
    limits::within(WHO, "presence_penalty", chat.presence_penalty, &limits::PENALTY)?;
    limits::within(WHO, "frequency_penalty", chat.frequency_penalty, &limits::PENALTY)?;
    if let Some(seed) = chat.seed.filter(|seed| i32::try_from(*seed).is_err()) {
        return Err(Unsupported {
            field: "seed".to_owned(),
            problem: format!("Gemini takes a seed of 32 bits, not {seed}"),
        });
    }
    limits::stop_sequences(WHO, chat, STOP_SEQUENCES_MAX)
}

/// The conversation as turns of two roles, each once in a row.
fn contents<'a>(model: &str, messages: &'a [Message]) -> Result<Vec<Content<'a>>, Unsupported> {
    let mut turns = Turns { signs: wants_signatures(model), ..Turns::default() };
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

/// Whether the model refuses a repeated call without a signature. An alias of the latest
/// model has no version and means a recent one.
fn wants_signatures(model: &str) -> bool {
    let lower = model.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("models/").unwrap_or(&lower).strip_prefix("gemini-") else { return false };
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match rest[..digits].parse::<u32>() {
        Ok(version) => version >= 3,
        Err(_) => rest.ends_with("-latest"),
    }
}

#[derive(Default)]
struct Turns<'a> {
    signs: bool,
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

    fn add_answer(
        &mut self,
        message: usize,
        parts: &'a [crate::message::Part<AssistantPart>],
    ) -> Result<(), Unsupported> {
        let mut signature = Some(NO_SIGNATURE).filter(|_| self.signs);
        for (at, part) in parts.iter().enumerate() {
            let part = match &part.content {
                AssistantPart::Text { text, .. } => Part::text(text),
                AssistantPart::ToolCall(call) => {
                    let place = self.calls.len();
                    self.calls.insert(&call.id, place);
                    let field = || format!("messages[{message}].parts[{at}].tool_call.arguments");
                    let function_call = Some(function_call(call, field)?);
                    Part { function_call, thought_signature: signature.take(), ..Part::default() }
                }
                _ => continue,
            };
            self.last(Role::Model).parts.push(part);
        }
        Ok(())
    }

    fn add_results(
        &mut self,
        message: usize,
        results: &'a [crate::message::Part<ToolResult>],
    ) -> Result<(), Unsupported> {
        for (at, result) in results.iter().enumerate() {
            let result = &result.content;
            let place = self.calls.get(result.call_id.as_str()).copied().unwrap_or(usize::MAX);
            let parts = result_parts(result, || format!("messages[{message}].parts[{at}].tool_result"))?;
            self.last(Role::User).results.push((place, parts));
        }
        Ok(())
    }

    fn into_contents(self) -> Vec<Content<'a>> {
        let contents = self.whole.into_iter().map(|Turn { role, mut results, parts }| {
            results.sort_by_key(|(place, _)| *place);
            let results = results.into_iter().flat_map(|(_, parts)| parts);
            Content { role, parts: results.chain(parts).collect() }
        });
        contents.collect()
    }
}

fn user_part(part: &UserPart, field: impl Fn() -> String) -> Result<Part<'_>, Unsupported> {
    match part {
        UserPart::Text(text) => Ok(Part::text(text)),
        UserPart::Image(image) => image_part(image, field),
        _ => Err(Unsupported { field: field(), problem: "Gemini has no form for it".to_owned() }),
    }
}

/// Where files lie that Gemini reads by themselves.
const FILE_HOSTS: [&str; 2] = ["https://generativelanguage.googleapis.com/", "gs://"];

fn image_part(image: &Image, field: impl Fn() -> String) -> Result<Part<'_>, Unsupported> {
    let mime_type = image.media_type.as_str();
    match &image.source {
        FileSource::Data(bytes) => {
            let inline_data = Some(InlineData { mime_type, data: BASE64.encode(bytes) });
            Ok(Part { inline_data, ..Part::default() })
        }
        FileSource::Url(url) if !FILE_HOSTS.iter().any(|host| url.starts_with(host)) => Err(Unsupported {
            field: format!("{}.image.url", field()),
            problem: "Gemini does not fetch from other sites; send the image itself, or a file of Google's".to_owned(),
        }),
        FileSource::Url(_) | FileSource::FileId(_) if mime_type.is_empty() => Err(Unsupported {
            field: format!("{}.image.media_type", field()),
            problem: "Gemini needs the media type of a file; set it".to_owned(),
        }),
        FileSource::Url(file_uri) | FileSource::FileId(file_uri) => {
            Ok(Part { file_data: Some(FileData { mime_type, file_uri }), ..Part::default() })
        }
    }
}

fn function_call(call: &ToolCall, field: impl FnOnce() -> String) -> Result<FunctionCall<'_>, Unsupported> {
    Ok(FunctionCall { id: own_id(&call.id), name: &call.name, args: json_text::borrow(&call.arguments, field)? })
}

/// An id that was made here means nothing to Gemini.
fn own_id(id: &str) -> Option<&str> {
    Some(id).filter(|id| !id.starts_with(MADE_ID))
}

/// The result, then the images that belong to it.
fn result_parts(result: &ToolResult, field: impl Fn() -> String) -> Result<Vec<Part<'_>>, Unsupported> {
    let texts: Vec<&str> = result
        .content
        .iter()
        .filter_map(|content| match &content.content {
            UserPart::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let response = response(&texts, result.is_error);
    let function_response = Some(FunctionResponse { id: own_id(&result.call_id), name: &result.name, response });
    let mut parts = vec![Part { function_response, ..Part::default() }];
    for (at, content) in result.content.iter().enumerate() {
        match &content.content {
            UserPart::Text(_) => {}
            UserPart::Document(_) | UserPart::Audio(_) | UserPart::Provider(_) => {}
            UserPart::Image(image) => parts.push(image_part(image, || format!("{}.content[{at}]", field()))?),
        }
    }
    Ok(parts)
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

fn function(at: usize, tool: &Tool) -> Option<Result<Function<'_>, Unsupported>> {
    let Tool::Function(tool) = tool else { return None };
    Some(described(at, tool))
}

fn described(at: usize, tool: &crate::message::Function) -> Result<Function<'_>, Unsupported> {
    let parameters_json_schema = match tool.parameters.as_str() {
        "" => None,
        parameters => Some(json_text::borrow(parameters, || format!("tools[{at}].parameters"))?),
    };
    Ok(Function { name: &tool.name, description: &tool.description, parameters_json_schema })
}

fn tool_config(choice: &ToolChoice) -> ToolConfig<'_> {
    let (mode, allowed_function_names) = match choice {
        ToolChoice::Auto => ("AUTO", None),
        ToolChoice::None => ("NONE", None),
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Tool(name) => ("ANY", Some([name.as_str()])),
    };
    ToolConfig { function_calling_config: FunctionCallingConfig { mode, allowed_function_names } }
}
