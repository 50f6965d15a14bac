//! How an answer ends, and all that is said of it.
//!
//! A finish reason is no end: turns that run code have one in their middle. The last one
//! counts, with the message that came beside it, and only if no content came after it: an
//! answer that went on and then stopped is cut.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::{Candidate, Word};
use crate::{message::FinishReason, provider::json_text};

/// What is known of the end so far.
#[derive(Debug, Default)]
pub(super) struct Ending {
    reason: Option<String>,
    details: Details,
}

/// What has no common form, under the names that it came with.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_message: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_feedback: Option<Box<RawValue>>,
    /// Only if one of them blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_ratings: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg_logprobs: Option<Box<RawValue>>,
}

impl Ending {
    /// The answer goes on: what was said of its end does not stand.
    pub(super) fn put_off(&mut self) {
        self.reason = None;
        self.details.finish_message = None;
    }

    /// Reads what an event says of the end.
    pub(super) fn add(&mut self, candidate: &mut Candidate<'_>) {
        if let Some(reason) = candidate.finish_reason.take().and_then(Word::said) {
            self.reason = Some(reason);
            self.details.finish_message = None;
        }
        replace(&mut self.details.finish_message, candidate.finish_message);
        replace(&mut self.details.continuation_token, candidate.continuation_token);
        replace(&mut self.details.avg_logprobs, candidate.avg_logprobs);
        replace(&mut self.details.safety_ratings, candidate.safety_ratings.filter(|ratings| any_blocks(ratings)));
    }

    /// Reads what is said of the prompt. Returns why it is blocked, if it is.
    pub(super) fn add_feedback(&mut self, feedback: &RawValue) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Feedback {
            block_reason: Option<Word>,
        }
        replace(&mut self.details.prompt_feedback, Some(feedback).filter(|feedback| feedback.get() != "{}"));
        let feedback: Feedback = json_text::object(feedback.get().as_bytes())?;
        feedback.block_reason.and_then(Word::said)
    }

    /// The last reason that was given.
    pub(super) fn take_reason(&mut self) -> Option<String> {
        self.reason.take()
    }

    /// An object; empty if nothing was said.
    pub(super) fn details(&self) -> String {
        let text = serde_json::to_string(&self.details).unwrap_or_default();
        if text == "{}" { String::new() } else { text }
    }
}

fn replace(known: &mut Option<Box<RawValue>>, said: Option<&RawValue>) {
    if let Some(said) = said {
        *known = Some(said.to_owned());
    }
}

fn any_blocks(ratings: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Rating {
        #[serde(default)]
        blocked: Option<bool>,
    }
    let ratings: Vec<Rating> = serde_json::from_str(ratings.get()).unwrap_or_default();
    ratings.iter().any(|rating| rating.blocked == Some(true))
}

/// The numbers are those of `Candidate.FinishReason`; from 9 on, AI Studio and Vertex AI
/// give them different meanings.
pub(super) fn finish_reason(word: &str, has_calls: bool) -> FinishReason {
    match word {
        "STOP" | "1" if has_calls => FinishReason::ToolCalls,
        "STOP" | "1" => FinishReason::Stop,
        "MAX_TOKENS" | "2" => FinishReason::Length,
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "MODEL_ARMOR" | "3"
        | "4" | "6" | "7" | "8" => FinishReason::ContentFilter,
        "CONTINUATION" => FinishReason::Pause,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MISSING_THOUGHT_SIGNATURE" => {
            FinishReason::MalformedToolCall
        }
        _ if word.starts_with("IMAGE_") => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}
