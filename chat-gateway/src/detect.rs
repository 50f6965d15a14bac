//! Finds the provider of a model from its name.
//!
//! One table and one pure function. A prefix that names the provider beats the rules
//! for names; the rules for names are anchored at the start and end at a boundary. What
//! no rule knows stays unknown: a guess would send a prompt and a real key to the wrong
//! company. A prefix of anybody else makes the name theirs, whatever follows it.
//!
//! Whether a model chats is told from the words of its name. Names that say nothing
//! chat: the provider can refuse what we let pass, nobody can allow what we refuse.

use crate::message::Provider;

/// Where a model's name leads.
#[derive(Debug, PartialEq, Eq)]
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

/// What stands before the first slash of a name, and whom it means.
const PREFIXES: &[(&str, Provider)] = &[
    ("anthropic", Provider::Anthropic),
    ("gemini", Provider::Gemini),
    ("google", Provider::Gemini),
    ("google_ai_studio", Provider::Gemini),
    ("models", Provider::Gemini),
    ("openai", Provider::OpenAi),
    ("tunedmodels", Provider::Gemini),
];

fn by_prefix(name: &str, lower: &str, slash: usize) -> Result<Detected, NoMatch> {
    let (written, rest) = (&name[..slash], name[slash + 1..].trim());
    let Some((prefix, provider)) = PREFIXES.iter().find(|(prefix, _)| *prefix == &lower[..slash]) else {
        return Err(NoMatch { reason: foreign_prefix(written) });
    };
    if rest.is_empty() {
        return Err(NoMatch { reason: format!("no model follows the prefix {prefix}/") });
    }
    // A tuned model is a resource of its own; its prefix belongs to its name.
    let provider_model = match *prefix {
        "tunedmodels" => format!("tunedModels/{rest}"),
        _ => without_collection(*provider, rest).to_owned(),
    };
    let chats = chats(*provider, &provider_model.to_ascii_lowercase());
    Ok(Detected { provider: *provider, provider_model, rule: format!("prefix {prefix}/"), chats })
}

fn foreign_prefix(prefix: &str) -> String {
    let known: Vec<String> = PREFIXES.iter().map(|(prefix, _)| format!("{prefix}/")).collect();
    format!("the prefix {prefix}/ is not one of {}", known.join(", "))
}

/// Gemini's `models/x` is the same model as `x`.
fn without_collection(provider: Provider, name: &str) -> &str {
    match provider {
        Provider::Gemini => name.strip_prefix("models/").filter(|rest| !rest.is_empty()).unwrap_or(name),
        Provider::Anthropic | Provider::OpenAi => name,
    }
}

/// How a rule reads a name.
#[derive(Clone, Copy)]
enum Shape {
    /// The whole name.
    Exact,
    /// The name starts with this word: a hyphen or nothing follows.
    Word,
    /// The name starts with this and goes on.
    Start,
    /// `o`, a number without a leading zero, then a hyphen or nothing.
    Numbered,
}

/// Rules for names without a prefix. No name matches two of them, so the order carries
/// no meaning; keep it sorted.
#[rustfmt::skip] // one rule a line
const NAMES: &[(&str, Shape, Provider)] = &[
    ("aqa", Shape::Word, Provider::Gemini),
    ("babbage", Shape::Word, Provider::OpenAi),
    ("chat-latest", Shape::Exact, Provider::OpenAi),
    ("chatgpt-", Shape::Start, Provider::OpenAi),
    ("claude", Shape::Word, Provider::Anthropic),
    ("codex-", Shape::Start, Provider::OpenAi),
    ("computer-use-preview", Shape::Word, Provider::OpenAi),
    ("dall-e", Shape::Word, Provider::OpenAi),
    ("davinci", Shape::Word, Provider::OpenAi),
    ("daybreak-", Shape::Start, Provider::OpenAi),
    ("deep-research", Shape::Word, Provider::Gemini),
    ("embedding-001", Shape::Word, Provider::Gemini),
    ("gemini", Shape::Word, Provider::Gemini),
    ("gemma", Shape::Word, Provider::Gemini),
    ("gpt-", Shape::Start, Provider::OpenAi),
    ("imagen", Shape::Word, Provider::Gemini),
    ("learnlm", Shape::Word, Provider::Gemini),
    ("lyria", Shape::Word, Provider::Gemini),
    ("nano-banana", Shape::Word, Provider::Gemini),
    ("o[1-9]*", Shape::Numbered, Provider::OpenAi),
    ("omni-moderation", Shape::Word, Provider::OpenAi),
    ("sora", Shape::Word, Provider::OpenAi),
    ("text-embedding-004", Shape::Word, Provider::Gemini),
    ("text-embedding-3", Shape::Word, Provider::OpenAi),
    ("text-embedding-ada", Shape::Word, Provider::OpenAi),
    ("text-moderation", Shape::Word, Provider::OpenAi),
    ("tts-", Shape::Start, Provider::OpenAi),
    ("veo", Shape::Word, Provider::Gemini),
    ("whisper", Shape::Word, Provider::OpenAi),
];

/// Open weights that are called like an OpenAI model. api.openai.com serves none of them.
const OPEN_WEIGHTS: &[&str] = &["gpt-j", "gpt-jt", "gpt-neo", "gpt-neox", "gpt-oss", "gpt-sw3"];

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

/// Forms under which other companies sell the models of our three.
fn foreign_form(lower: &str) -> Option<String> {
    if lower.contains('@') {
        return Some("a name with @ is a model of Vertex AI".to_owned());
    }
    if has_bedrock_version(lower) {
        return Some("a name that ends like -v1:0 is a model of Bedrock".to_owned());
    }
    let is_open = |weights: &&&str| word_follows(lower, weights, |next| !next.is_ascii_alphanumeric());
    OPEN_WEIGHTS
        .iter()
        .find(is_open)
        .map(|weights| format!("{weights} is a model with open weights, not one of OpenAI"))
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

fn named(lower: &str) -> Option<(Provider, String)> {
    if lower.strip_prefix("ft:").is_some_and(|base| !base.is_empty()) {
        return Some((Provider::OpenAi, "name ft:".to_owned()));
    }
    let (text, shape, provider) = NAMES.iter().find(|(text, shape, _)| shape.matches(text, lower))?;
    let rule = match shape {
        Shape::Word => format!("name {text}-"),
        Shape::Exact | Shape::Start | Shape::Numbered => format!("name {text}"),
    };
    Some((*provider, rule))
}

impl Shape {
    fn matches(self, text: &str, lower: &str) -> bool {
        match self {
            Self::Exact => lower == text,
            Self::Word => word_follows(lower, text, |next| next == '-'),
            Self::Start => lower.strip_prefix(text).is_some_and(|rest| !rest.is_empty()),
            Self::Numbered => numbered(lower),
        }
    }
}

/// Whether `lower` is `word`, or `word` and then a character that `ends` it.
fn word_follows(lower: &str, word: &str, ends: impl Fn(char) -> bool) -> bool {
    lower.strip_prefix(word).is_some_and(|rest| rest.chars().next().is_none_or(ends))
}

/// `o1`, `o3-mini`, `o10-pro`; not `o`, `o1mini`, `olmo`.
fn numbered(lower: &str) -> bool {
    let Some(number) = lower.strip_prefix('o') else { return false };
    let rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < number.len() && !number.starts_with('0') && (rest.is_empty() || rest.starts_with('-'))
}

/// Words of names which mean that the model does something else than chat. A name is
/// read as `-name-`, so that a word is met whole.
const OPENAI_NOT_CHAT: &[&str] = &[
    "-babbage-",
    "-dall-e-",
    "-davinci-",
    "-embedding-",
    "-image-",
    "-instruct-",
    "-live-",
    "-moderation-",
    "-realtime-",
    "-sora-",
    "-transcribe-",
    "-tts-",
    "-whisper-",
];

/// As [`OPENAI_NOT_CHAT`].
const GEMINI_NOT_CHAT: &[&str] = &[
    "-aqa-",
    "-embedding-",
    "-image-",
    "-imagen-",
    "-live-",
    "-nano-banana-",
    "-native-audio-",
    "-realtime-",
    "-transcribe-",
    "-tts-",
    "-veo-",
];

/// Models that catalogues list as chatting although their names say otherwise. They are
/// previews, most of them withdrawn: whether they chat is for the provider to answer.
const CHATS_NEVERTHELESS: &[&str] = &[
    "gemini-2.0-flash-live-001",
    "gemini-2.0-flash-preview-image-generation",
    "gpt-4o-mini-realtime-preview",
    "gpt-4o-realtime-preview-2024-10-01",
    "gpt-4o-realtime-preview-2024-12-17",
    "gpt-4o-realtime-preview-2025-06-03",
];

fn chats(provider: Provider, lower: &str) -> bool {
    // `ft:BASE:organization:name:id`: the customer's own words say nothing.
    let base = lower.strip_prefix("ft:").map_or(lower, |tuned| tuned.split(':').next().unwrap_or(tuned));
    let not_chat: &[&str] = match provider {
        Provider::Anthropic => &[],
        Provider::OpenAi => OPENAI_NOT_CHAT,
        Provider::Gemini if base.starts_with("tunedmodels/") => &[],
        Provider::Gemini => GEMINI_NOT_CHAT,
    };
    let padded = format!("-{base}-");
    CHATS_NEVERTHELESS.contains(&base) || !not_chat.iter().any(|word| padded.contains(word))
}

#[cfg(test)]
mod tests;
