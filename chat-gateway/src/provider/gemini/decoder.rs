//! Reads the stream of an answer.
//!
//! Each event is a whole response with the next parts. The end of the body ends the
//! answer, if a finish reason was seen and nothing of the answer came after it: turns that
//! run code have one in their middle. A blocked prompt has none and ends at once.
//!
//! A part that is neither text nor a call is passed on as it came, named as Gemini's own
//! contract names its content: `executable_code`, `inline_data`. So is an event with
//! fields that nobody knows, as `generate_content_response`.

mod calls;
mod counts;
mod ending;
mod sources;
mod wire;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, value::RawValue};

use self::{
    calls::Calls,
    counts::Counts,
    ending::Ending,
    sources::Sources,
    wire::{Candidate, Chunk, Part},
};
use super::errors;
use crate::{
    message::{Event, Finish, FinishReason, ProviderEvent, ReasoningDelta},
    provider::{Broken, Decoder, Output, json_text, tool_calls::CallEnd},
};

#[derive(Debug)]
pub(super) struct ResponseDecoder {
    calls: Calls,
    thoughts: Thoughts,
    sources: Sources,
    ending: Ending,
    /// As it came last.
    usage: String,
}

/// The blocks of thoughts. One is open from its first part up to its signature, or to what
/// is no thought.
#[derive(Debug, Default)]
struct Thoughts {
    index: u32,
    is_open: bool,
}

impl ResponseDecoder {
    pub(super) fn new(call_seed: &str) -> Self {
        Self {
            calls: Calls::new(call_seed),
            thoughts: Thoughts::default(),
            sources: Sources::default(),
            ending: Ending::default(),
            usage: String::new(),
        }
    }
}

impl Decoder for ResponseDecoder {
    fn event(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let (chunk, mut has_news): (Chunk<'_>, bool) =
            json_text::noting(data, wire::SAYS_NOTHING).ok_or_else(|| unreadable(data))?;
        if chunk.error.is_some() {
            return Err(refused(data));
        }
        out.model = chunk.model_version.or(out.model.take());
        out.response_id = chunk.response_id.or(out.response_id.take());
        if let Some(usage) = chunk.usage_metadata {
            self.count(usage, out)?;
        }
        // One candidate is asked for.
        for candidate in chunk.candidates.into_iter().flatten().filter(|candidate| candidate.index == 0) {
            has_news |= self.candidate(candidate, out)?;
        }
        if let Some(status) = chunk.model_status {
            self.sources.pass_on("model_status", status, out)?;
        }
        if has_news {
            out.pass_on("generate_content_response", String::from_utf8_lossy(data));
        }
        match chunk.prompt_feedback.and_then(|feedback| self.ending.add_feedback(feedback)) {
            Some(reason) => self.finish(FinishReason::ContentFilter, reason, out),
            None => Ok(()),
        }
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Broken> {
        match self.ending.take_reason() {
            Some(word) => self.finish(ending::finish_reason(&word, self.calls.any()), word, out),
            None => Ok(()),
        }
    }
}

/// An error comes in an array if the request was not for events, and may have other
/// fields than a response.
fn unreadable(data: &[u8]) -> Broken {
    #[derive(Deserialize)]
    struct MaybeError {
        error: Option<IgnoredAny>,
    }
    let item = match data.trim_ascii().strip_prefix(b"[") {
        Some(items) => items.strip_suffix(b"]").unwrap_or(items),
        None => data,
    };
    let found: Option<MaybeError> = json_text::object(item);
    if found.is_some_and(|found| found.error.is_some()) {
        return refused(data);
    }
    Broken::Malformed("an event is not a response")
}

fn refused(data: &[u8]) -> Broken {
    Broken::Rejected(errors::classify(200, &http::HeaderMap::new(), data))
}

impl ResponseDecoder {
    fn count(&mut self, usage: &RawValue, out: &mut Output) -> Result<(), Broken> {
        let counts: Counts =
            json_text::object(usage.get().as_bytes()).ok_or(Broken::Malformed("the usage has no counts"))?;
        if let Some(usage) = counts.unified() {
            out.report_usage(usage);
        }
        usage.get().clone_into(&mut self.usage);
        Ok(())
    }

    /// Says whether there are fields that nobody knows.
    fn candidate(&mut self, mut candidate: Candidate<'_>, out: &mut Output) -> Result<bool, Broken> {
        let mut has_news = false;
        let content = candidate.content.take();
        for part in content.and_then(|content| content.parts).into_iter().flatten() {
            has_news |= self.part(part, out)?;
        }
        self.sources.add(&candidate, out)?;
        self.ending.add(&mut candidate);
        Ok(has_news)
    }

    /// Says whether there are fields that nobody knows.
    fn part(&mut self, json: &RawValue, out: &mut Output) -> Result<bool, Broken> {
        let (part, has_news): (Part<'_>, bool) = json_text::noting(json.get().as_bytes(), &[])
            .ok_or(Broken::Malformed("a part of the answer has another form"))?;
        let own_kind = part.own_kind();
        if has_news || part.has_content() {
            self.ending.put_off();
        }
        let Part { text, thought, thought_signature, function_call, .. } = part;
        let (text, signature) = (text.unwrap_or_default(), thought_signature.unwrap_or_default());
        // A part has one content; of several, none is lost.
        let has_own = own_kind.is_some();
        if let Some(call) = function_call {
            self.text(text, String::new(), out);
            self.thoughts.close();
            if let Some(signature) = self.calls.add(call, signature, out)? {
                self.text(String::new(), signature, out);
            }
            return Ok(has_news || has_own);
        }
        if !text.is_empty() || !(has_own || has_news) {
            match thought {
                Some(true) => self.thoughts.add(text, signature, out),
                Some(false) | None => self.text(text, signature, out),
            }
            return Ok(has_news || has_own);
        }
        self.thoughts.close();
        let kind = own_kind.map_or_else(|| new_kind(json), str::to_owned);
        out.push(Event::Provider(ProviderEvent { kind, json: json.get().to_owned(), replayable: true }));
        Ok(false)
    }

    fn text(&mut self, text: String, signature: String, out: &mut Output) {
        let event = match (text.is_empty(), signature.is_empty()) {
            (true, true) => return,
            (false, true) => Event::Text(text),
            (_, false) => Event::SignedText { text, signature },
        };
        self.thoughts.close();
        out.push(event);
    }

    fn finish(&mut self, reason: FinishReason, word: String, out: &mut Output) -> Result<(), Broken> {
        self.calls.close(CallEnd::of(reason), out)?;
        out.push(Event::Finished(Finish {
            reason,
            provider_reason: word,
            usage: out.usage,
            stop_sequence: String::new(),
            provider_details: self.ending.details(),
            provider_usage: std::mem::take(&mut self.usage),
        }));
        out.finished = true;
        Ok(())
    }
}

impl Thoughts {
    fn add(&mut self, text: String, signature: String, out: &mut Output) {
        if text.is_empty() && signature.is_empty() {
            return;
        }
        let is_signed = !signature.is_empty();
        let delta = ReasoningDelta { index: self.index, text, signature, ..ReasoningDelta::default() };
        self.is_open = true;
        out.push(Event::Reasoning(delta));
        if is_signed {
            self.close();
        }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.index += 1;
        }
    }
}

/// The kind of a part that is newer than this code: the name of a field that has content,
/// as a contract would write it.
fn new_kind(part: &RawValue) -> String {
    const KNOWN: [&str; 3] = ["text", "thought", "thoughtSignature"];
    let fields: Map<String, Value> = serde_json::from_str(part.get()).unwrap_or_default();
    let new = fields.into_iter().find(|(name, value)| !KNOWN.contains(&name.as_str()) && !value.is_null());
    new.map_or_else(|| "part".to_owned(), |(name, _)| snake_case(&name))
}

fn snake_case(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len()), |mut snake, c| {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
        snake
    })
}
