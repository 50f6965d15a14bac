//! Reads the stream of a response.
//!
//! <https://platform.openai.com/docs/api-reference/responses-streaming>. An answer is a row
//! of items, each with its beginning, its pieces and its end; the end repeats the whole. The
//! pieces are what is relayed, and where a server sends none, what the end says. The answer
//! itself ends with an event that says how; an end of the body without it is a cut.

mod end;
mod items;
mod parts;
mod wire;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use self::{
    items::{Items, Place},
    parts::part_begun,
    wire::{Delta, Done, FunctionCall, Head, ItemEvent, Lifecycle, MessageItem, ReasoningItem},
};
use super::type_of;
use crate::{
    message::{Event, ReasoningDelta},
    provider::{
        Broken, Decoder, Output, json_text,
        openai::errors,
        tool_calls::{CallEnd, ToolCalls},
    },
};

#[derive(Debug)]
pub(super) struct ResponseDecoder {
    call_seed: String,
    calls: ToolCalls,
    items: Items,
    /// Whether anything of an item was relayed, besides calls.
    relayed: bool,
    refused: bool,
}

impl ResponseDecoder {
    pub(super) fn new(call_seed: &str) -> Self {
        Self {
            call_seed: call_seed.to_owned(),
            calls: ToolCalls::default(),
            items: Items::default(),
            relayed: false,
            refused: false,
        }
    }
}

impl Decoder for ResponseDecoder {
    fn event(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        // Of servers that imitate the API, if it comes at all before the end.
        if data.trim_ascii() == b"[DONE]" {
            return Err(Broken::Cut);
        }
        let head: Head<'_> = json_text::object(data).ok_or(Broken::Malformed("an event is not an object"))?;
        match head.kind.as_ref() {
            "response.created" | "response.queued" | "response.in_progress" => begun(data, out),
            "response.output_item.added" => self.item_added(data, out),
            "response.output_item.done" => self.item_done(data, out),
            "response.content_part.added"
            | "response.reasoning_summary_part.added"
            | "response.reasoning_summary_part.done" => part_begun(data, out),
            "response.content_part.done" => self.part_done(data, out),
            "response.output_text.delta" | "response.refusal.delta" => self.text_delta(&head.kind, data, out),
            "response.output_text.done" | "response.refusal.done" => self.text_done(&head.kind, data, out),
            "response.output_text.annotation.added" => self.annotation(data, out),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.thought_delta(&head.kind, data, out)
            }
            "response.reasoning_summary_text.done" | "response.reasoning_text.done" => {
                self.thought_done(&head.kind, data, out)
            }
            "response.function_call_arguments.delta" => {
                let delta: Delta<'_> = read(data, out)?;
                self.calls.append(delta.output_index, delta.text, out)
            }
            "response.function_call_arguments.done" => {
                let done: Done<'_> = read(data, out)?;
                self.whole_arguments(done.output_index, done.text, out)
            }
            "response.completed" | "response.incomplete" | "response.failed" => self.terminal(&head.kind, data, out),
            "error" => Err(refused(head.error.map_or(data, |error| error.get().as_bytes()))),
            // A proxy's.
            "" if head.error.is_some() => Err(refused(data)),
            "" => Err(Broken::Malformed("an event without its type")),
            // Only keeps the connection open.
            "keepalive" => Ok(()),
            kind => {
                out.pass_on(kind, text_of(data));
                out.committed |= is_output(kind);
                Ok(())
            }
        }
    }

    fn end(&mut self, _out: &mut Output) -> Result<(), Broken> {
        Ok(())
    }
}

fn refused(error: &[u8]) -> Broken {
    Broken::Rejected(errors::classify(200, &http::HeaderMap::new(), error))
}

/// Whether an event that is only passed on has a piece of the answer, such as of code that is
/// run or a draft of an image, and does not only say how far something is.
fn is_output(kind: &str) -> bool {
    matches!(kind.rsplit('.').next(), Some("delta" | "partial_image"))
}

/// Names that say nothing more: padding, counters, and what is read or told otherwise.
const PASSED_OVER: [&str; 5] = ["type", "sequence_number", "obfuscation", "item_id", "annotation_index"];

fn parse<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<(T, bool), Broken> {
    json_text::noting(data, &PASSED_OVER).ok_or(Broken::Malformed("an event lacks what its type must have"))
}

/// Reads an event, and passes it on besides if it says more than is read.
fn read<'a, T: Deserialize<'a>>(data: &'a [u8], out: &mut Output) -> Result<T, Broken> {
    let (event, says_more) = parse(data)?;
    pass_on_if(says_more, data, out);
    Ok(event)
}

fn pass_on_if(says_more: bool, data: &[u8], out: &mut Output) {
    if says_more {
        let json = text_of(data);
        out.pass_on(type_of(&json).into_owned(), json);
    }
}

fn text_of(data: &[u8]) -> String {
    String::from_utf8_lossy(data.trim_ascii()).into_owned()
}

/// What kind of item or part it is.
fn kind_of(json: &str) -> Result<Cow<'_, str>, Broken> {
    Some(type_of(json)).filter(|kind| !kind.is_empty()).ok_or(Broken::Malformed("an item without its type"))
}

/// The answer is about to begin; what is asked is echoed.
fn begun(data: &[u8], out: &mut Output) -> Result<(), Broken> {
    let event: Lifecycle = json_text::object(data).ok_or(Broken::Malformed("a beginning without its response"))?;
    event.response.identify(out);
    Ok(())
}

impl ResponseDecoder {
    fn item_added(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let (event, more): (ItemEvent<'_>, bool) = parse(data)?;
        let item = event.item.get();
        let more_inside = match kind_of(item)?.as_ref() {
            "message" => self.message(event.output_index, event.item, out)?.1,
            // It thinks, for minutes perhaps, and has said nothing yet.
            "reasoning" => parse::<ReasoningItem<'_>>(item.as_bytes())?.1,
            "function_call" => {
                let (call, more) = parse(item.as_bytes())?;
                self.begin_call(event.output_index, call, out)?;
                more
            }
            // A tool of OpenAI's begins to run, for minutes perhaps. Its end says all of it.
            _ => false,
        };
        pass_on_if(more || more_inside, data, out);
        Ok(())
    }

    /// Tells whether a message comments or answers as soon as it is known. Returns what is
    /// in it, and whether there are fields that nobody reads.
    fn message<'a>(
        &mut self,
        index: u64,
        item: &'a RawValue,
        out: &mut Output,
    ) -> Result<(Option<&'a RawValue>, bool), Broken> {
        let (message, more): (MessageItem<'_>, bool) = parse(item.get().as_bytes())?;
        if message.phase.is_some() && self.items.at(index)?.tell() {
            out.pass_on("phase", item.get());
        }
        Ok((message.content, more))
    }

    fn begin_call(&mut self, key: u64, call: FunctionCall<'_>, out: &mut Output) -> Result<(), Broken> {
        let FunctionCall { id, call_id, name, .. } = call;
        if self.calls.is_open(key) {
            return Err(Broken::Malformed("a tool call begins twice"));
        }
        let name =
            name.filter(|name| !name.is_empty()).ok_or(Broken::Malformed("a tool call begins without a name"))?;
        let id = [call_id, id].into_iter().flatten().find(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| format!("call_{}_{}", self.call_seed, self.calls.begun()));
        self.calls.begin(key, id, name, out)
    }

    fn item_done(&mut self, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let (event, more): (ItemEvent<'_>, bool) = parse(data)?;
        let more_inside = self.end_item(event.output_index, event.item, out)?;
        pass_on_if(more || more_inside, data, out);
        Ok(())
    }

    /// Says whether there are fields that nobody reads.
    fn end_item(&mut self, index: u64, item: &RawValue, out: &mut Output) -> Result<bool, Broken> {
        let (json, kind) = (item.get(), kind_of(item.get())?);
        let more = match kind.as_ref() {
            "message" => {
                let (content, more) = self.message(index, item, out)?;
                self.end_parts(index, content, out)? || more
            }
            "reasoning" => {
                let (reasoning, more) = parse(json.as_bytes())?;
                self.end_thought(index, reasoning, out)?;
                more
            }
            "function_call" => {
                let (call, more): (FunctionCall<'_>, bool) = parse(json.as_bytes())?;
                for name in call.aside() {
                    out.pass_on(name, json);
                }
                self.end_call(index, call, out)?;
                more
            }
            _ => {
                self.relay(wire::own(kind.as_ref(), json, true), out);
                false
            }
        };
        self.items.remove(index);
        Ok(more)
    }

    fn end_call(&mut self, key: u64, mut call: FunctionCall<'_>, out: &mut Output) -> Result<(), Broken> {
        let (arguments, is_cut) =
            (call.arguments.take().unwrap_or_default(), call.status.as_deref() == Some("incomplete"));
        if !self.calls.is_open(key) {
            self.begin_call(key, call, out)?;
        }
        self.whole_arguments(key, arguments, out)?;
        self.calls.finish(key, if is_cut { CallEnd::Cut } else { CallEnd::Whole }, out);
        Ok(())
    }

    /// Arguments that may have come in pieces before.
    fn whole_arguments(&mut self, key: u64, arguments: String, out: &mut Output) -> Result<(), Broken> {
        if self.calls.is_bare(key) { self.calls.append(key, arguments, out) } else { Ok(()) }
    }

    fn text_delta(&mut self, kind: &str, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let event: Delta<'_> = read(data, out)?;
        if !event.text.is_empty() {
            self.items.at(event.output_index)?.hear(Place::Content(event.part));
            self.say(kind, event.text, out);
        }
        if event.logprobs.is_some_and(wire::has_items) {
            out.pass_on("logprobs", text_of(data));
        }
        Ok(())
    }

    fn text_done(&mut self, kind: &str, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let event: Done<'_> = read(data, out)?;
        if !event.text.is_empty() && self.items.at(event.output_index)?.hear(Place::Content(event.part)) {
            self.say(kind, event.text, out);
            if event.logprobs.is_some_and(wire::has_items) {
                out.pass_on("logprobs", text_of(data));
            }
        }
        Ok(())
    }

    /// Its kind is that of the event or of the part.
    fn say(&mut self, kind: &str, text: String, out: &mut Output) {
        if kind.strip_prefix("response.").unwrap_or(kind).starts_with("refusal") {
            self.refused = true;
            self.relay(Event::Refusal(text), out);
        } else {
            self.relay(Event::Text(text), out);
        }
    }

    fn relay(&mut self, event: Event, out: &mut Output) {
        self.relayed = true;
        out.push(event);
    }

    fn thought_delta(&mut self, kind: &str, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let event: Delta<'_> = read(data, out)?;
        if event.text.is_empty() {
            return Ok(());
        }
        let begins = self.items.at(event.output_index)?.hear(place(kind, event.part));
        self.think(event.output_index, begins, event.text, out)
    }

    fn thought_done(&mut self, kind: &str, data: &[u8], out: &mut Output) -> Result<(), Broken> {
        let event: Done<'_> = read(data, out)?;
        let unheard = self.items.at(event.output_index)?.hear(place(kind, event.part));
        if unheard && !event.text.is_empty() { self.think(event.output_index, true, event.text, out) } else { Ok(()) }
    }

    /// More of a block. Its parts are paragraphs.
    fn think(&mut self, item: u64, begins: bool, mut text: String, out: &mut Output) -> Result<(), Broken> {
        let (index, is_first) = self.items.thought(item)?;
        if begins && !is_first {
            text.insert_str(0, "\n\n");
        }
        self.relay(Event::Reasoning(ReasoningDelta { index, text, ..ReasoningDelta::default() }), out);
        Ok(())
    }

    /// The encrypted content that came with the beginning was not yet the whole.
    fn end_thought(&mut self, item: u64, reasoning: ReasoningItem<'_>, out: &mut Output) -> Result<(), Broken> {
        let ReasoningItem { id, encrypted_content, summary, content, .. } = reasoning;
        let (signature, id) = (encrypted_content.unwrap_or_default(), id.unwrap_or_default());
        let is_unheard = !self.items.at(item)?.has_thought();
        let parts = summary.into_iter().chain(content).flatten().filter(|_| is_unheard).map(|part| part.text);
        let text = parts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n");
        if [&text, &signature, &id].iter().any(|field| !field.is_empty()) {
            let (index, _) = self.items.thought(item)?;
            let whole = ReasoningDelta { index, text, signature, id, ..ReasoningDelta::default() };
            self.relay(Event::Reasoning(whole), out);
        }
        Ok(())
    }
}

/// Where a piece of a thought belongs.
fn place(kind: &str, part: u64) -> Place {
    if kind.starts_with("response.reasoning_summary") { Place::Summary(part) } else { Place::Content(part) }
}
