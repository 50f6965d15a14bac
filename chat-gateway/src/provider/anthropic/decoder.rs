//! Reads the stream of a message.
//!
//! <https://platform.claude.com/docs/en/build-with-claude/streaming>. An event tells its
//! type; blocks are addressed by number. New types of events, blocks and deltas may come
//! at any time and are passed on; a type that is known must have its known form. What is
//! odd: an answer that only goes on with the calls of running code comes all at once, with
//! `message_start`.

mod blocks;
mod citations;
mod fields;
mod own;
mod usage;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::errors;
use crate::{
    message::{Event, Finish, FinishReason},
    provider::{Broken, Decoder, Output, json_text, tool_calls::CallEnd},
};

#[derive(Debug, Default)]
pub(super) struct MessageDecoder {
    started: bool,
    blocks: blocks::Blocks,
    usage: usage::Usage,
    /// What is said of the end and has no common form.
    details: fields::Fields,
    stop_reason: String,
    stop_sequence: String,
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
    #[serde(borrow)]
    context_management: Option<&'a RawValue>,
    #[serde(borrow)]
    input_transformations: Option<&'a RawValue>,
}

/// The type of a block, a delta or a citation.
#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct MessageStart<'a> {
    id: Option<String>,
    model: Option<String>,
    #[serde(borrow)]
    content: Option<Vec<&'a RawValue>>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_details: Option<&'a RawValue>,
    #[serde(borrow)]
    container: Option<&'a RawValue>,
    #[serde(borrow)]
    context_management: Option<&'a RawValue>,
    #[serde(borrow)]
    diagnostics: Option<&'a RawValue>,
    #[serde(borrow)]
    input_transformations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct MessageDelta<'a> {
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    #[serde(borrow)]
    stop_details: Option<&'a RawValue>,
    #[serde(borrow)]
    container: Option<&'a RawValue>,
}

impl Decoder for MessageDecoder {
    fn event(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let Some((wire, mut unread)): Option<(Wire<'_>, bool)> = json_text::noting(data, &PASSED_OVER) else {
            return match json_text::object::<Tag<'_>>(data) {
                Some(tag) if !KNOWN.contains(&tag.kind.as_ref()) => {
                    out.pass_on(tag.kind, text(data));
                    Ok(())
                }
                Some(_) | None => Err(Broken::Malformed("an event has an unknown form")),
            };
        };
        match wire.kind.as_ref() {
            "message_start" => self.message_start(&wire, &mut unread, out)?,
            "content_block_start" => self.block_start(&wire, &mut unread, out)?,
            "content_block_delta" => self.block_delta(&wire, &mut unread, out)?,
            "content_block_stop" => self.blocks.finish(self.block_index(&wire)?, out)?,
            "message_delta" => self.message_delta(&wire, &mut unread, out)?,
            "message_stop" => {
                // Nothing comes after the end.
                if std::mem::take(&mut unread) {
                    out.pass_on("message_stop", text(data));
                }
                self.message_stop(out)?;
            }
            "ping" => {}
            "error" => return Err(refused(data)),
            // Some proxies send an error without its type.
            "" if wire.error.is_some() => return Err(refused(data)),
            _ => unread = true,
        }
        if unread {
            out.pass_on(wire.kind, text(data));
        }
        Ok(())
    }

    // Only `message_stop` ends a message: without it, the end of the body is a cut.
    fn end(&mut self, _out: &mut Output) -> Result<(), Broken> {
        Ok(())
    }
}

/// The types of events that must have their known form.
const KNOWN: [&str; 8] = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
    "error",
];

/// Names that say what their place says already.
const PASSED_OVER: [&str; 2] = ["type", "role"];

fn refused(data: &[u8]) -> Broken {
    Broken::Rejected(errors::classify(200, &http::HeaderMap::new(), data))
}

fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// Reads what an event must have.
fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>, missing: &'static str) -> Result<T, Broken> {
    raw.and_then(|raw| json_text::object(raw.get().as_bytes())).ok_or(Broken::Malformed(missing))
}

/// Reads what is known of `raw`, and sets `unread` if it says more.
fn noted<'a, T: Deserialize<'a>>(raw: &'a RawValue, missing: &'static str, unread: &mut bool) -> Result<T, Broken> {
    let (read, more) = json_text::noting(raw.get().as_bytes(), &PASSED_OVER).ok_or(Broken::Malformed(missing))?;
    *unread |= more;
    Ok(read)
}

impl MessageDecoder {
    fn message_start(&mut self, wire: &Wire<'_>, unread: &mut bool, out: &mut Output) -> Result<(), Broken> {
        const MISSING: &str = "message_start without its message";
        if self.started {
            return Err(Broken::Malformed("a second message_start"));
        }
        self.started = true;
        let message = wire.message.ok_or(Broken::Malformed(MISSING))?;
        let message: MessageStart<'_> = noted(message, MISSING, unread)?;
        out.model = message.model;
        out.response_id = message.id;
        self.report(message.usage, out)?;
        self.stopped(message.stop_reason, message.stop_sequence);
        self.details.set("stop_details", message.stop_details)?;
        self.details.set("container", message.container)?;
        self.details.set("context_management", message.context_management)?;
        self.details.set("diagnostics", message.diagnostics)?;
        self.details.set("input_transformations", message.input_transformations)?;
        for (index, block) in (0..).zip(message.content.unwrap_or_default()) {
            self.blocks.begin(index, block, unread, out)?;
            self.blocks.finish(index, out)?;
        }
        Ok(())
    }

    fn block_start(&mut self, wire: &Wire<'_>, unread: &mut bool, out: &mut Output) -> Result<(), Broken> {
        let index = self.block_index(wire)?;
        let block = wire.content_block.ok_or(Broken::Malformed("content_block_start without its block"))?;
        self.blocks.begin(index, block, unread, out)
    }

    fn block_delta(&mut self, wire: &Wire<'_>, unread: &mut bool, out: &mut Output) -> Result<(), Broken> {
        let index = self.block_index(wire)?;
        let delta = wire.delta.ok_or(Broken::Malformed("content_block_delta without its delta"))?;
        self.blocks.append(index, delta, unread, out)
    }

    fn message_delta(&mut self, wire: &Wire<'_>, unread: &mut bool, out: &mut Output) -> Result<(), Broken> {
        const MISSING: &str = "message_delta without its delta";
        let delta = wire.delta.ok_or(Broken::Malformed(MISSING))?;
        let delta: MessageDelta<'_> = noted(delta, MISSING, unread)?;
        self.stopped(delta.stop_reason, delta.stop_sequence);
        self.details.set("stop_details", delta.stop_details)?;
        self.details.set("container", delta.container)?;
        self.details.set("context_management", wire.context_management)?;
        self.details.set("input_transformations", wire.input_transformations)?;
        self.report(wire.usage, out)
    }

    fn message_stop(&mut self, out: &mut Output) -> Result<(), Broken> {
        if self.stop_reason.is_empty() {
            return Err(Broken::Cut);
        }
        let reason = finish_reason(&self.stop_reason);
        self.blocks.finish_all(CallEnd::of(reason), out)?;
        out.push(Event::Finished(Finish {
            reason,
            provider_reason: std::mem::take(&mut self.stop_reason),
            usage: out.usage,
            stop_sequence: std::mem::take(&mut self.stop_sequence),
            provider_details: self.details.json(),
            provider_usage: self.usage.json(),
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

    /// What is not said again stays.
    fn stopped(&mut self, reason: Option<String>, sequence: Option<String>) {
        self.stop_reason = reason.unwrap_or_else(|| std::mem::take(&mut self.stop_reason));
        self.stop_sequence = sequence.unwrap_or_else(|| std::mem::take(&mut self.stop_sequence));
    }

    fn report(&mut self, usage: Option<&RawValue>, out: &mut Output) -> Result<(), Broken> {
        if let Some(usage) = usage
            && let Some(known) = self.usage.report(usage)?
        {
            out.report_usage(known);
        }
        Ok(())
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
