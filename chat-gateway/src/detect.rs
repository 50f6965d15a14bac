//! Finds the provider of a model from its name.
//!
//! One pure function over the rules that each provider's module has. A prefix that names
//! the provider beats the rules for names; the rules for names are anchored at the start
//! and end at a boundary. What no rule knows stays unknown: a guess would send a prompt and
//! a real key to the wrong company. A prefix of anybody else makes the name theirs, whatever
//! follows it.
//!
//! Whether a model chats is told from the words of its name. Names that say nothing
//! chat: the provider can refuse what we let pass, nobody can allow what we refuse.

use crate::{
    message::Provider,
    provider::{self, Shape},
};

/// Where a model's name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detected {
    pub(crate) provider: Provider,
    /// The name for the provider: trimmed, its case kept, without the prefix.
    pub(crate) provider_model: String,
    /// For people: `prefix openai/`, `name claude-`.
    pub(crate) rule: String,
    /// Whether the model chats, as far as its name tells.
    pub(crate) chats: bool,
}

/// No rule leads from a model's name to a provider.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoMatch {
    /// Why, for people.
    pub(crate) reason: String,
}

/// Finds the provider of `model`. Case and surrounding white space do not matter.
pub(crate) fn detect(model: &str) -> Result<Detected, NoMatch> {
    let name = model.trim();
    // ASCII only: it keeps every byte where it is, and no letter of another script
    // becomes one of ours.
    let lower = name.to_ascii_lowercase();
    if name.is_empty() {
        return Err(NoMatch { reason: "the name is empty".to_owned() });
    }
    match lower.find('/') {
        Some(slash) => by_prefix(name, &lower, slash),
        None => by_name(name, &lower),
    }
}

fn by_prefix(name: &str, lower: &str, slash: usize) -> Result<Detected, NoMatch> {
    let (written, rest) = (&name[..slash], name[slash + 1..].trim());
    let Some((prefix, provider)) = prefixes().find(|(prefix, _)| *prefix == &lower[..slash]) else {
        return Err(NoMatch { reason: foreign_prefix(written) });
    };
    if rest.is_empty() {
        return Err(NoMatch { reason: format!("no model follows the prefix {prefix}/") });
    }
    let provider_model = provider::of(provider).model_behind(prefix, rest);
    let chats = chats(provider, &provider_model.to_ascii_lowercase());
    Ok(Detected { provider, provider_model, rule: format!("prefix {prefix}/"), chats })
}

/// What stands before the first slash of a name, and whom it means.
fn prefixes() -> impl Iterator<Item = (&'static str, Provider)> {
    Provider::ALL.into_iter().flat_map(|provider| {
        let others = provider::of(provider).model_names().prefixes;
        [provider.name()].into_iter().chain(others.iter().copied()).map(move |prefix| (prefix, provider))
    })
}

fn foreign_prefix(prefix: &str) -> String {
    let mut known: Vec<String> = prefixes().map(|(prefix, _)| format!("{prefix}/")).collect();
    known.sort();
    format!("the prefix {prefix}/ is not one of {}", known.join(", "))
}

fn by_name(name: &str, lower: &str) -> Result<Detected, NoMatch> {
    if let Some(reason) = foreign_form(lower) {
        return Err(NoMatch { reason });
    }
    if let Some((provider, rule)) = named(lower) {
        let chats = chats(provider, lower);
        return Ok(Detected { provider, provider_model: name.to_owned(), rule, chats });
    }
    Err(NoMatch {
        reason: "no rule knows the name; put its provider in front, for example openai/ or anthropic/".to_owned(),
    })
}

/// Forms under which other companies have the models of ours, or models called like them.
fn foreign_form(lower: &str) -> Option<String> {
    if lower.contains('@') {
        return Some("a name with @ is a model of Vertex AI".to_owned());
    }
    if has_bedrock_version(lower) {
        return Some("a name that ends like -v1:0 is a model of Bedrock".to_owned());
    }
    let is_open = |weights: &&&str| word_follows(lower, weights, |next| !next.is_ascii_alphanumeric());
    Provider::ALL.map(provider::of).into_iter().find_map(|provider| {
        let weights = provider.model_names().open_weights.iter().find(is_open)?;
        Some(format!("{weights} is a model with open weights, not one of {}", provider.title()))
    })
}

/// Whether the name holds `-v`, digits, a colon and a digit.
fn has_bedrock_version(lower: &str) -> bool {
    lower.match_indices("-v").any(|(at, mark)| {
        let version = &lower[at + mark.len()..];
        let rest = version.trim_start_matches(|c: char| c.is_ascii_digit());
        rest.len() < version.len()
            && rest.strip_prefix(':').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// The provider of a rule that knows the name, and the rule in words.
fn named(lower: &str) -> Option<(Provider, String)> {
    Provider::ALL.into_iter().find_map(|provider| {
        let rules = provider::of(provider).model_names().rules;
        let (text, shape) = rules.iter().find(|(text, shape)| matches(lower, text, *shape))?;
        let rule = match shape {
            Shape::Exact | Shape::Start => format!("name {text}"),
            Shape::Word => format!("name {text}-"),
            Shape::Numbered => format!("name {text}[1-9]*"),
        };
        Some((provider, rule))
    })
}

fn matches(lower: &str, text: &str, shape: Shape) -> bool {
    match shape {
        Shape::Exact => lower == text,
        Shape::Word => word_follows(lower, text, |next| next == '-'),
        Shape::Start => lower.strip_prefix(text).is_some_and(|rest| !rest.is_empty()),
        Shape::Numbered => lower.strip_prefix(text).is_some_and(is_number),
    }
}

/// Whether `lower` is `word`, or `word` and then a character that `ends` it.
fn word_follows(lower: &str, word: &str, ends: impl Fn(char) -> bool) -> bool {
    lower.strip_prefix(word).is_some_and(|rest| rest.chars().next().is_none_or(ends))
}

/// `1`, `3-mini`, `10-pro`; not `0`, `1mini`.
fn is_number(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < text.len() && !text.starts_with('0') && (rest.is_empty() || rest.starts_with('-'))
}

fn chats(provider: Provider, lower: &str) -> bool {
    let provider = provider::of(provider);
    let (names, telling) = (provider.model_names(), provider.telling(lower));
    let padded = format!("-{telling}-");
    names.chat_nevertheless.contains(&telling) || !names.not_chat.iter().any(|word| padded.contains(word))
}

#[cfg(test)]
mod tests;
