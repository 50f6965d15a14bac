//! How much a model thinks, and what does not go together with it.
//!
//! <https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking>. Older families
//! take a budget of tokens; newer ones are told in words how much to do, and think as much
//! as they find right.

use serde::Serialize;

use super::refuse;
use crate::{
    message::{Amount, Chat, Effort, Summary, ToolChoice},
    provider::{
        Unsupported,
        anthropic::models::{self, Thinks},
    },
};

/// What Anthropic asks for at least.
const BUDGET_TOKENS_MIN: u32 = 1_024;

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Config {
    Disabled,
    Adaptive {
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<Display>,
    },
    Enabled {
        budget_tokens: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<Display>,
    },
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Display {
    Summarized,
    Omitted,
}

/// Whether and how `model` thinks, and the effort that it makes.
pub(super) fn thinking(
    model: &str,
    max_tokens: u32,
    chat: &Chat,
) -> Result<(Option<Config>, Option<&'static str>), Unsupported> {
    let Some(asked) = chat.thinking else { return Ok((None, None)) };
    let thinks = models::of(model).thinks;
    let display = display(asked.summary)?;
    let (config, effort) = match asked.amount {
        None => (shown(model, thinks, display)?, None),
        Some(Amount::Tokens(tokens)) => (Some(budget(model, thinks, tokens, max_tokens, display)?), None),
        Some(Amount::AnyTokens) if thinks.is_adaptive() => (Some(Config::Adaptive { display }), None),
        Some(Amount::AnyTokens) => {
            return Err(refuse("reasoning.budget_tokens", format!("{model} does not choose how much it thinks")));
        }
        Some(Amount::Effort(Effort::None)) => ((thinks != Thinks::Never).then_some(Config::Disabled), None),
        Some(Amount::Effort(effort)) => (words(model, thinks, effort, display)?, Some(effort.name())),
    };
    match config {
        Some(Config::Adaptive { .. } | Config::Enabled { .. }) => fits_beside(chat)?,
        Some(Config::Disabled) | None => {}
    }
    Ok((config, effort))
}

fn display(summary: Option<Summary>) -> Result<Option<Display>, Unsupported> {
    match summary {
        None => Ok(None),
        Some(Summary::Auto) => Ok(Some(Display::Summarized)),
        Some(Summary::None) => Ok(Some(Display::Omitted)),
        Some(Summary::Concise | Summary::Detailed) => {
            Err(refuse("reasoning.summary", "Anthropic has only SUMMARY_NONE and SUMMARY_AUTO"))
        }
    }
}

/// Only what is to be shown was said. To hide what is not thought needs nothing.
fn shown(model: &str, thinks: Thinks, display: Option<Display>) -> Result<Option<Config>, Unsupported> {
    match display {
        None => Ok(None),
        Some(Display::Omitted) if thinks != Thinks::Unasked => Ok(None),
        Some(Display::Omitted | Display::Summarized) if thinks.is_adaptive() => Ok(Some(Config::Adaptive { display })),
        Some(Display::Omitted | Display::Summarized) => Err(unshown(model)),
    }
}

fn unshown(model: &str) -> Unsupported {
    refuse("reasoning.summary", format!("{model} thinks only within a budget, or not at all; set budget_tokens"))
}

fn budget(
    model: &str,
    thinks: Thinks,
    tokens: u32,
    max_tokens: u32,
    display: Option<Display>,
) -> Result<Config, Unsupported> {
    let problem = match thinks {
        Thinks::Never => format!("{model} does not think; leave it unset"),
        Thinks::ByEffort | Thinks::Unasked => format!("{model} takes no budget; set an effort, or -1"),
        Thinks::ByBudget | Thinks::ByBudgetBesideEffort | Thinks::Either | Thinks::Unknown => {
            if (BUDGET_TOKENS_MIN..max_tokens).contains(&tokens) {
                return Ok(Config::Enabled { budget_tokens: tokens, display });
            }
            format!(
                "Anthropic takes {BUDGET_TOKENS_MIN} or more, and less than the {max_tokens} of the answer, not {tokens}"
            )
        }
    };
    Err(refuse("reasoning.budget_tokens", problem))
}

/// How a model thinks that is told `effort`.
fn words(model: &str, thinks: Thinks, effort: Effort, display: Option<Display>) -> Result<Option<Config>, Unsupported> {
    let lacks = match effort {
        Effort::None | Effort::Low | Effort::Medium | Effort::High => false,
        Effort::Minimal => true,
        Effort::Xhigh => matches!(thinks, Thinks::ByBudgetBesideEffort | Thinks::Either),
        Effort::Max => thinks == Thinks::ByBudgetBesideEffort,
    };
    let problem = match thinks {
        Thinks::Never => format!("{model} does not think; leave it unset"),
        Thinks::ByBudget => format!("{model} takes no words; set budget_tokens"),
        _ if lacks => format!("{model} has no effort {}; take the next", effort.name()),
        Thinks::ByBudgetBesideEffort => {
            return match display {
                None | Some(Display::Omitted) => Ok(None),
                Some(Display::Summarized) => Err(unshown(model)),
            };
        }
        Thinks::Either | Thinks::ByEffort | Thinks::Unasked | Thinks::Unknown => {
            return Ok(Some(Config::Adaptive { display }));
        }
    };
    Err(refuse("reasoning.effort", problem))
}

/// Refuses what Anthropic does not take of a model that thinks.
fn fits_beside(chat: &Chat) -> Result<(), Unsupported> {
    let is_outside = |value: Option<f64>, least: f64| value.is_some_and(|value| !(least..=1.0).contains(&value));
    let is_forced = match chat.tool_choice {
        Some(ToolChoice::Required | ToolChoice::Tool(_)) => true,
        Some(ToolChoice::Auto | ToolChoice::None) | None => false,
    };
    for (field, is_refused, problem) in [
        ("temperature", is_outside(chat.temperature, 1.0), "must be 1 for a model that thinks; leave it unset"),
        ("top_p", is_outside(chat.top_p, 0.95), "must be 0.95 to 1 for a model that thinks"),
        ("top_k", chat.top_k.is_some(), "a model that thinks has no top_k; leave it unset"),
        ("tool_choice", is_forced, "a model that thinks cannot be made to call a tool; let it choose"),
    ] {
        if is_refused {
            return Err(refuse(field, problem));
        }
    }
    Ok(())
}
