//! Reads the stream of a message.
//!
//! <https://platform.claude.com/docs/en/build-with-claude/streaming>. An event tells its
//! type; blocks are addressed by number. New types of events, blocks and deltas may come
//! at any time and are read over; a type that is known must have its known form.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::errors;
use crate::{
    message::{Event, Finish, FinishReason, Usage},
    provider::{
        Broken, Decoder, Output, json_text,
        tool_calls::{CallEnd, ToolCalls},
    },
};

/// Blocks that are open at once. Anthropic has one.
const OPEN_BLOCKS_MAX: usize = 128;

#[derive(Debug, Default)]
pub(super) struct MessageDecoder {
    started: bool,
    blocks: Vec<(u64, Block)>,
    calls: ToolCalls,
    /// A call whose block has ended without any input. Whether it has none, or was cut
    /// before it, is told by what follows.
    bare: Option<u64>,
    usage: Counts,
    stop_reason: String,
    stop_sequence: String,
}

#[derive(Debug)]
enum Block {
    Text,
    /// A call, and the arguments that came with its beginning.
    ToolUse {
        input: String,
    },
    /// Whatever has no common form.
    Other,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    index: Option<u64>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The type of a block or a delta.
#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct MessageStart {
    id: Option<String>,
    model: Option<String>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct TextBlock {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct ToolUseBlock<'a> {
    id: String,
    name: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TextDelta {
    text: String,
}

#[derive(Deserialize)]
struct InputJsonDelta {
    partial_json: String,
}

#[derive(Deserialize)]
struct MessageDelta {
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

/// Counts as Anthropic reports them: the prompt without what is cached.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    #[serde(default)]
    output_tokens_details: Option<OutputTokensDetails>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct OutputTokensDetails {
    thinking_tokens: Option<u64>,
}

impl Decoder for MessageDecoder {
    fn event(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let wire: Wire<'_> = match json_text::object(data) {
            Some(wire) => wire,
            None if is_unknown(data) => return Ok(()),
            None => return Err(Broken::Malformed("an event has an unknown form")),
        };
        match wire.kind.as_ref() {
            "message_start" => self.message_start(&wire, out),
            "content_block_start" => self.block_start(&wire, out),
            "content_block_delta" => self.block_delta(&wire, out),
            "content_block_stop" => self.block_stop(&wire, out),
            "message_delta" => self.message_delta(&wire, out),
            "message_stop" => self.message_stop(out),
            "error" => Err(refused(data)),
            // Some proxies send an error without its type.
            "" if wire.error.is_some() => Err(refused(data)),
            // `ping`, and the types that Anthropic may add.
            _ => Ok(()),
        }
    }

    // Only `message_stop` ends a message: without it, the end of the body is a cut.
    fn end(&mut self, _out: &mut Output) -> Result<(), Broken> {
        Ok(())
    }
}

/// Whether an event is of a type that is not read, and may have any form.
fn is_unknown(data: &[u8]) -> bool {
    const KNOWN: [&str; 7] = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    ];
    json_text::object::<Tag<'_>>(data).is_some_and(|tag| !KNOWN.contains(&tag.kind.as_ref()))
}

fn refused(data: &[u8]) -> Broken {
    Broken::Rejected(errors::classify(200, &http::HeaderMap::new(), data))
}

/// Reads what an event must have.
fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>, missing: &'static str) -> Result<T, Broken> {
    raw.and_then(|raw| json_text::object(raw.get().as_bytes())).ok_or(Broken::Malformed(missing))
}

impl MessageDecoder {
    fn message_start(&mut self, wire: &Wire<'_>, out: &mut Output) -> Result<(), Broken> {
        if self.started {
            return Err(Broken::Malformed("a second message_start"));
        }
        self.started = true;
        let message: MessageStart = read(wire.message, "message_start without its message")?;
        out.model = message.model;
        out.response_id = message.id;
        self.report(message.usage, out);
        Ok(())
    }

    fn block_start(&mut self, wire: &Wire<'_>, out: &mut Output) -> Result<(), Broken> {
        let index = self.block_index(wire)?;
        if self.blocks.iter().any(|(open, _)| *open == index) {
            return Err(Broken::Malformed("content_block_start of a block that is open"));
        }
        if self.blocks.len() >= OPEN_BLOCKS_MAX {
            return Err(Broken::Malformed("too many blocks are open at once"));
        }
        // The model went on: the call before was whole.
        if let Some(bare) = self.bare.take() {
            self.calls.finish(bare, CallEnd::Whole, out);
        }
        let tag: Tag<'_> = read(wire.content_block, "content_block_start without its block")?;
        let block = match tag.kind.as_ref() {
            "text" => {
                let block: TextBlock = read(wire.content_block, "a text block that is not one")?;
                push_text(block.text, out);
                Block::Text
            }
            "tool_use" => {
                let call: ToolUseBlock<'_> = read(wire.content_block, "a tool call without id or name")?;
                self.calls.begin(index, call.id, call.name, out)?;
                Block::ToolUse { input: call.input.map(RawValue::get).unwrap_or_default().to_owned() }
            }
            _ => {
                out.committed = true;
                Block::Other
            }
        };
        self.blocks.push((index, block));
        Ok(())
    }

    fn block_delta(&mut self, wire: &Wire<'_>, out: &mut Output) -> Result<(), Broken> {
        let index = self.block_index(wire)?;
        let tag: Tag<'_> = read(wire.delta, "content_block_delta without its delta")?;
        let Some((_, block)) = self.blocks.iter().find(|(open, _)| *open == index) else {
            return Err(Broken::Malformed("a delta of a block that is not open"));
        };
        match (block, tag.kind.as_ref()) {
            (Block::Text, "text_delta") => {
                let delta: TextDelta = read(wire.delta, "text_delta without its text")?;
                push_text(delta.text, out);
                Ok(())
            }
            (Block::ToolUse { .. }, "input_json_delta") => {
                let delta: InputJsonDelta = read(wire.delta, "input_json_delta without its JSON")?;
                self.calls.append(index, delta.partial_json, out)
            }
            // Citations of a text, thinking, the input of Anthropic's own tools.
            (Block::Text | Block::ToolUse { .. } | Block::Other, _) => {
                out.committed = true;
                Ok(())
            }
        }
    }

    fn block_stop(&mut self, wire: &Wire<'_>, out: &mut Output) -> Result<(), Broken> {
        let index = self.block_index(wire)?;
        let Some(at) = self.blocks.iter().position(|(open, _)| *open == index) else {
            return Err(Broken::Malformed("content_block_stop of a block that is not open"));
        };
        match self.blocks.swap_remove(at).1 {
            Block::ToolUse { input } if self.calls.is_bare(index) && is_empty_input(&input) => {
                self.bare = Some(index);
                Ok(())
            }
            Block::ToolUse { input } => self.finish_call(index, input, CallEnd::Whole, out),
            Block::Text | Block::Other => Ok(()),
        }
    }

    /// Arguments come in deltas, or with the beginning of the call and without deltas:
    /// then they are relayed as one piece.
    fn finish_call(&mut self, index: u64, input: String, end: CallEnd, out: &mut Output) -> Result<(), Broken> {
        if self.calls.is_bare(index) && !is_empty_input(&input) {
            self.calls.append(index, input, out)?;
        }
        self.calls.finish(index, end, out);
        Ok(())
    }

    fn message_delta(&mut self, wire: &Wire<'_>, out: &mut Output) -> Result<(), Broken> {
        let delta: MessageDelta = read(wire.delta, "message_delta without its delta")?;
        self.stop_reason = delta.stop_reason.unwrap_or_else(|| std::mem::take(&mut self.stop_reason));
        self.stop_sequence = delta.stop_sequence.unwrap_or_else(|| std::mem::take(&mut self.stop_sequence));
        if wire.usage.is_some() {
            self.report(Some(read(wire.usage, "usage that is none")?), out);
        }
        Ok(())
    }

    fn message_stop(&mut self, out: &mut Output) -> Result<(), Broken> {
        if self.stop_reason.is_empty() {
            return Err(Broken::Cut);
        }
        let reason = finish_reason(&self.stop_reason);
        let end = CallEnd::of(reason);
        if let Some(bare) = self.bare.take() {
            self.calls.finish(bare, end, out);
        }
        let mut open = std::mem::take(&mut self.blocks);
        open.sort_unstable_by_key(|(index, _)| *index);
        for (index, block) in open {
            if let Block::ToolUse { input } = block {
                self.finish_call(index, input, end, out)?;
            }
        }
        out.push(Event::Finished(Finish {
            reason,
            provider_reason: std::mem::take(&mut self.stop_reason),
            usage: out.usage,
            stop_sequence: std::mem::take(&mut self.stop_sequence),
            provider_details: String::new(),
            provider_usage: String::new(),
        }));
        out.finished = true;
        Ok(())
    }

    fn block_index(&self, wire: &Wire<'_>) -> Result<u64, Broken> {
        if !self.started {
            return Err(Broken::Malformed("content before message_start"));
        }
        wire.index.ok_or(Broken::Malformed("a block without its index"))
    }

    /// A count that is reported again replaces the one before: the first are estimates,
    /// and tools of the provider add to them.
    fn report(&mut self, tokens: Option<Counts>, out: &mut Output) {
        let Some(new) = tokens else { return };
        let known = &mut self.usage;
        known.input_tokens = new.input_tokens.or(known.input_tokens);
        known.cache_read_input_tokens = new.cache_read_input_tokens.or(known.cache_read_input_tokens);
        known.cache_creation_input_tokens = new.cache_creation_input_tokens.or(known.cache_creation_input_tokens);
        known.output_tokens = new.output_tokens.or(known.output_tokens);
        known.output_tokens_details = new.output_tokens_details.or(known.output_tokens_details);
        out.report_usage(self.usage.unified());
    }
}

fn push_text(text: String, out: &mut Output) {
    if !text.is_empty() {
        out.push(Event::Text(text));
    }
}

/// Whether the input of a call's beginning only stands for what the deltas bring.
fn is_empty_input(input: &str) -> bool {
    let dense: String = input.split_ascii_whitespace().collect();
    matches!(dense.as_str(), "" | "{}" | "\"\"" | "null")
}

impl Counts {
    fn unified(self) -> Usage {
        let cached = self.cache_read_input_tokens;
        let written = self.cache_creation_input_tokens;
        let cache = cached.unwrap_or(0).saturating_add(written.unwrap_or(0));
        let input = self.input_tokens.map(|input| input.saturating_add(cache));
        let output = self.output_tokens;
        Usage {
            input,
            cached_input: cached,
            cache_write: written,
            output,
            reasoning: self.output_tokens_details.and_then(|details| details.thinking_tokens),
            total: input.zip(output).map(|(input, output)| input.saturating_add(output)),
        }
    }
}

fn finish_reason(stop_reason: &str) -> FinishReason {
    match stop_reason {
        "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::Refusal,
        "pause_turn" => FinishReason::Pause,
        _ => FinishReason::Other,
    }
}
