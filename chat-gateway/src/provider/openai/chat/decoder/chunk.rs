//! A chunk as it comes. All fields that are known are named, so that the others can be
//! noted; what has no common form stays as it is.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    message::Usage,
    provider::{bounded_list, json_text},
};

/// Fields that say nothing to anyone: what every chunk is, padding (`p` is Mistral's), which
/// part of the text a filter has looked at, and the number of a token that is there as text.
pub(super) const PASSED_OVER: [&str; 7] =
    ["object", "created", "obfuscation", "p", "role", "content_filter_offsets", "token_id"];

#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    #[serde(borrow, default, deserialize_with = "bounded_list::read")]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) system_fingerprint: Option<&'a RawValue>,
    /// Who answers, if the server only relays.
    #[serde(borrow)]
    pub(super) provider: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) moderation: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) prompt_filter_results: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(default)]
    pub(super) index: u64,
    #[serde(borrow)]
    pub(super) delta: Option<Delta<'a>>,
    pub(super) finish_reason: Option<String>,
    /// The word of who answers, if the server only relays.
    #[serde(borrow)]
    pub(super) native_finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) content_filter_results: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Delta<'a> {
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    #[serde(default, deserialize_with = "bounded_list::read")]
    pub(super) tool_calls: Option<Vec<CallDelta>>,
    /// The form before there were several calls.
    pub(super) function_call: Option<FunctionDelta>,
    #[serde(borrow)]
    pub(super) reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) audio: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "bounded_list::read")]
    pub(super) annotations: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct CallDelta {
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    pub(super) function: Option<FunctionDelta>,
    pub(super) custom: Option<CustomDelta>,
}

impl CallDelta {
    /// Whether it is a call of something that is newer than this.
    pub(super) fn is_new(&self) -> bool {
        let is_known = self.function.is_some() || self.custom.is_some();
        !is_known && self.kind.as_ref().is_some_and(|kind| kind != "function")
    }
}

#[derive(Default, Deserialize)]
pub(super) struct FunctionDelta {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct CustomDelta {
    pub(super) name: Option<String>,
    pub(super) input: Option<String>,
}

/// An annotation of the text: only of one kind is more known than that it is one.
#[derive(Default, Deserialize)]
pub(super) struct Annotation {
    pub(super) url_citation: Option<UrlCitation>,
}

#[derive(Deserialize)]
pub(super) struct UrlCitation {
    pub(super) start_index: Option<u64>,
    pub(super) end_index: Option<u64>,
    pub(super) title: Option<String>,
    pub(super) url: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Logprobs<'a> {
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) refusal: Option<&'a RawValue>,
}

/// Counts, each by itself: one that cannot be read is none, and breaks no answer.
#[derive(Default, Deserialize)]
pub(super) struct Counts<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct CountDetails<'a> {
    #[serde(borrow, rename = "cached_tokens")]
    cached: Option<&'a RawValue>,
    #[serde(borrow, rename = "cache_write_tokens")]
    cache_write: Option<&'a RawValue>,
    #[serde(borrow, rename = "reasoning_tokens")]
    reasoning: Option<&'a RawValue>,
}

impl<'a> Counts<'a> {
    pub(super) fn of(usage: &'a RawValue) -> Self {
        json_text::object(usage.get().as_bytes()).unwrap_or_default()
    }

    /// The counts, on top of those that came before: each replaces its own.
    pub(super) fn after(&self, before: Usage) -> Usage {
        let prompt = CountDetails::of(self.prompt_tokens_details);
        let completion = CountDetails::of(self.completion_tokens_details);
        let input = count(self.prompt_tokens).or(before.input);
        let output = count(self.completion_tokens).or(before.output);
        let sum = || input.zip(output).map(|(input, output)| input.saturating_add(output));
        Usage {
            input,
            cached_input: count(prompt.cached).or(before.cached_input),
            cache_write: count(prompt.cache_write).or(before.cache_write),
            output,
            reasoning: count(completion.reasoning).or(before.reasoning),
            total: count(self.total_tokens).or_else(sum).or(before.total),
        }
    }
}

impl<'a> CountDetails<'a> {
    fn of(details: Option<&'a RawValue>) -> Self {
        details.and_then(|details| json_text::object(details.get().as_bytes())).unwrap_or_default()
    }
}

fn count(raw: Option<&RawValue>) -> Option<u64> {
    serde_json::from_str(raw?.get()).ok()
}
