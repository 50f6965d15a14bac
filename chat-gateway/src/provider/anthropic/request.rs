//! The body of a request to Anthropic.
//!
//! What Anthropic does not have is refused with its field. What a caller gave as JSON goes
//! on as the text that it is.

mod messages;
mod thinking;
mod tools;

use serde::Serialize;
use serde_json::value::RawValue;

use super::models;
use crate::{
    message::{self, Amount, Chat, Provider, ResponseFormat},
    provider::{Unsupported, json_text, limits},
};

pub(super) use messages::names_files;

const WHO: Provider = Provider::Anthropic;

pub(super) fn body(model: &str, chat: &Chat) -> Result<Vec<u8>, Unsupported> {
    check(model, chat)?;
    let max_tokens = chat.max_output_tokens.unwrap_or_else(|| tokens_max(model, chat));
    let (thinking, effort) = thinking::thinking(model, max_tokens, chat)?;
    let body = Body {
        model,
        max_tokens,
        stream: true,
        cache_control: chat.cache.map(Cache::from),
        system: system(chat)?,
        messages: messages::turns(&chat.messages)?,
        tools: tools::tools(&chat.tools)?,
        tool_choice: tools::choice(chat),
        thinking,
        output_config: output_config(effort, chat.response_format.as_ref())?,
        metadata: metadata(chat)?,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Cache>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<System<'a>>,
    messages: Vec<messages::Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<tools::Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<tools::Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<thinking::Config>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
}

/// How long to cache, and up to where by the place in which it stands.
#[derive(Clone, Copy, Serialize)]
struct Cache {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl From<message::CacheControl> for Cache {
    fn from(cache: message::CacheControl) -> Self {
        let ttl = match cache {
            message::CacheControl::Usual => None,
            message::CacheControl::FiveMinutes => Some("5m"),
            message::CacheControl::OneHour => Some("1h"),
        };
        Self { kind: "ephemeral", ttl }
    }
}

/// Instructions. Only a block can be cached.
#[derive(Serialize)]
#[serde(untagged)]
enum System<'a> {
    Text(&'a str),
    Block([messages::Block<'a>; 1]),
}

#[derive(Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
}

#[derive(Serialize)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a RawValue,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

fn check(model: &str, chat: &Chat) -> Result<(), Unsupported> {
    limits::no_openai_api(WHO, chat)?;
    limits::tool_choice(chat)?;
    limits::absent(limits::title(WHO), "seed", chat.seed.as_ref())?;
    limits::absent(limits::title(WHO), "presence_penalty", chat.presence_penalty.as_ref())?;
    limits::absent(limits::title(WHO), "frequency_penalty", chat.frequency_penalty.as_ref())?;
    if !models::of(model).samples {
        limits::absent(model, "temperature", chat.temperature.as_ref())?;
        limits::absent(model, "top_p", chat.top_p.as_ref())?;
        limits::absent(model, "top_k", chat.top_k.as_ref())?;
    }
    limits::within(WHO, "temperature", chat.temperature, &(0.0..=1.0))?;
    limits::within(WHO, "top_p", chat.top_p, &limits::TOP_P)
}

/// A chat that does not limit its answer should not be cut short. What a model thinks is
/// part of its answer: one that is not known gets room for that besides.
fn tokens_max(model: &str, chat: &Chat) -> u32 {
    let models::Model { tokens_max, thinks, .. } = models::of(model);
    match chat.thinking.and_then(|asked| asked.amount) {
        Some(Amount::Tokens(budget)) if *thinks == models::Thinks::Unknown => budget.saturating_add(*tokens_max),
        Some(Amount::Tokens(_) | Amount::AnyTokens | Amount::Effort(_)) | None => *tokens_max,
    }
}

fn refuse(field: impl Into<String>, problem: impl Into<String>) -> Unsupported {
    Unsupported { field: field.into(), problem: problem.into() }
}

fn system(chat: &Chat) -> Result<Option<System<'_>>, Unsupported> {
    match (chat.system.as_str(), chat.system_cache) {
        ("", None) => Ok(None),
        ("", Some(_)) => {
            Err(refuse("system_cache_control", "there is no system text up to which to cache; leave it unset"))
        }
        (text, None) => Ok(Some(System::Text(text))),
        (text, Some(cache)) => {
            Ok(Some(System::Block([messages::Block::Text { text, cache_control: Some(cache.into()) }])))
        }
    }
}

fn output_config<'a>(
    effort: Option<&'static str>,
    format: Option<&'a ResponseFormat>,
) -> Result<Option<OutputConfig<'a>>, Unsupported> {
    let format = match format {
        None | Some(ResponseFormat::Text) => None,
        Some(ResponseFormat::Json) => {
            return Err(refuse(
                "response_format.type",
                "Anthropic has no JSON without a schema; send TYPE_JSON_SCHEMA",
            ));
        }
        Some(ResponseFormat::Schema(schema)) => Some(described(schema)?),
    };
    Ok((effort.is_some() || format.is_some()).then_some(OutputConfig { effort, format }))
}

fn described(schema: &message::Schema) -> Result<Format<'_>, Unsupported> {
    let title = limits::title(WHO);
    let name = Some(&schema.name).filter(|name| !name.is_empty());
    let description = Some(&schema.description).filter(|description| !description.is_empty());
    limits::absent(title, "response_format.name", name)?;
    limits::absent(title, "response_format.description", description)?;
    limits::absent(title, "response_format.strict", schema.strict.as_ref())?;
    let schema = json_text::borrow(&schema.json, || "response_format.schema".to_owned())?;
    Ok(Format { kind: "json_schema", schema })
}

/// Of all labels, Anthropic has one.
fn metadata(chat: &Chat) -> Result<Option<Metadata<'_>>, Unsupported> {
    const ONLY: &str = "user_id";
    match chat.metadata.keys().find(|label| *label != ONLY) {
        Some(label) => Err(refuse(format!("metadata[{label:?}]"), "Anthropic has only user_id; leave it out")),
        None => Ok(chat.metadata.get(ONLY).map(|user_id| Metadata { user_id })),
    }
}
