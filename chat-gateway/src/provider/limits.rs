//! Checks of parameters that providers have in different ranges, or not at all.

use std::{fmt::Display, ops::RangeInclusive};

use super::Unsupported;
use crate::message::{CacheControl, Chat, Message, OpenAiApi, Part, Provider, ProviderPart, ToolChoice};

/// Sampling of the likeliest tokens, with the same range everywhere.
pub(super) const TOP_P: RangeInclusive<f64> = 0.0..=1.0;

/// Penalties, where there are any.
pub(super) const PENALTY: RangeInclusive<f64> = -2.0..=2.0;

/// Refuses `value` if it is outside of `range`; also if it is no number.
pub(super) fn within(
    provider: Provider,
    field: &str,
    value: Option<f64>,
    range: &RangeInclusive<f64>,
) -> Result<(), Unsupported> {
    match value {
        Some(value) if !range.contains(&value) => Err(Unsupported {
            field: field.to_owned(),
            problem: format!("{} takes {} to {}, not {value}", title(provider), range.start(), range.end()),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a parameter that `who` does not have.
pub(super) fn absent<T>(who: impl Display, field: &str, value: Option<&T>) -> Result<(), Unsupported> {
    match value {
        Some(_) => {
            Err(Unsupported { field: field.to_owned(), problem: format!("{who} has no {field}; leave it unset") })
        }
        None => Ok(()),
    }
}

/// Refuses more stop sequences than the provider takes.
pub(super) fn stop_sequences(provider: Provider, chat: &Chat, count_max: usize) -> Result<(), Unsupported> {
    let count = chat.stop_sequences.len();
    if count <= count_max {
        return Ok(());
    }
    Err(Unsupported {
        field: "stop_sequences".to_owned(),
        problem: format!("{} takes at most {count_max}, not {count}", title(provider)),
    })
}

/// Refuses a choice that can only be met with tools where there are none. What is met
/// without tools (none, or the model's own choice) needs not be said to the provider.
pub(super) fn tool_choice(chat: &Chat) -> Result<(), Unsupported> {
    match chat.tool_choice {
        Some(ToolChoice::Required | ToolChoice::Tool(_)) if chat.tools.is_empty() => Err(Unsupported {
            field: "tool_choice".to_owned(),
            problem: "a call is required but there are no tools; add tools or leave it unset".to_owned(),
        }),
        Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Required | ToolChoice::Tool(_)) | None => Ok(()),
    }
}

/// Refuses all that lets the provider cache, for providers which cache by themselves.
pub(super) fn no_cache(provider: Provider, chat: &Chat) -> Result<(), Unsupported> {
    let refuse = |field: String, cache: Option<CacheControl>| match cache {
        Some(_) => Err(Unsupported { field, problem: format!("{} caches by itself; leave it unset", title(provider)) }),
        None => Ok(()),
    };
    refuse("cache_control".to_owned(), chat.cache)?;
    refuse("system_cache_control".to_owned(), chat.system_cache)?;
    for (at, tool) in chat.tools.iter().enumerate() {
        refuse(format!("tools[{at}].cache_control"), tool.cache)?;
    }
    for (at, message) in chat.messages.iter().enumerate() {
        let cached = match message {
            Message::User(parts) => first_cached(parts),
            Message::Assistant(parts) => first_cached(parts),
            Message::Tool(results) => first_cached(results).or_else(|| {
                results.iter().enumerate().find_map(|(at, result)| {
                    let (part, cache) = first_cached(&result.content.content)?;
                    Some((format!("[{at}].tool_result.content{part}"), cache))
                })
            }),
        };
        if let Some((part, cache)) = cached {
            refuse(format!("messages[{at}].parts{part}.cache_control"), Some(cache))?;
        }
    }
    Ok(())
}

fn first_cached<T>(parts: &[Part<T>]) -> Option<(String, CacheControl)> {
    parts.iter().enumerate().find_map(|(at, part)| Some((format!("[{at}]"), part.cache?)))
}

/// Refuses the choice between OpenAI's APIs for another provider.
pub(super) fn no_openai_api(provider: Provider, chat: &Chat) -> Result<(), Unsupported> {
    match chat.openai_api {
        Some(OpenAiApi::ChatCompletions | OpenAiApi::Responses) => Err(Unsupported {
            field: "openai_api".to_owned(),
            problem: format!("the model is one of {}; leave it unset", title(provider)),
        }),
        None => Ok(()),
    }
}

/// The JSON of a part in `provider`'s own form. `field` is the path of the part.
pub(super) fn own_part(
    provider: Provider,
    part: &ProviderPart,
    field: impl FnOnce() -> String,
) -> Result<&str, Unsupported> {
    if part.provider == provider {
        return Ok(&part.json);
    }
    Err(Unsupported {
        field: format!("{}.provider", field()),
        problem: format!(
            "a part in the form of {} means nothing to {}; leave it out",
            title(part.provider),
            title(provider)
        ),
    })
}

/// How the provider writes itself.
pub(super) fn title(provider: Provider) -> &'static str {
    super::of(provider).title()
}
