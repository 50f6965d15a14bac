//! The event that ends an answer, and how it says that it ended.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{ResponseDecoder, parse, pass_on_if, refused, wire::Identity};
use crate::{
    message::{Event, Finish, FinishReason, Usage},
    provider::{Broken, Output, json_text, tool_calls::CallEnd},
};

#[derive(Deserialize)]
struct Terminal<'a> {
    #[serde(borrow)]
    response: &'a RawValue,
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// What is read of a response, repeats what was streamed, or echoes what was asked.
const KNOWN: [&str; 34] = [
    "background",
    "completed_at",
    "conversation",
    "created_at",
    "error",
    "frequency_penalty",
    "id",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "object",
    "output",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "status",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "usage",
    "user",
];

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

impl ResponseDecoder {
    pub(super) fn terminal(&mut self, kind: &str, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let (Terminal { response }, more): (Terminal<'_>, bool) = parse(data)?;
        let response = response.get().as_bytes();
        let fields: Fields<'_> = json_text::object(response).ok_or(Broken::Malformed("an end without its response"))?;
        let identity: Identity = json_text::object(response).ok_or(Broken::Malformed("a response is unnamed"))?;
        identity.identify(out);
        let provider_usage = usage(&fields, out);
        let status: Option<String> = field(&fields, "status");
        if kind == "response.failed" || status.as_deref() == Some("failed") {
            return Err(refused(fields.get("error").map_or(b"null", |error| error.get().as_bytes())));
        }
        let more_inside = self.unstreamed(&fields, out)?;
        pass_on_if(more || more_inside, data, out);
        let incomplete = kind == "response.incomplete" || status.as_deref() == Some("incomplete");
        let provider_reason = if incomplete {
            why_incomplete(&fields).unwrap_or_else(|| "incomplete".to_owned())
        } else {
            status.unwrap_or_else(|| "completed".to_owned())
        };
        let reason = self.reason(&provider_reason);
        self.calls.finish_all(CallEnd::of(reason), out);
        out.push(Event::Finished(Finish {
            reason,
            provider_reason,
            usage: out.usage,
            stop_sequence: String::new(),
            provider_details: details(&fields),
            provider_usage,
        }));
        out.finished = true;
        Ok(())
    }

    /// The items of an answer of which none came before, though it was to be streamed. Says
    /// whether they have fields that nobody reads.
    fn unstreamed(&mut self, fields: &Fields<'_>, out: &mut Output) -> Result<bool, Broken> {
        if self.relayed || self.calls.any() {
            return Ok(false);
        }
        let items: Vec<&RawValue> = field(fields, "output").unwrap_or_default();
        let mut has_more = false;
        for (index, item) in (0..).zip(items) {
            has_more |= self.end_item(index, item, out)?;
        }
        Ok(has_more)
    }

    /// The API has no word for a call or a refusal.
    fn reason(&self, word: &str) -> FinishReason {
        match word {
            "completed" if self.calls.any() => FinishReason::ToolCalls,
            "completed" if self.refused => FinishReason::Refusal,
            "completed" => FinishReason::Stop,
            "max_output_tokens" => FinishReason::Length,
            "content_filter" => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        }
    }
}

/// Reports what was used, and returns how the provider says it. A count that cannot be read
/// is absent: the answer is whole by now.
fn usage(fields: &Fields<'_>, out: &mut Output) -> String {
    let Some(raw) = fields.get("usage") else { return String::new() };
    let Some(counts): Option<Fields<'_>> = json_text::object(raw.get().as_bytes()) else { return String::new() };
    out.report_usage(unified(&counts));
    raw.get().to_owned()
}

fn unified(counts: &Fields<'_>) -> Usage {
    let detail = |of: &str, name: &str| {
        let details: Fields<'_> = json_text::object(counts.get(of)?.get().as_bytes())?;
        field(&details, name)
    };
    let (input, output) = (field(counts, "input_tokens"), field(counts, "output_tokens"));
    let sum = || input.zip(output).map(|(input, output): (u64, u64)| input.saturating_add(output));
    Usage {
        input,
        cached_input: detail("input_tokens_details", "cached_tokens"),
        cache_write: detail("input_tokens_details", "cache_write_tokens"),
        output,
        reasoning: detail("output_tokens_details", "reasoning_tokens"),
        total: field(counts, "total_tokens").or_else(sum),
    }
}

fn why_incomplete(fields: &Fields<'_>) -> Option<String> {
    let details: Incomplete = json_text::object(fields.get("incomplete_details")?.get().as_bytes())?;
    details.reason
}

/// A field, if it can be read.
fn field<'a, T: Deserialize<'a>>(fields: &Fields<'a>, name: &str) -> Option<T> {
    let raw: &'a RawValue = fields.get(name)?;
    serde_json::from_str(raw.get()).ok()
}

/// What else is said of the answer: why it is incomplete, and what is newer than this.
fn details(fields: &Fields<'_>) -> String {
    let said: BTreeMap<&str, &RawValue> = fields
        .iter()
        .map(|(name, raw)| (name.as_str(), *raw))
        .filter(|(name, raw)| !KNOWN.contains(name) && is_said(raw))
        .collect();
    if said.is_empty() { String::new() } else { serde_json::to_string(&said).unwrap_or_default() }
}

fn is_said(raw: &RawValue) -> bool {
    raw.get() != "null"
}
