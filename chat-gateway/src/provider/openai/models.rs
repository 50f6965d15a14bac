//! What is known of a model by its name.

use crate::{
    message::{Amount, Chat, Effort, Provider},
    provider::{Unsupported, limits},
};

/// `temperature` and `top_p` of a model that takes no others.
const SAMPLING_DEFAULT: f64 = 1.0;

/// The model that a fine-tuned one is made from, in lower case.
pub(super) fn base(model: &str) -> String {
    let lower = model.to_ascii_lowercase();
    match lower.strip_prefix("ft:") {
        Some(tuned) => tuned.split(':').next().unwrap_or(tuned).to_owned(),
        None => lower,
    }
}

/// Whether the model thinks before it answers: the o-series, GPT from 5 on except
/// `gpt-5-chat`, and what is made of them under other names. Such a model is instructed by
/// the developer and refuses to be sampled.
pub(super) fn is_reasoning(model: &str) -> bool {
    let base = base(model);
    if base.starts_with("codex-") || is_or_begins(&base, "computer-use-preview") {
        return true;
    }
    if let Some(rest) = base.strip_prefix('o') {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        return after.len() < rest.len() && (after.is_empty() || after.starts_with('-'));
    }
    gpt_version(&base).is_some_and(|version| version >= (5, 0)) && !never_thinks(&base)
}

/// Whether the model is known not to think. Of a name that is not known (a model of another
/// maker that a server like OpenAI's has, or one that is newer than this) nothing is refused.
pub(super) fn never_thinks(model: &str) -> bool {
    let base = base(model);
    gpt_version(&base).is_some_and(|version| version < (5, 0))
        || ["gpt-35", "gpt-5-chat", "gpt-audio", "chatgpt-"].iter().any(|first| base.starts_with(first))
        || is_search_preview(&base)
}

/// Whether the model searches the web before each answer. It is sampled by nobody.
pub(super) fn is_search_preview(model: &str) -> bool {
    let base = base(model);
    base.ends_with("-search-preview") || base.contains("-search-preview-")
}

/// The effort that a request to the model says. None is the effort of what does not think.
pub(super) fn effort(model: &str, chat: &Chat) -> Option<&'static str> {
    match chat.thinking?.amount? {
        Amount::Effort(Effort::None) if never_thinks(model) => None,
        Amount::Effort(effort) => Some(effort.name()),
        // Refused before.
        Amount::Tokens(_) | Amount::AnyTokens => None,
    }
}

/// Whether the model may be sampled with `temperature` and the like. The reasoning models
/// refuse it; from GPT 5.1 on, only if they are told to think, which they do not by default.
pub(super) fn is_sampled(model: &str, chat: &Chat) -> bool {
    let thinks_only_if_told = gpt_version(&base(model)).is_some_and(|version| version >= (5, 1));
    !is_reasoning(model) || (thinks_only_if_told && !is_told_to_think(chat))
}

/// Whether an effort is asked for.
pub(super) fn is_told_to_think(chat: &Chat) -> bool {
    chat.thinking.and_then(|thinking| thinking.amount).is_some_and(|amount| amount != Amount::Effort(Effort::None))
}

/// Refuses to sample otherwise than a model that is not sampled does anyway.
pub(super) fn check_sampling(model: &str, chat: &Chat) -> Result<(), Unsupported> {
    if is_sampled(model, chat) {
        return Ok(());
    }
    for (field, value) in [("temperature", chat.temperature), ("top_p", chat.top_p)] {
        if value.is_some_and(|value| value.total_cmp(&SAMPLING_DEFAULT).is_ne()) {
            return Err(Unsupported {
                field: field.to_owned(),
                problem: format!("{model} takes only {SAMPLING_DEFAULT} while it thinks; leave it unset"),
            });
        }
    }
    Ok(())
}

/// Refuses an amount of thinking that the model does not know.
pub(super) fn check_amount(model: &str, chat: &Chat) -> Result<(), Unsupported> {
    match chat.thinking.and_then(|thinking| thinking.amount) {
        Some(Amount::Effort(effort)) if effort != Effort::None && never_thinks(model) => {
            limits::absent(model, "reasoning.effort", Some(&effort))
        }
        Some(amount @ (Amount::Tokens(_) | Amount::AnyTokens)) => {
            limits::absent(limits::title(Provider::OpenAi), "reasoning.budget_tokens", Some(&amount))
        }
        Some(Amount::Effort(_)) | None => Ok(()),
    }
}

/// Whether the model is served by the Responses API and by no other.
pub(super) fn only_responses(model: &str) -> bool {
    let base = base(model);
    base.starts_with("codex-")
        || base.contains("-codex")
        || base.contains("deep-research")
        || base.starts_with("gpt-daybreak-")
        || is_or_begins(&base, "computer-use-preview")
        || (is_reasoning(&base) && base.split('-').any(|word| word == "pro"))
}

/// Whether the model refuses, on Chat Completions, to think if it is given functions.
pub(super) fn thinks_without_functions(model: &str) -> bool {
    gpt_version(&base(model)).is_some_and(|version| version >= (5, 4))
}

/// The version of a GPT, without a minor one as 0.
fn gpt_version(base: &str) -> Option<(u32, u32)> {
    let rest = base.strip_prefix("gpt-")?;
    let (major, rest) = number(rest)?;
    let minor = rest.strip_prefix('.').and_then(number).map_or(0, |(minor, _)| minor);
    // Azure writes 3.5 as 35.
    (major != 35).then_some((major, minor))
}

/// A number that `text` begins with, and the rest.
fn number(text: &str) -> Option<(u32, &str)> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(rest)?;
    Some((digits.parse().ok()?, rest))
}

fn is_or_begins(base: &str, name: &str) -> bool {
    base.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The first of the o-series know no instructions.
pub(super) fn takes_no_system(model: &str) -> bool {
    let base = base(model);
    ["o1-mini", "o1-preview"].iter().any(|first| is_or_begins(&base, first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Thinking;

    #[test]
    fn some_models_answer_only_through_responses() {
        for (model, only) in [
            ("codex-mini-latest", true),
            ("gpt-5-codex", true),
            ("GPT-5.1-Codex-max", true),
            ("o1-pro", true),
            ("o3-pro-2025-06-10", true),
            ("gpt-5-pro", true),
            ("gpt-5.4-pro-2026-03-05", true),
            ("o4-mini-deep-research-2025-06-26", true),
            ("computer-use-preview", true),
            ("computer-use-preview-2025-03-11", true),
            ("gpt-daybreak-blue-latest", true),
            ("ft:o3-pro:acme:name:id", true),
            ("ft:gpt-4o:acme:codex-pro:id", false),
            ("gpt-4o", false),
            ("gpt-5", false),
            ("gpt-5-chat-latest", false),
            ("gpt-5.5-professional", false),
            ("gpt-4-pro", false),
            ("o3", false),
            ("computer-use-previews", false),
        ] {
            assert_eq!(only_responses(model), only, "{model}");
        }
    }

    #[test]
    fn few_models_are_known_not_to_think() {
        for (model, reasoning, thoughtless) in [
            ("gpt-3.5-turbo", false, true),
            ("gpt-35-turbo", false, true),
            ("gpt-4", false, true),
            ("gpt-4o-mini", false, true),
            ("GPT-4.1", false, true),
            ("ft:gpt-4o:acme", false, true),
            ("chatgpt-4o-latest", false, true),
            ("gpt-5-chat-latest", false, true),
            ("gpt-4o-search-preview-2025-03-11", false, true),
            ("gpt-5-search-preview", false, true),
            ("gpt-audio-mini", false, true),
            ("gpt-5", true, false),
            ("gpt-5.2-chat-latest", true, false),
            ("o3", true, false),
            ("openai/gpt-oss-120b", false, false),
            ("gpt-oss-20b", false, false),
            ("openai/grok-3-mini", false, false),
            ("daybreak-blue", false, false),
            ("chat-latest", false, false),
        ] {
            assert_eq!((is_reasoning(model), never_thinks(model)), (reasoning, thoughtless), "{model}");
        }
    }

    #[test]
    fn what_does_not_think_is_sampled() {
        let none = Some(Thinking { amount: Some(Amount::Effort(Effort::None)), summary: None });
        let low = Some(Thinking { amount: Some(Amount::Effort(Effort::Low)), summary: None });
        for (model, thinking, sampled) in [
            ("gpt-4o", low, true),
            ("gpt-35-turbo", None, true),
            ("gpt-5-chat-latest", None, true),
            ("gpt-5", none, false),
            ("gpt-5-mini", None, false),
            ("o3", none, false),
            ("codex-mini-latest", none, false),
            ("gpt-5.1", none, true),
            ("gpt-5.1", low, false),
            ("gpt-5.1", None, true),
            ("gpt-5", None, false),
            ("gpt-5.10-mini", none, true),
            ("gpt-6-sol", none, true),
            ("ft:gpt-5.2:acme", none, true),
        ] {
            assert_eq!(is_sampled(model, &Chat { thinking, ..Chat::default() }), sampled, "{model} {thinking:?}");
        }
    }
}
