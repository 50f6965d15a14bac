//! Reads the stream of a completion.
//!
//! <https://platform.openai.com/docs/api-reference/chat-streaming>. A chunk has the next
//! piece of the answer; `[DONE]` ends it. The finish reason does not: usage follows. So
//! an end of the body without `[DONE]` is a cut, even after a finish reason; all
//! recorded answers have it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    message::{Event, Finish, FinishReason, Usage},
    provider::{
        Broken, Decoder, Output, json_text,
        openai::errors,
        tool_calls::{CallEnd, ToolCalls},
    },
};

#[derive(Debug)]
pub(super) struct ChunkDecoder {
    call_seed: String,
    calls: ToolCalls,
    /// The call that each index of the provider means now. Indexes may be used again by
    /// servers that imitate the API.
    keys: Vec<(u64, u64)>,
    refused: bool,
    finish_reason: String,
}

/// How many indexes of calls an answer may use. OpenAI accepts at most 128 tools.
const CALL_INDEXES_MAX: usize = 1024;

#[derive(Deserialize)]
struct Chunk<'a> {
    id: Option<String>,
    model: Option<String>,
    choices: Option<Vec<Choice<'a>>>,
    usage: Option<Counts>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
    /// The form before there were several calls.
    function_call: Option<FunctionDelta>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CallDelta {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Default, Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl ChunkDecoder {
    pub(in super::super) fn new(call_seed: &str) -> Self {
        Self {
            call_seed: call_seed.to_owned(),
            calls: ToolCalls::default(),
            keys: Vec::new(),
            refused: false,
            finish_reason: String::new(),
        }
    }
}

impl Decoder for ChunkDecoder {
    fn event(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        if data.trim_ascii() == b"[DONE]" {
            return self.finish(out);
        }
        let chunk: Chunk<'_> = json_text::object(data).ok_or_else(|| unreadable(data))?;
        if chunk.error.is_some() {
            return Err(refused(data));
        }
        // Azure's first chunk has neither.
        let said = |word: &Option<String>| word.as_ref().is_some_and(|word| !word.is_empty());
        if out.model.is_none() && said(&chunk.model) {
            out.model = chunk.model;
        }
        if out.response_id.is_none() && said(&chunk.id) {
            out.response_id = chunk.id;
        }
        // One answer is asked for; a further one would mix its text into the first.
        for choice in chunk.choices.into_iter().flatten().filter(|choice| choice.index == 0) {
            self.choice(choice, out)?;
        }
        if let Some(tokens) = chunk.usage {
            out.report_usage(tokens.unified());
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
        return refused(data);
    }
    Broken::Malformed("an event is not a chunk")
}

fn refused(data: &[u8]) -> Broken {
    Broken::Rejected(errors::classify(200, &http::HeaderMap::new(), data))
}

impl ChunkDecoder {
    fn choice(&mut self, choice: Choice<'_>, out: &mut Output) -> Result<(), Broken> {
        if let Some(delta) = choice.delta {
            self.delta(delta, out)?;
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.finish_reason = reason;
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta<'_>, out: &mut Output) -> Result<(), Broken> {
        let others = [delta.reasoning_content, delta.reasoning, delta.audio, delta.annotations];
        if others.into_iter().flatten().any(says_something) {
            out.committed = true;
        }
        if let Some(text) = delta.content.filter(|text| !text.is_empty()) {
            out.push(Event::Text(text));
        }
        if let Some(text) = delta.refusal.filter(|text| !text.is_empty()) {
            self.refused = true;
            out.push(Event::Refusal(text));
        }
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(call, out)?;
        }
        match delta.function_call {
            Some(function) => self.call(CallDelta { index: Some(0), id: None, function: Some(function) }, out),
            None => Ok(()),
        }
    }

    fn call(&mut self, delta: CallDelta, out: &mut Output) -> Result<(), Broken> {
        let CallDelta { index, id, function } = delta;
        let FunctionDelta { name, arguments } = function.unwrap_or_default();
        let (id, name) = (id.unwrap_or_default(), name.unwrap_or_default());
        let key = match self.continued(index, &id, &name) {
            Some(key) => key,
            None => self.begin(index, id, name, out)?,
        };
        // White space after a call that is whole belongs to nothing.
        let arguments = arguments.unwrap_or_default();
        if arguments.trim().is_empty() && !self.calls.is_open(key) {
            return Ok(());
        }
        self.calls.append(key, arguments, out)
    }

    /// The call that a delta goes on with. Another id together with a name begins a call
    /// even at a known index: some servers give every call the index 0. An id alone does
    /// not, for others make a new one up for each delta.
    fn continued(&self, index: Option<u64>, id: &str, name: &str) -> Option<u64> {
        let (_, key) = match index {
            Some(index) => self.keys.iter().rfind(|(known, _)| *known == index)?,
            None => self.keys.last()?,
        };
        let other_id = !id.is_empty() && self.calls.id(*key) != Some(id);
        let begins = !name.is_empty() && (other_id || !self.calls.is_open(*key));
        (!begins).then_some(*key)
    }

    fn begin(&mut self, index: Option<u64>, id: String, name: String, out: &mut Output) -> Result<u64, Broken> {
        if name.is_empty() {
            return Err(Broken::Malformed("a tool call begins without a name"));
        }
        if self.keys.len() >= CALL_INDEXES_MAX {
            return Err(Broken::Malformed("too many tool calls"));
        }
        // A call has no end of its own. The one before is whole if its arguments are:
        // then the caller need not wait for the others.
        if let Some(complete) = self.calls.last_if_complete() {
            self.calls.finish(complete, CallEnd::Whole, out);
        }
        let key = u64::from(self.calls.begun());
        let id = if id.is_empty() { format!("call_{}_{key}", self.call_seed) } else { id };
        self.calls.begin(key, id, name, out)?;
        self.keys.push((index.unwrap_or(key), key));
        Ok(key)
    }

    fn finish(&mut self, out: &mut Output) -> Result<(), Broken> {
        if self.finish_reason.is_empty() {
            return Err(Broken::Cut);
        }
        let reason = self.reason();
        self.calls.finish_all(CallEnd::of(reason), out);
        out.push(Event::Finished(Finish {
            reason,
            provider_reason: std::mem::take(&mut self.finish_reason),
            usage: out.usage,
            stop_sequence: String::new(),
            provider_details: String::new(),
            provider_usage: String::new(),
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

/// Whether a value holds anything: first deltas have empty ones.
fn says_something(raw: &RawValue) -> bool {
    !matches!(raw.get().trim(), "\"\"" | "[]" | "{}" | "null")
}

impl Counts {
    fn unified(self) -> Usage {
        let (input, output) = (self.prompt_tokens, self.completion_tokens);
        let sum = || input.zip(output).map(|(input, output)| input.saturating_add(output));
        Usage {
            input,
            cached_input: self.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens),
            cache_write: self.prompt_tokens_details.as_ref().and_then(|details| details.cache_write_tokens),
            output,
            reasoning: self.completion_tokens_details.and_then(|details| details.reasoning_tokens),
            total: self.total_tokens.or_else(sum),
        }
    }
}
