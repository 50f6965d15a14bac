//! Reads the stream of an answer.
//!
//! Each event is a whole response with the next parts. The end of the body ends the
//! answer, if a finish reason was seen; the last one counts, because turns that run code
//! have one in their middle. A blocked prompt has none and ends at once.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    MADE_ID, errors,
    partial_args::{Arguments, PartialArg},
};
use crate::{
    message::{Event, Finish, FinishReason, Usage},
    provider::{
        Broken, Decoder, Output, json_text,
        tool_calls::{CallEnd, ToolCalls},
    },
};

#[derive(Debug)]
pub(super) struct ResponseDecoder {
    call_seed: String,
    calls: ToolCalls,
    streamed: Option<StreamedCall>,
    finish_reason: Option<String>,
}

/// A call whose arguments arrive value by value.
#[derive(Debug)]
struct StreamedCall {
    key: u64,
    id: Option<String>,
    arguments: Arguments,
    bytes: usize,
}

/// Paths and values of one streamed call.
const STREAMED_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
    prompt_feedback: Option<PromptFeedback>,
    usage_metadata: Option<Counts>,
    model_version: Option<String>,
    response_id: Option<String>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    content: Option<Content<'a>>,
    finish_reason: Option<Word>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    parts: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    text: Option<String>,
    #[serde(default)]
    thought: Option<bool>,
    #[serde(borrow)]
    function_call: Option<FunctionCall<'a>>,
    // Content without a common form. That it is there is all that matters.
    thought_signature: Option<IgnoredAny>,
    executable_code: Option<IgnoredAny>,
    code_execution_result: Option<IgnoredAny>,
    inline_data: Option<IgnoredAny>,
    file_data: Option<IgnoredAny>,
    tool_call: Option<IgnoredAny>,
    tool_response: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionCall<'a> {
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    partial_args: Option<Vec<PartialArg>>,
    will_continue: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback {
    block_reason: Option<Word>,
}

/// The name of an enum's value, or its number where a proxy has not named it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Name(String),
    Number(i64),
}

#[derive(Deserialize)]
struct Counts {
    #[serde(rename = "promptTokenCount")]
    prompt: Option<u64>,
    #[serde(rename = "cachedContentTokenCount")]
    cached_content: Option<u64>,
    #[serde(rename = "toolUsePromptTokenCount")]
    tool_use_prompt: Option<u64>,
    #[serde(rename = "candidatesTokenCount")]
    candidates: Option<u64>,
    #[serde(rename = "thoughtsTokenCount")]
    thoughts: Option<u64>,
    #[serde(rename = "totalTokenCount")]
    total: Option<u64>,
}

impl ResponseDecoder {
    pub(super) fn new(call_seed: &str) -> Self {
        Self { call_seed: call_seed.to_owned(), calls: ToolCalls::default(), streamed: None, finish_reason: None }
    }
}

impl Decoder for ResponseDecoder {
    fn event(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let chunk: Chunk<'_> = json_text::object(data).ok_or_else(|| unreadable(data))?;
        if chunk.error.is_some() {
            return Err(refused(data));
        }
        out.model = chunk.model_version.or(out.model.take());
        out.response_id = chunk.response_id.or(out.response_id.take());
        if let Some(usage) = chunk.usage_metadata.and_then(Counts::unified) {
            out.report_usage(usage);
        }
        // One candidate is asked for.
        for candidate in chunk.candidates.into_iter().flatten().filter(|candidate| candidate.index == 0) {
            self.candidate(candidate, out)?;
        }
        let blocked = chunk.prompt_feedback.and_then(|feedback| feedback.block_reason).and_then(Word::said);
        if let Some(reason) = blocked {
            self.finish(FinishReason::ContentFilter, reason, out)?;
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Broken> {
        match self.finish_reason.take() {
            Some(word) => self.finish(finish_reason(&word, self.calls.any()), word, out),
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
    fn candidate(&mut self, candidate: Candidate<'_>, out: &mut Output) -> Result<(), Broken> {
        for part in candidate.content.and_then(|content| content.parts).into_iter().flatten() {
            self.part(part, out)?;
        }
        if let Some(reason) = candidate.finish_reason.and_then(Word::said) {
            self.finish_reason = Some(reason);
        }
        Ok(())
    }

    fn part(&mut self, part: Part<'_>, out: &mut Output) -> Result<(), Broken> {
        out.committed |= part.says_something_else();
        let is_thought = part.thought == Some(true);
        match part.text.filter(|text| !text.is_empty()) {
            Some(_) if is_thought => out.committed = true,
            Some(text) => out.push(Event::Text(text)),
            None => {}
        }
        match part.function_call {
            Some(call) => self.call(call, out),
            None => Ok(()),
        }
    }

    /// A call is one part. If it is streamed it is several: the first has the name, and
    /// the last, which may be missing, does not announce another.
    fn call(&mut self, call: FunctionCall<'_>, out: &mut Output) -> Result<(), Broken> {
        let FunctionCall { id, name, args, partial_args, will_continue } = call;
        let id = id.filter(|id| !id.is_empty());
        if let Some(name) = name.filter(|name| !name.is_empty())
            && !self.goes_on(id.as_ref())
        {
            self.close(CallEnd::Whole, out)?;
            self.open(id, name, out)?;
        }
        let Some(streamed) = &mut self.streamed else {
            // The closing part of a call that another has closed.
            return Ok(());
        };
        if let Some(args) = args {
            self.calls.append(streamed.key, args.get().to_owned(), out)?;
        }
        for piece in partial_args.into_iter().flatten() {
            streamed.bytes += piece.bytes();
            if streamed.bytes > STREAMED_BYTES_MAX {
                return Err(Broken::Malformed("the arguments of a tool call are too large"));
            }
            streamed.arguments.add(piece)?;
        }
        match will_continue {
            Some(true) => Ok(()),
            Some(false) | None => self.close(CallEnd::Whole, out),
        }
    }

    /// Whether a part with a name is about the call that is open: it has the same id.
    fn goes_on(&self, id: Option<&String>) -> bool {
        self.streamed.as_ref().is_some_and(|streamed| id.is_some() && streamed.id.as_ref() == id)
    }

    fn open(&mut self, id: Option<String>, name: String, out: &mut Output) -> Result<(), Broken> {
        let key = u64::from(self.calls.begun());
        // The number makes it unique: a tool may be called twice in one turn.
        let shown = id.clone().unwrap_or_else(|| format!("{MADE_ID}{}-{key}", self.call_seed));
        self.calls.begin(key, shown, name, out)?;
        self.streamed = Some(StreamedCall { key, id, arguments: Arguments::default(), bytes: 0 });
        Ok(())
    }

    fn close(&mut self, end: CallEnd, out: &mut Output) -> Result<(), Broken> {
        let Some(streamed) = self.streamed.take() else { return Ok(()) };
        if streamed.bytes > 0 {
            let mut arguments = streamed.arguments.into_text();
            if end == CallEnd::Cut {
                // More was to come: without its last bracket it is as cut as it should look.
                arguments.pop();
            }
            self.calls.append(streamed.key, arguments, out)?;
        }
        self.calls.finish(streamed.key, end, out);
        Ok(())
    }

    fn finish(&mut self, reason: FinishReason, word: String, out: &mut Output) -> Result<(), Broken> {
        self.close(CallEnd::of(reason), out)?;
        out.push(Event::Finished(Finish {
            reason,
            provider_reason: word,
            usage: out.usage,
            stop_sequence: String::new(),
            provider_details: String::new(),
            provider_usage: String::new(),
        }));
        out.finished = true;
        Ok(())
    }
}

impl Part<'_> {
    fn says_something_else(&self) -> bool {
        let others = [
            &self.thought_signature,
            &self.executable_code,
            &self.code_execution_result,
            &self.inline_data,
            &self.file_data,
            &self.tool_call,
            &self.tool_response,
        ];
        others.into_iter().any(Option::is_some)
    }
}

impl Word {
    /// The word, unless it says that there is none.
    fn said(self) -> Option<String> {
        match self {
            Self::Name(name) if name.is_empty() || name.ends_with("_UNSPECIFIED") => None,
            Self::Name(name) => Some(name),
            Self::Number(0) => None,
            Self::Number(number) => Some(number.to_string()),
        }
    }
}

impl Counts {
    /// `None` if nothing is counted yet: the first events of some streams only tell how
    /// they are paid for.
    fn unified(self) -> Option<Usage> {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        // A count of zero is left out.
        let no_output = self.prompt.map(|_| 0);
        let usage = Usage {
            input: sum(self.prompt, self.tool_use_prompt),
            cached_input: self.cached_content,
            cache_write: None,
            output: sum(self.candidates, self.thoughts).or(no_output),
            reasoning: self.thoughts,
            total: self.total,
        };
        Some(usage).filter(|usage| *usage != Usage::default())
    }
}

/// The numbers are those of `Candidate.FinishReason`; from 9 on, AI Studio and Vertex AI
/// give them different meanings.
fn finish_reason(word: &str, has_calls: bool) -> FinishReason {
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
