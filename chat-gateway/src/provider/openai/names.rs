//! How OpenAI calls its models.

use crate::provider::{
    ModelNames,
    Shape::{Exact, Numbered, Start, Word},
};

pub(super) const NAMES: ModelNames = ModelNames {
    prefixes: &[],
    rules: &[
        ("babbage", Word),
        ("chat-latest", Exact),
        ("chatgpt-", Start),
        ("codex-", Start),
        ("computer-use-preview", Word),
        ("dall-e", Word),
        ("davinci", Word),
        ("daybreak-", Start),
        ("ft:", Start),
        ("gpt-", Start),
        ("o", Numbered),
        ("omni-moderation", Word),
        ("sora", Word),
        ("text-embedding-3", Word),
        ("text-embedding-ada", Word),
        ("text-moderation", Word),
        ("tts-", Start),
        ("whisper", Word),
    ],
    open_weights: &["gpt-j", "gpt-jt", "gpt-neo", "gpt-neox", "gpt-oss", "gpt-sw3"],
    not_chat: &[
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
    ],
    chat_nevertheless: &[
        "gpt-4o-mini-realtime-preview",
        "gpt-4o-realtime-preview-2024-10-01",
        "gpt-4o-realtime-preview-2024-12-17",
        "gpt-4o-realtime-preview-2025-06-03",
    ],
};

/// Of `ft:BASE:organization:name:id` the base: the customer's own words say nothing.
pub(super) fn telling(name: &str) -> &str {
    name.strip_prefix("ft:").map_or(name, |tuned| tuned.split(':').next().unwrap_or(tuned))
}
