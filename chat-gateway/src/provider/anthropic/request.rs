//! The body of a request to Anthropic.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    message::{
        AssistantPart, Chat, FileSource, Image, Message, Part, Provider, Tool, ToolChoice, ToolResult, UserPart,
    },
    provider::{Unsupported, json_text, limits},
};

pub(super) fn body(model: &str, chat: &Chat) -> Result<Vec<u8>, Unsupported> {
    check(model, chat)?;
    let body = Body {
        model,
        max_tokens: chat.max_output_tokens.unwrap_or_else(|| most_tokens(model)),
        stream: true,
        system: &chat.system,
        messages: turns(&chat.messages)?,
        tools: chat
            .tools
            .iter()
            .enumerate()
            .filter_map(|(at, tool)| function(at, &tool.content))
            .collect::<Result<_, _>>()?,
        tool_choice: choice(chat),
        temperature: chat.temperature,
        top_p: chat.top_p,
        top_k: chat.top_k,
        stop_sequences: &chat.stop_sequences,
    };
    json_text::serialize(&body)
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    system: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
}

#[derive(Serialize)]
struct Turn<'a> {
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
enum Block<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: String },
    Url { url: &'a str },
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: &'a RawValue,
}

#[derive(Serialize)]
struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

fn check(model: &str, chat: &Chat) -> Result<(), Unsupported> {
    const WHO: Provider = Provider::Anthropic;
    limits::tool_choice(chat)?;
    limits::absent(limits::title(WHO), "seed", chat.seed.as_ref())?;
    limits::absent(limits::title(WHO), "presence_penalty", chat.presence_penalty.as_ref())?;
    limits::absent(limits::title(WHO), "frequency_penalty", chat.frequency_penalty.as_ref())?;
    if refuses_sampling(model) {
        limits::absent(model, "temperature", chat.temperature.as_ref())?;
        limits::absent(model, "top_p", chat.top_p.as_ref())?;
        limits::absent(model, "top_k", chat.top_k.as_ref())?;
    }
    limits::within(WHO, "temperature", chat.temperature, &(0.0..=1.0))?;
    limits::within(WHO, "top_p", chat.top_p, &limits::TOP_P)
}

/// Families that answer 400 to any sampling parameter.
fn refuses_sampling(model: &str) -> bool {
    const FAMILIES: [&str; 5] =
        ["claude-opus-4-7", "claude-opus-4-8", "claude-opus-5", "claude-sonnet-5", "claude-fable-5"];
    FAMILIES.iter().any(|family| is_of(model, family))
}

/// The most tokens that a model can produce: `max_tokens` is required, and a chat that
/// does not limit its answer should not be cut short. More than the model can is a 400,
/// so an unknown one gets what all can.
/// <https://platform.claude.com/docs/en/about-claude/models/overview>
fn most_tokens(model: &str) -> u32 {
    /// The first that fits counts.
    const FAMILIES: [(&str, u32); 21] = [
        ("claude-opus-4-5", 64_000),
        ("claude-opus-4-6", 128_000),
        ("claude-opus-4-7", 128_000),
        ("claude-opus-4-8", 128_000),
        ("claude-opus-4", 32_000),
        ("claude-4-opus", 32_000),
        ("claude-sonnet-4-6", 128_000),
        ("claude-sonnet-4", 64_000),
        ("claude-4-sonnet", 64_000),
        ("claude-haiku-4", 64_000),
        ("claude-haiku-5", 64_000),
        ("claude-opus-5", 128_000),
        ("claude-sonnet-5", 128_000),
        ("claude-fable-5", 128_000),
        ("claude-3-7-sonnet", 64_000),
        ("claude-3-5-sonnet", 8_192),
        ("claude-3-5-haiku", 8_192),
        ("claude-3", 4_096),
        ("claude-2", 4_096),
        ("claude-instant", 4_096),
        ("claude", 4_096),
    ];
    FAMILIES.iter().find(|(family, _)| is_of(model, family)).map_or(4_096, |(_, tokens)| *tokens)
}

/// Whether `model` is `family` or one of its versions: `claude-opus-4` has
/// `claude-opus-4-20250514`, not `claude-opus-45`.
fn is_of(model: &str, family: &str) -> bool {
    let head = model.get(..family.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(family))
        && matches!(model.as_bytes().get(family.len()), None | Some(b'-'))
}

/// The conversation as turns of two roles, each once in a row.
fn turns(messages: &[Message]) -> Result<Vec<Turn<'_>>, Unsupported> {
    let mut turns = Turns::default();
    for (at, message) in messages.iter().enumerate() {
        match message {
            Message::User(parts) => turns.add(Role::User, user_blocks(parts)),
            Message::Assistant(parts) => turns.add(Role::Assistant, assistant_blocks(at, parts)?),
            Message::Tool(results) => turns.add_results(results),
        }
    }
    Ok(turns.whole)
}

#[derive(Default)]
struct Turns<'a> {
    whole: Vec<Turn<'a>>,
    /// How many results of tools lead the last turn.
    results: usize,
}

impl<'a> Turns<'a> {
    fn add(&mut self, role: Role, blocks: impl IntoIterator<Item = Block<'a>>) {
        let mut blocks = blocks.into_iter().peekable();
        if blocks.peek().is_some() {
            self.last(role).extend(blocks);
        }
    }

    /// Results stand before any text of their turn, or Anthropic takes them for missing.
    fn add_results(&mut self, results: &'a [Part<ToolResult>]) {
        self.last(Role::User);
        let at = self.results;
        self.last(Role::User).splice(at..at, results.iter().map(|result| result_block(&result.content)));
        self.results += results.len();
    }

    fn last(&mut self, role: Role) -> &mut Vec<Block<'a>> {
        if self.whole.last().is_none_or(|turn| turn.role != role) {
            self.whole.push(Turn { role, content: Vec::new() });
            self.results = 0;
        }
        let last = self.whole.len() - 1;
        &mut self.whole[last].content
    }
}

/// A text block must not be empty; nothing is lost with one that is.
fn user_blocks(parts: &[Part<UserPart>]) -> impl Iterator<Item = Block<'_>> {
    parts.iter().filter_map(|part| match &part.content {
        UserPart::Text(text) if text.is_empty() => None,
        UserPart::Text(text) => Some(Block::Text { text }),
        UserPart::Image(image) => Some(Block::Image { source: source(image) }),
        _ => None,
    })
}

fn assistant_blocks(message: usize, parts: &[Part<AssistantPart>]) -> Result<Vec<Block<'_>>, Unsupported> {
    let mut blocks = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        match &part.content {
            AssistantPart::Text { text, .. } if text.is_empty() => {}
            AssistantPart::Text { text, .. } => blocks.push(Block::Text { text }),
            AssistantPart::ToolCall(call) => {
                let field = || format!("messages[{message}].parts[{at}].tool_call.arguments");
                let input = json_text::borrow(&call.arguments, field)?;
                blocks.push(Block::ToolUse { id: &call.id, name: &call.name, input });
            }
            _ => {}
        }
    }
    Ok(blocks)
}

fn result_block(result: &ToolResult) -> Block<'_> {
    let content = user_blocks(&result.content).collect();
    Block::ToolResult { tool_use_id: &result.call_id, content, is_error: result.is_error }
}

fn source(image: &Image) -> Source<'_> {
    match &image.source {
        FileSource::Data(bytes) => Source::Base64 { media_type: &image.media_type, data: BASE64.encode(bytes) },
        FileSource::Url(url) | FileSource::FileId(url) => Source::Url { url },
    }
}

fn function(at: usize, tool: &Tool) -> Option<Result<Function<'_>, Unsupported>> {
    let Tool::Function(tool) = tool else { return None };
    Some(described(at, tool))
}

fn described(at: usize, tool: &crate::message::Function) -> Result<Function<'_>, Unsupported> {
    let schema = match tool.parameters.as_str() {
        "" => r#"{"type":"object","properties":{}}"#,
        parameters => parameters,
    };
    let input_schema = json_text::borrow(schema, || format!("tools[{at}].parameters"))?;
    Ok(Function { name: &tool.name, description: &tool.description, input_schema })
}

/// How tools are chosen. Whether calls may be parallel is part of the choice.
fn choice(chat: &Chat) -> Option<Choice<'_>> {
    let one_at_a_time = chat.parallel_tool_calls == Some(false);
    if chat.tools.is_empty() {
        return None;
    }
    let (kind, name) = match &chat.tool_choice {
        None if one_at_a_time => ("auto", None),
        None => return None,
        Some(ToolChoice::Auto) => ("auto", None),
        // Without a call there is nothing to be parallel, and the API takes no other field.
        Some(ToolChoice::None) => return Some(Choice { kind: "none", name: None, disable_parallel_tool_use: false }),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Tool(name)) => ("tool", Some(name.as_str())),
    };
    Some(Choice { kind, name, disable_parallel_tool_use: one_at_a_time })
}
