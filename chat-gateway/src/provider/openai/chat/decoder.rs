//! Reads the stream of a completion.
//!
//! <https://platform.openai.com/docs/api-reference/chat-streaming>. A chunk has the next
//! piece of the answer; `[DONE]` ends it. The finish reason does not: usage follows. So
//! an end of the body without `[DONE]` is a cut, even after a finish reason; all
//! recorded answers have it.
//!
//! What a chunk has beside its piece is passed on with the whole chunk, once for each
//! thing: named after its field, or `chat.completion.chunk` if the field is not known. What
//! chunk after chunk says again is passed on with the first of them.

mod calls;
mod chunk;
#[cfg(test)]
mod tests;
mod unread;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    message::{Citation, CitationKind, Event, Finish, FinishReason, ReasoningDelta, Usage},
    provider::{Broken, Decoder, Output, json_text, openai::errors, tool_calls::CallEnd},
};

use calls::Calls;
use unread::Unread;

use chunk::{Annotation, Choice, Chunk, Counts, Delta, Logprobs, PASSED_OVER};

#[derive(Debug)]
pub(super) struct ChunkDecoder {
    calls: Calls,
    thoughts: Thoughts,
    refused: bool,
    finish_reason: String,
    details: Details,
    unread: Unread,
    /// The provider's own, latest.
    usage: String,
}

/// The blocks of reasoning. They have no end of their own: what else comes ends them.
#[derive(Debug, Default)]
struct Thoughts {
    begun: u32,
    open: bool,
}

/// What is said of the whole answer, in the provider's words: the latest.
#[derive(Debug, Default, Serialize)]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    native_finish_reason: Option<Box<RawValue>>,
}

/// The names under which a chunk is passed on.
type Asides = Vec<&'static str>;

const UNKNOWN: &str = "chat.completion.chunk";

impl ChunkDecoder {
    pub(in super::super) fn new(call_seed: &str) -> Self {
        Self {
            calls: Calls::new(call_seed),
            thoughts: Thoughts::default(),
            refused: false,
            finish_reason: String::new(),
            details: Details::default(),
            unread: Unread::default(),
            usage: String::new(),
        }
    }
}

impl Decoder for ChunkDecoder {
    fn event(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        if data.trim_ascii() == b"[DONE]" {
            return self.finish(out);
        }
        let (chunk, unread): (Chunk<'_>, bool) =
            json_text::noting(data, &PASSED_OVER).ok_or_else(|| unreadable(data))?;
        if chunk.error.is_some() {
            return Err(rejected(data));
        }
        let mut asides = Asides::new();
        self.chunk(chunk, &mut asides, out)?;
        if unread && self.unread.says_more(data) {
            note(&mut asides, UNKNOWN);
        }
        for kind in asides {
            out.pass_on(kind, String::from_utf8_lossy(data).trim());
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut Output) -> Result<(), Broken> {
        Ok(())
    }
}

/// An error may have fields like those of a chunk in other forms.
fn unreadable(data: &[u8]) -> Broken {
    #[derive(Deserialize)]
    struct MaybeError<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let found: Option<MaybeError<'_>> = json_text::object(data);
    if found.is_some_and(|found| found.error.is_some()) {
        return rejected(data);
    }
    Broken::Malformed("an event is not a chunk")
}

fn rejected(data: &[u8]) -> Broken {
    Broken::Rejected(errors::classify(200, &http::HeaderMap::new(), data))
}

impl ChunkDecoder {
    fn chunk(&mut self, chunk: Chunk<'_>, asides: &mut Asides, out: &mut Output) -> Result<(), Broken> {
        // Azure's first chunk has neither.
        let said = |word: &Option<String>| word.as_ref().is_some_and(|word| !word.is_empty());
        if out.model.is_none() && said(&chunk.model) {
            out.model = chunk.model;
        }
        if out.response_id.is_none() && said(&chunk.id) {
            out.response_id = chunk.id;
        }
        keep(&mut self.details.service_tier, chunk.service_tier);
        keep(&mut self.details.system_fingerprint, chunk.system_fingerprint);
        keep(&mut self.details.provider, chunk.provider);
        if chunk.moderation.is_some_and(says_something) {
            note(asides, "moderation");
        }
        if chunk.prompt_filter_results.is_some_and(filters) {
            note(asides, "prompt_filter_results");
        }
        for choice in chunk.choices.into_iter().flatten() {
            if choice.index == 0 {
                self.choice(choice, asides, out)?;
            } else {
                // One answer is asked for; a further one would mix its text into the first.
                note(asides, UNKNOWN);
            }
        }
        if let Some(usage) = chunk.usage {
            usage.get().clone_into(&mut self.usage);
            let counts = Counts::of(usage).after(out.usage.unwrap_or_default());
            if counts != Usage::default() {
                out.report_usage(counts);
            }
        }
        Ok(())
    }

    fn choice(&mut self, choice: Choice<'_>, asides: &mut Asides, out: &mut Output) -> Result<(), Broken> {
        if let Some(delta) = choice.delta {
            self.delta(delta, asides, out)?;
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.finish_reason = reason;
        }
        keep(&mut self.details.native_finish_reason, choice.native_finish_reason);
        if choice.logprobs.is_some_and(has_logprobs) {
            note(asides, "logprobs");
        }
        if choice.content_filter_results.is_some_and(filters) {
            note(asides, "content_filter_results");
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta<'_>, asides: &mut Asides, out: &mut Output) -> Result<(), Broken> {
        // Some servers say the same under both names.
        let named = [("reasoning_content", delta.reasoning_content), ("reasoning", delta.reasoning)];
        let thought = named.into_iter().find_map(|(name, said)| Some((name, said.filter(|raw| says_something(raw))?)));
        if let Some((name, thought)) = thought {
            match serde_json::from_str(thought.get()) {
                Ok(text) => self.thoughts.push(text, out),
                Err(_) => aside_of_output(asides, name, out),
            }
        }
        if let Some(text) = delta.content.filter(|text| !text.is_empty()) {
            self.thoughts.open = false;
            out.push(Event::Text(text));
        }
        if let Some(text) = delta.refusal.filter(|text| !text.is_empty()) {
            (self.thoughts.open, self.refused) = (false, true);
            out.push(Event::Refusal(text));
        }
        for annotation in delta.annotations.into_iter().flatten() {
            self.thoughts.open = false;
            out.push(Event::Citation(citation(annotation)));
        }
        if delta.audio.is_some_and(says_something) {
            self.thoughts.open = false;
            aside_of_output(asides, "audio", out);
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.thoughts.open = false;
            if call.is_new() {
                aside_of_output(asides, UNKNOWN, out);
            } else {
                self.calls.piece(call, out)?;
            }
        }
        match delta.function_call {
            Some(function) => {
                self.thoughts.open = false;
                self.calls.legacy_piece(function, out)
            }
            None => Ok(()),
        }
    }

    fn finish(&mut self, out: &mut Output) -> Result<(), Broken> {
        if self.finish_reason.is_empty() {
            return Err(Broken::Cut);
        }
        let reason = self.reason();
        self.calls.finish(CallEnd::of(reason), out);
        out.push(Event::Finished(Finish {
            reason,
            provider_reason: std::mem::take(&mut self.finish_reason),
            usage: out.usage,
            stop_sequence: String::new(),
            provider_details: self.details.json(),
            provider_usage: std::mem::take(&mut self.usage),
        }));
        out.finished = true;
        Ok(())
    }

    /// A forced call may end with `stop`, and a refusal does.
    fn reason(&self) -> FinishReason {
        match self.finish_reason.as_str() {
            "stop" if self.calls.any() => FinishReason::ToolCalls,
            "stop" if self.refused => FinishReason::Refusal,
            "stop" => FinishReason::Stop,
            "length" => FinishReason::Length,
            "tool_calls" | "function_call" => FinishReason::ToolCalls,
            "content_filter" => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        }
    }
}

impl Thoughts {
    fn push(&mut self, text: String, out: &mut Output) {
        self.begun += u32::from(!self.open);
        self.open = true;
        out.push(Event::Reasoning(ReasoningDelta { index: self.begun - 1, text, ..ReasoningDelta::default() }));
    }
}

impl Details {
    /// Empty if nothing was said.
    fn json(&self) -> String {
        match self {
            Self { service_tier: None, system_fingerprint: None, provider: None, native_finish_reason: None } => {
                String::new()
            }
            Self { .. } => serde_json::to_string(self).unwrap_or_default(),
        }
    }
}

/// Each chunk says the same again.
fn keep(kept: &mut Option<Box<RawValue>>, said: Option<&RawValue>) {
    if let Some(said) = said.filter(|said| says_something(said))
        && kept.as_ref().is_none_or(|kept| kept.get() != said.get())
    {
        *kept = Some(said.to_owned());
    }
}

fn note(asides: &mut Asides, name: &'static str) {
    if !asides.contains(&name) {
        asides.push(name);
    }
}

/// Output without a common form.
fn aside_of_output(asides: &mut Asides, name: &'static str, out: &mut Output) {
    out.committed = true;
    note(asides, name);
}

fn citation(raw: &RawValue) -> Citation {
    let json = raw.get().to_owned();
    let annotation: Annotation = json_text::object(raw.get().as_bytes()).unwrap_or_default();
    let Some(cited) = annotation.url_citation else { return Citation { json, ..Citation::default() } };
    Citation {
        kind: CitationKind::Web,
        title: cited.title.unwrap_or_default(),
        url: cited.url.unwrap_or_default(),
        start: cited.start_index,
        end: cited.end_index,
        json,
        ..Citation::default()
    }
}

/// Whether a value holds anything: first deltas have empty ones.
fn says_something(raw: &RawValue) -> bool {
    !matches!(raw.get().trim(), "\"\"" | "[]" | "{}" | "null")
}

/// Whether there is anything about any token.
fn has_logprobs(raw: &RawValue) -> bool {
    match json_text::noting::<Logprobs<'_>>(raw.get().as_bytes(), &[]) {
        Some((of, unread)) => unread || [of.content, of.refusal].into_iter().flatten().any(says_something),
        None => says_something(raw),
    }
}

/// Whether a filter of Azure found anything, did anything or failed. Looked at as text,
/// for it comes with every piece of an answer, and says false and safe of most.
fn filters(raw: &RawValue) -> bool {
    raw.get().contains("true") || raw.get().contains("\"error\"")
}
