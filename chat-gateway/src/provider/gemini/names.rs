//! How Google calls the models of its API.
//!
//! What is odd: a model is a resource, `models/x`, which is the same as `x`. A tuned model is a
//! resource of another collection, and that belongs to its name.

use crate::provider::{ModelNames, Shape::Word};

/// The collection of tuned models, as a prefix.
const TUNED: &str = "tunedmodels";

pub(super) const NAMES: ModelNames = ModelNames {
    prefixes: &["google", "google_ai_studio", "models", TUNED],
    rules: &[
        ("aqa", Word),
        ("deep-research", Word),
        ("embedding-001", Word),
        ("gemini", Word),
        ("gemma", Word),
        ("imagen", Word),
        ("learnlm", Word),
        ("lyria", Word),
        ("nano-banana", Word),
        ("text-embedding-004", Word),
        ("veo", Word),
    ],
    open_weights: &[],
    not_chat: &[
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
    ],
    chat_nevertheless: &["gemini-2.0-flash-live-001", "gemini-2.0-flash-preview-image-generation"],
};

/// The model behind a prefix: `models/x` is `x`, whatever the prefix.
pub(super) fn behind(prefix: &str, rest: &str) -> String {
    match prefix {
        TUNED => format!("tunedModels/{rest}"),
        _ => rest.strip_prefix("models/").filter(|name| !name.is_empty()).unwrap_or(rest).to_owned(),
    }
}

/// Of a tuned model nothing: its name is the customer's own words.
pub(super) fn telling(name: &str) -> &str {
    if name.split('/').next() == Some(TUNED) { "" } else { name }
}
