//! The body of a request for a response.

mod input;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    message::{Chat, Function, Provider, ResponseFormat, Schema, Summary, Tool, ToolChoice},
    provider::{
        Unsupported, json_text, limits,
        openai::models::{
            check_amount, check_sampling, effort, is_reasoning, is_told_to_think, never_thinks, takes_no_system,
        },
    },
};

const OPENAI: Provider = Provider::OpenAi;

/// How the API is called in what is said to the caller.
const API: &str = "OpenAI's Responses API";

/// The API refuses less.
pub(super) const OUTPUT_TOKENS_MIN: u32 = 16;

pub(in super::super) fn body(model: &str, chat: &Chat) -> Result<Vec<u8>, Unsupported> {
    check(model, chat)?;
    let has_tools = !chat.tools.is_empty();
    json_text::serialize(&Body {
        model,
        instructions: &chat.system,
        input: input::items(chat)?,
        stream: true,
        store: false,
        include: if may_think(model, chat) { &["reasoning.encrypted_content"] } else { &[] },
        max_output_tokens: chat.max_output_tokens,
        temperature: chat.temperature,
        top_p: chat.top_p,
        reasoning: Some(Reasoning::of(model, chat)).filter(Reasoning::says_something),
        text: chat.response_format.as_ref().map(text).transpose()?,
        tools: chat.tools.iter().enumerate().map(|(at, found)| tool(at, &found.content)).collect::<Result<_, _>>()?,
        // Both are a 400 without tools, and mean nothing then.
        tool_choice: chat.tool_choice.as_ref().filter(|_| has_tools).map(choice),
        parallel_tool_calls: chat.parallel_tool_calls.filter(|_| has_tools),
        metadata: &chat.metadata,
    })
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instructions: &'a str,
    input: Vec<input::Item<'a>>,
    stream: bool,
    // The provider's default is to keep every conversation.
    store: bool,
    // What is not stored must come with the answer, to be sent back.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    include: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<SentTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Reasoning {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
}

#[derive(Serialize)]
struct Text<'a> {
    format: Format<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    Text,
    JsonObject,
    JsonSchema {
        name: &'a str,
        schema: &'a RawValue,
        #[serde(skip_serializing_if = "str::is_empty")]
        description: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum SentTool<'a> {
    Function(SentFunction<'a>),
    Own(&'a RawValue),
}

#[derive(Serialize)]
struct SentFunction<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    parameters: &'a RawValue,
    // Left out, the API makes the schema strict where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Mode(&'static str),
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        name: &'a str,
    },
}

fn check(model: &str, chat: &Chat) -> Result<(), Unsupported> {
    limits::no_cache(OPENAI, chat)?;
    limits::tool_choice(chat)?;
    limits::absent(API, "top_k", chat.top_k.as_ref())?;
    limits::absent(API, "stop_sequences", chat.stop_sequences.first())?;
    limits::absent(API, "seed", chat.seed.as_ref())?;
    limits::absent(API, "presence_penalty", chat.presence_penalty.as_ref())?;
    limits::absent(API, "frequency_penalty", chat.frequency_penalty.as_ref())?;
    check_amount(model, chat)?;
    if never_thinks(model) {
        limits::absent(model, "reasoning.summary", shown(chat).as_ref())?;
    }
    check_sampling(model, chat)?;
    limits::within(OPENAI, "temperature", chat.temperature, &(0.0..=2.0))?;
    limits::within(OPENAI, "top_p", chat.top_p, &limits::TOP_P)?;
    if !chat.system.is_empty() && takes_no_system(model) {
        return Err(Unsupported {
            field: "system".to_owned(),
            problem: format!("{model} takes no instructions; put them into the first message"),
        });
    }
    match chat.max_output_tokens {
        Some(few) if few < OUTPUT_TOKENS_MIN => Err(Unsupported {
            field: "max_output_tokens".to_owned(),
            problem: format!("{API} takes {OUTPUT_TOKENS_MIN} or more, not {few}"),
        }),
        Some(_) | None => Ok(()),
    }
}

/// The summary, unless none is asked for.
fn shown(chat: &Chat) -> Option<Summary> {
    chat.thinking?.summary.filter(|summary| *summary != Summary::None)
}

/// Whether thoughts may come with the answer. Servers that imitate this API may refuse to be
/// asked for them, so an unknown model is only if it is to think.
fn may_think(model: &str, chat: &Chat) -> bool {
    is_reasoning(model) || is_told_to_think(chat) || shown(chat).is_some()
}

impl Reasoning {
    fn of(model: &str, chat: &Chat) -> Self {
        let summary = match shown(chat) {
            Some(Summary::Auto) => Some("auto"),
            Some(Summary::Concise) => Some("concise"),
            Some(Summary::Detailed) => Some("detailed"),
            // Nothing is shown unless it is asked for.
            Some(Summary::None) | None => None,
        };
        Self { effort: effort(model, chat), summary }
    }

    fn says_something(&self) -> bool {
        self.effort.is_some() || self.summary.is_some()
    }
}

fn text(format: &ResponseFormat) -> Result<Text<'_>, Unsupported> {
    let format = match format {
        ResponseFormat::Text => Format::Text,
        ResponseFormat::Json => Format::JsonObject,
        ResponseFormat::Schema(Schema { json, name, description, strict }) => Format::JsonSchema {
            name: if name.is_empty() { "answer" } else { name },
            schema: json_text::borrow(json, || "response_format.schema".to_owned())?,
            description,
            strict: *strict,
        },
    };
    Ok(Text { format })
}

fn tool(at: usize, tool: &Tool) -> Result<SentTool<'_>, Unsupported> {
    let Function { name, description, parameters, strict } = match tool {
        Tool::Function(function) => function,
        Tool::Provider(json) => {
            return Ok(SentTool::Own(json_text::borrow(json, || format!("tools[{at}].provider_tool"))?));
        }
    };
    // The field is required here.
    let parameters = if parameters.is_empty() { r#"{"type":"object","properties":{}}"# } else { parameters };
    Ok(SentTool::Function(SentFunction {
        kind: "function",
        name,
        description,
        parameters: json_text::borrow(parameters, || format!("tools[{at}].parameters"))?,
        strict: *strict,
    }))
}

fn choice(choice: &ToolChoice) -> Choice<'_> {
    match choice {
        ToolChoice::Auto => Choice::Mode("auto"),
        ToolChoice::None => Choice::Mode("none"),
        ToolChoice::Required => Choice::Mode("required"),
        ToolChoice::Tool(name) => Choice::Function { kind: "function", name },
    }
}
