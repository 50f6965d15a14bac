//! How to generate: sampling, the form of the answer, and how much to think.

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::models::{Abilities, Thinking as Told};
use crate::{
    message::{Amount, Chat, Effort, ResponseFormat, Schema, Summary, Thinking, Tool},
    provider::{Unsupported, json_text, limits},
};

#[derive(PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GenerationConfig<'a> {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<Json<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

impl GenerationConfig<'_> {
    pub(super) fn is_default(&self) -> bool {
        *self == GenerationConfig::default()
    }
}

/// JSON of the caller's, compared as the text that it is.
#[derive(Serialize)]
#[serde(transparent)]
struct Json<'a>(&'a RawValue);

impl PartialEq for Json<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

#[derive(PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
    /// 0 is none, -1 as many as the model likes. Not beside a level.
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
}

pub(super) fn generation_config(abilities: Abilities, chat: &Chat) -> Result<GenerationConfig<'_>, Unsupported> {
    let (response_mime_type, response_json_schema) = response_form(abilities, chat)?;
    Ok(GenerationConfig {
        max_output_tokens: chat.max_output_tokens,
        temperature: chat.temperature,
        top_p: chat.top_p,
        top_k: chat.top_k,
        stop_sequences: &chat.stop_sequences,
        seed: chat.seed,
        presence_penalty: chat.presence_penalty,
        frequency_penalty: chat.frequency_penalty,
        response_mime_type,
        response_json_schema,
        thinking_config: thinking_config(abilities.thinking, chat.thinking.unwrap_or_default())?,
    })
}

type Form<'a> = (Option<&'static str>, Option<Json<'a>>);

fn response_form(abilities: Abilities, chat: &Chat) -> Result<Form<'_>, Unsupported> {
    const JSON: Option<&str> = Some("application/json");
    let form = match &chat.response_format {
        None | Some(ResponseFormat::Text) => return Ok((None, None)),
        Some(ResponseFormat::Json) => (JSON, None),
        Some(ResponseFormat::Schema(schema)) => (JSON, Some(Json(checked(schema)?))),
    };
    let has_functions = chat.tools.iter().any(|tool| matches!(tool.content, Tool::Function(_)));
    if has_functions && !abilities.forms_beside_functions {
        return Err(Unsupported {
            field: "response_format".to_owned(),
            problem: "Gemini has no JSON beside functions before version 3; leave one of them out".to_owned(),
        });
    }
    Ok(form)
}

fn checked(schema: &Schema) -> Result<&RawValue, Unsupported> {
    let said = |text: &str| (!text.is_empty()).then_some(());
    let who = limits::title(super::WHO);
    limits::absent(who, "response_format.name", said(&schema.name).as_ref())?;
    limits::absent(who, "response_format.description", said(&schema.description).as_ref())?;
    limits::absent(who, "response_format.strict", schema.strict.as_ref())?;
    json_text::borrow(&schema.json, || "response_format.schema".to_owned())
}

fn thinking_config(told: Told, asked: Thinking) -> Result<Option<ThinkingConfig>, Unsupported> {
    if asked == Thinking::default() {
        return Ok(None);
    }
    if told == Told::Never {
        if asks_for_none(asked) {
            return Ok(None);
        }
        return Err(refused("reasoning", "this model does not think; leave it unset"));
    }
    let mut config = ThinkingConfig { include_thoughts: shown(asked.summary)?, ..ThinkingConfig::default() };
    match asked.amount {
        None => {}
        Some(Amount::Tokens(tokens)) => config.thinking_budget = Some(tokens.into()),
        Some(Amount::AnyTokens) => config.thinking_budget = Some(-1),
        Some(Amount::Effort(Effort::None)) if told == Told::Budget => config.thinking_budget = Some(0),
        Some(Amount::Effort(_)) if told == Told::Budget => {
            let problem = "this model takes no words but none; say how many tokens";
            return Err(refused("reasoning.effort", problem));
        }
        Some(Amount::Effort(effort @ (Effort::Minimal | Effort::Low | Effort::Medium | Effort::High))) => {
            config.thinking_level = Some(effort.name());
        }
        Some(Amount::Effort(Effort::None | Effort::Xhigh | Effort::Max)) => {
            return Err(refused("reasoning.effort", "Gemini takes minimal to high"));
        }
    }
    Ok(Some(config))
}

/// What holds for a model that does not think.
fn asks_for_none(asked: Thinking) -> bool {
    matches!(asked.amount, None | Some(Amount::Effort(Effort::None)))
        && matches!(asked.summary, None | Some(Summary::None))
}

fn shown(summary: Option<Summary>) -> Result<Option<bool>, Unsupported> {
    match summary {
        None => Ok(None),
        Some(Summary::None) => Ok(Some(false)),
        Some(Summary::Auto) => Ok(Some(true)),
        Some(Summary::Concise | Summary::Detailed) => {
            Err(refused("reasoning.summary", "Gemini has one length of summary; ask for any"))
        }
    }
}

fn refused(field: &str, problem: &str) -> Unsupported {
    Unsupported { field: field.to_owned(), problem: problem.to_owned() }
}
