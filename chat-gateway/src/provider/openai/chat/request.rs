//! The body of a request to OpenAI.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    message::{
        AssistantPart, Chat, FileSource, Image, Message, Part as Cached, Provider, Tool, ToolChoice, ToolResult,
        UserPart,
    },
    provider::{
        Unsupported, json_text, limits,
        openai::models::{base, is_reasoning, takes_no_system},
    },
};

const STOP_SEQUENCES_MAX: usize = 4;

pub(in super::super) fn body(model: &str, chat: &Chat) -> Result<Vec<u8>, Unsupported> {
    check(model, chat)?;
    let has_tools = !chat.tools.is_empty();
    json_text::serialize(&Body {
        model,
        messages: messages(model, chat)?,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        max_completion_tokens: chat.max_output_tokens,
        temperature: chat.temperature,
        top_p: chat.top_p,
        presence_penalty: chat.presence_penalty,
        frequency_penalty: chat.frequency_penalty,
        seed: chat.seed,
        stop: &chat.stop_sequences,
        tools: chat
            .tools
            .iter()
            .enumerate()
            .filter_map(|(at, tool)| function(at, &tool.content))
            .collect::<Result<_, _>>()?,
        // Both are a 400 without tools, and mean nothing then.
        tool_choice: chat.tool_choice.as_ref().filter(|_| has_tools).map(choice),
        parallel_tool_calls: chat.parallel_tool_calls.filter(|_| has_tools),
    })
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    // `max_tokens` is the older name, which the reasoning models refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Typed<Function<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Turn<'a> {
    System {
        content: &'a str,
    },
    Developer {
        content: &'a str,
    },
    User {
        content: Content<'a>,
    },
    Assistant {
        #[serde(skip_serializing_if = "Content::is_empty")]
        content: Content<'a>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: Content<'a>,
    },
}

/// One text is sent as such: some servers that imitate the API take nothing else.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: std::borrow::Cow<'a, str>,
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

/// `{"type":"function","function":…}`, the wrapping of everything about functions.
#[derive(Serialize)]
struct Typed<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: T,
}

impl<T> Typed<T> {
    fn new(function: T) -> Self {
        Self { kind: "function", function }
    }
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Mode(&'static str),
    Tool(Typed<ChosenFunction<'a>>),
}

#[derive(Serialize)]
struct ChosenFunction<'a> {
    name: &'a str,
}

fn check(model: &str, chat: &Chat) -> Result<(), Unsupported> {
    const WHO: Provider = Provider::OpenAi;
    limits::tool_choice(chat)?;
    limits::absent(limits::title(WHO), "top_k", chat.top_k.as_ref())?;
    if is_reasoning(model) {
        limits::absent(model, "temperature", chat.temperature.as_ref())?;
        limits::absent(model, "top_p", chat.top_p.as_ref())?;
        limits::absent(model, "presence_penalty", chat.presence_penalty.as_ref())?;
        limits::absent(model, "frequency_penalty", chat.frequency_penalty.as_ref())?;
    }
    if base(model).ends_with("-search-preview") || base(model).contains("-search-preview-") {
        limits::absent(model, "temperature", chat.temperature.as_ref())?;
    }
    if !chat.system.is_empty() && takes_no_system(model) {
        return Err(Unsupported {
            field: "system".to_owned(),
            problem: format!("{model} takes no instructions; put them into the first message"),
        });
    }
    limits::within(WHO, "temperature", chat.temperature, &(0.0..=2.0))?;
    limits::within(WHO, "top_p", chat.top_p, &limits::TOP_P)?;
    limits::within(WHO, "presence_penalty", chat.presence_penalty, &limits::PENALTY)?;
    limits::within(WHO, "frequency_penalty", chat.frequency_penalty, &limits::PENALTY)?;
    limits::stop_sequences(WHO, chat, STOP_SEQUENCES_MAX)
}

fn messages<'a>(model: &str, chat: &'a Chat) -> Result<Vec<Turn<'a>>, Unsupported> {
    let mut turns = Vec::with_capacity(chat.messages.len() + 1);
    let content = chat.system.as_str();
    match is_reasoning(model) {
        _ if content.is_empty() => {}
        true => turns.push(Turn::Developer { content }),
        false => turns.push(Turn::System { content }),
    }
    for (at, message) in chat.messages.iter().enumerate() {
        match message {
            Message::User(parts) => {
                turns.push(Turn::User { content: Content::of(parts.iter().filter_map(|found| part(&found.content))) })
            }
            Message::Assistant(parts) => turns.push(assistant(parts)),
            Message::Tool(results) => {
                for (part, result) in results.iter().enumerate() {
                    turns.push(tool_result(at, part, &result.content)?);
                }
            }
        }
    }
    Ok(turns)
}

impl<'a> Content<'a> {
    fn of(parts: impl Iterator<Item = Part<'a>>) -> Self {
        let parts: Vec<Part<'a>> = parts.collect();
        match parts.as_slice() {
            [] => Self::Text(""),
            [Part::Text { text }] => Self::Text(text),
            _ => Self::Parts(parts),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Text(""))
    }
}

fn part(part: &UserPart) -> Option<Part<'_>> {
    Some(match part {
        UserPart::Text(text) => Part::Text { text },
        UserPart::Image(image) => Part::ImageUrl { image_url: image_url(image) },
        _ => return None,
    })
}

fn image_url(image: &Image) -> ImageUrl<'_> {
    let url = match &image.source {
        FileSource::Data(bytes) => format!("data:{};base64,{}", image.media_type, BASE64.encode(bytes)).into(),
        FileSource::Url(url) | FileSource::FileId(url) => url.into(),
    };
    ImageUrl { url }
}

/// Text and calls of a turn; their order between each other has no form here.
fn assistant(parts: &[Cached<AssistantPart>]) -> Turn<'_> {
    let content = Content::of(parts.iter().filter_map(|part| match &part.content {
        AssistantPart::Text { text, .. } => Some(Part::Text { text }),
        _ => None,
    }));
    let tool_calls = parts.iter().filter_map(|part| match &part.content {
        AssistantPart::ToolCall(call) => {
            let function = Typed::new(CalledFunction { name: &call.name, arguments: &call.arguments });
            Some(Call { id: &call.id, function })
        }
        _ => None,
    });
    Turn::Assistant { content, tool_calls: tool_calls.collect() }
}

fn tool_result(message: usize, part: usize, result: &ToolResult) -> Result<Turn<'_>, Unsupported> {
    let mut texts = Vec::with_capacity(result.content.len());
    for (at, content) in result.content.iter().enumerate() {
        match &content.content {
            UserPart::Text(text) => texts.push(Part::Text { text }),
            _ => {
                return Err(Unsupported {
                    field: format!("messages[{message}].parts[{part}].tool_result.content[{at}].image"),
                    problem: "OpenAI takes only text as a tool's result; send the image in a message of the user"
                        .to_owned(),
                });
            }
        }
    }
    Ok(Turn::Tool { tool_call_id: &result.call_id, content: Content::of(texts.into_iter()) })
}

fn function(at: usize, tool: &Tool) -> Option<Result<Typed<Function<'_>>, Unsupported>> {
    let Tool::Function(tool) = tool else { return None };
    Some(described(at, tool))
}

fn described(at: usize, tool: &crate::message::Function) -> Result<Typed<Function<'_>>, Unsupported> {
    let parameters = match tool.parameters.as_str() {
        "" => None,
        parameters => Some(json_text::borrow(parameters, || format!("tools[{at}].parameters"))?),
    };
    Ok(Typed::new(Function { name: &tool.name, description: &tool.description, parameters }))
}

fn choice(choice: &ToolChoice) -> Choice<'_> {
    match choice {
        ToolChoice::Auto => Choice::Mode("auto"),
        ToolChoice::None => Choice::Mode("none"),
        ToolChoice::Required => Choice::Mode("required"),
        ToolChoice::Tool(name) => Choice::Tool(Typed::new(ChosenFunction { name })),
    }
}
