//! The path and the body of a request to Gemini.

mod config;
mod contents;
mod files;
mod tools;

use std::fmt::Write as _;

use serde::Serialize;

use self::{
    config::GenerationConfig,
    contents::{Content, Part},
    tools::{Tool, ToolConfig},
};
use super::models;
use crate::{
    message::{Chat, Provider},
    provider::{Unsupported, json_text, limits},
};

const WHO: Provider = Provider::Gemini;

const STOP_SEQUENCES_MAX: usize = 5;

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
    let abilities = models::abilities(model);
    let system = Some(&chat.system).filter(|system| !system.is_empty());
    json_text::serialize(&Body {
        contents: contents::contents(abilities, &chat.messages)?,
        system_instruction: system.map(|text| Instruction { parts: [Part::text(text)] }),
        tools: tools::tools(&chat.tools)?,
        tool_config: tools::tool_config(chat)?,
        generation_config: config::generation_config(abilities, chat)?,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Instruction<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "GenerationConfig::is_default")]
    generation_config: GenerationConfig<'a>,
}

#[derive(Serialize)]
struct Instruction<'a> {
    parts: [Part<'a>; 1],
}

fn check(chat: &Chat) -> Result<(), Unsupported> {
    limits::tool_choice(chat)?;
    limits::no_cache(WHO, chat)?;
    limits::no_openai_api(WHO, chat)?;
    limits::absent(limits::title(WHO), "parallel_tool_calls", chat.parallel_tool_calls.as_ref())?;
    limits::absent(limits::title(WHO), "metadata", chat.metadata.first_key_value().as_ref())?;
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
