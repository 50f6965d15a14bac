//! The blocks of an answer, from their beginning over their pieces to their end.
//!
//! What is odd: a citation comes before the text that it is about, and is told after it;
//! what signs a thought comes last; a call's arguments may come with its beginning. What is
//! held is bounded.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Tag, citations, noted, own::OwnBlock, read};
use crate::{
    message::{Citation, Event, ReasoningDelta},
    provider::{
        Broken, Output, json_text,
        tool_calls::{CallEnd, ToolCalls},
    },
};

/// Blocks that are open at once. Anthropic has one.
const OPEN_BLOCKS_MAX: usize = 128;

/// All that open blocks hold. What a tool of Anthropic's returns is one event, so at most
/// 1 MiB.
const OPEN_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Blocks {
    open: Vec<Open>,
    open_bytes: usize,
    calls: ToolCalls,
    /// A call whose block has ended without any input. Whether it has none, or was cut
    /// before it, is told by what follows.
    bare: Option<u64>,
    /// How many blocks of reasoning were shown.
    thoughts: u32,
}

#[derive(Debug)]
struct Open {
    index: u64,
    block: Block,
    bytes: usize,
}

#[derive(Debug)]
enum Block {
    /// A text, and where it comes from.
    Text(Vec<Citation>),
    Thinking(Thought),
    /// All that it has came with its beginning.
    Redacted,
    /// A call, and the arguments that came with its beginning.
    ToolUse(String),
    Own(OwnBlock),
}

#[derive(Debug, Default)]
struct Thought {
    /// Its number, once something was shown.
    index: Option<u32>,
    signature: String,
}

#[derive(Deserialize)]
struct TextBlock<'a> {
    #[serde(default)]
    text: String,
    #[serde(borrow)]
    citations: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct ThinkingBlock {
    thinking: Option<String>,
    signature: Option<String>,
}

#[derive(Deserialize)]
struct RedactedBlock {
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct ToolUseBlock<'a> {
    id: String,
    name: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    caller: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TextDelta {
    text: String,
}

#[derive(Deserialize)]
struct CitationsDelta<'a> {
    #[serde(borrow)]
    citation: &'a RawValue,
}

#[derive(Deserialize)]
struct ThinkingDelta {
    thinking: String,
}

#[derive(Deserialize)]
struct SignatureDelta {
    signature: String,
}

#[derive(Deserialize)]
struct InputJsonDelta {
    partial_json: String,
}

impl Blocks {
    /// A block begins. Sets `unread` if it says what nobody reads.
    pub(super) fn begin(
        &mut self,
        index: u64,
        raw: &RawValue,
        unread: &mut bool,
        out: &mut Output,
    ) -> Result<(), Broken> {
        if self.open.iter().any(|open| open.index == index) {
            return Err(Broken::Malformed("content_block_start of a block that is open"));
        }
        if self.open.len() >= OPEN_BLOCKS_MAX {
            return Err(Broken::Malformed("too many blocks are open at once"));
        }
        // The model went on: the call before was whole.
        if let Some(bare) = self.bare.take() {
            self.calls.finish(bare, CallEnd::Whole, out);
        }
        let tag: Tag<'_> = read(Some(raw), "content_block_start without its block")?;
        let (block, bytes) = match tag.kind.as_ref() {
            "text" => begin_text(noted(raw, "a text block that is not one", unread)?, out)?,
            "thinking" => self.begin_thinking(noted(raw, "a thinking block that is not one", unread)?, out),
            "redacted_thinking" => {
                let block: RedactedBlock = noted(raw, "a redacted_thinking block that is not one", unread)?;
                self.redacted(block.data, out);
                (Block::Redacted, 0)
            }
            "tool_use" => {
                let call: ToolUseBlock<'_> = noted(raw, "a tool call without id or name", unread)?;
                // That code calls the tool, and which, has no place in a call.
                *unread |= call.caller.is_some_and(|caller| !is_the_model(caller));
                self.calls.begin(index, call.id, call.name, out)?;
                let input = call.input.map(RawValue::get).unwrap_or_default().to_owned();
                let bytes = input.len();
                (Block::ToolUse(input), bytes)
            }
            // Its beginning is no output yet: until a piece or its end comes, the question
            // may still be asked again.
            kind => {
                let bytes = kind.len() + raw.get().len();
                (Block::Own(OwnBlock::begin(kind.to_owned(), raw.get().to_owned())), bytes)
            }
        };
        self.open.push(Open { index, block, bytes });
        self.hold(bytes)
    }

    /// A piece of an open block arrives. Sets `unread` if it says what nobody reads.
    pub(super) fn append(
        &mut self,
        index: u64,
        raw: &RawValue,
        unread: &mut bool,
        out: &mut Output,
    ) -> Result<(), Broken> {
        let tag: Tag<'_> = read(Some(raw), "content_block_delta without its delta")?;
        let Some(open) = self.open.iter_mut().find(|open| open.index == index) else {
            return Err(Broken::Malformed("a delta of a block that is not open"));
        };
        let held = match (&mut open.block, tag.kind.as_ref()) {
            (Block::Text(_), "text_delta") => {
                let delta: TextDelta = noted(raw, "text_delta without its text", unread)?;
                push_text(delta.text, out);
                return Ok(());
            }
            (Block::ToolUse(_), "input_json_delta") => {
                let delta: InputJsonDelta = noted(raw, "input_json_delta without its JSON", unread)?;
                return self.calls.append(index, delta.partial_json, out);
            }
            (Block::Thinking(thought), "thinking_delta") => {
                let delta: ThinkingDelta = noted(raw, "thinking_delta without its text", unread)?;
                let delta = ReasoningDelta { text: delta.thinking, ..ReasoningDelta::default() };
                push_thought(&mut thought.index, &mut self.thoughts, delta, out);
                return Ok(());
            }
            (Block::Thinking(thought), "signature_delta") => {
                let delta: SignatureDelta = noted(raw, "signature_delta without its signature", unread)?;
                thought.signature = delta.signature;
                raw.get().len()
            }
            (Block::Text(citations), "citations_delta") => {
                let delta: CitationsDelta<'_> = noted(raw, "citations_delta without its citation", unread)?;
                citations.push(citations::citation(delta.citation)?);
                2 * raw.get().len()
            }
            (Block::Own(block), _) => {
                *unread |= !block.append(raw)?;
                raw.get().len()
            }
            (Block::Text(_) | Block::Thinking(_) | Block::Redacted | Block::ToolUse(_), _) => {
                *unread = true;
                0
            }
        };
        out.committed = true;
        open.bytes += held;
        self.hold(held)
    }

    /// A block ends.
    pub(super) fn finish(&mut self, index: u64, out: &mut Output) -> Result<(), Broken> {
        let Some(at) = self.open.iter().position(|open| open.index == index) else {
            return Err(Broken::Malformed("content_block_stop of a block that is not open"));
        };
        let open = self.open.swap_remove(at);
        self.open_bytes -= open.bytes;
        match open.block {
            Block::ToolUse(input) if self.calls.is_bare(index) && is_empty_input(&input) => {
                // One that ended before it was not cut: another ended after it.
                if let Some(before) = self.bare.replace(index) {
                    self.calls.finish(before, CallEnd::Whole, out);
                }
                Ok(())
            }
            block => self.close(index, block, CallEnd::Whole, out),
        }
    }

    /// The answer ends, and with it all blocks that are open, in their order.
    pub(super) fn finish_all(&mut self, end: CallEnd, out: &mut Output) -> Result<(), Broken> {
        if let Some(bare) = self.bare.take() {
            self.calls.finish(bare, end, out);
        }
        let mut open = std::mem::take(&mut self.open);
        open.sort_unstable_by_key(|open| open.index);
        open.into_iter().try_for_each(|open| self.close(open.index, open.block, end, out))
    }

    fn close(&mut self, index: u64, block: Block, end: CallEnd, out: &mut Output) -> Result<(), Broken> {
        match block {
            Block::Text(citations) => citations.into_iter().for_each(|citation| out.push(Event::Citation(citation))),
            Block::Thinking(Thought { index: mut number, signature }) => {
                let delta = ReasoningDelta { signature, ..ReasoningDelta::default() };
                push_thought(&mut number, &mut self.thoughts, delta, out);
            }
            Block::Redacted => {}
            // Arguments come in deltas, or with the beginning of the call and without deltas:
            // then they are relayed as one piece.
            Block::ToolUse(input) => {
                if self.calls.is_bare(index) && !is_empty_input(&input) {
                    self.calls.append(index, input, out)?;
                }
                self.calls.finish(index, end, out);
            }
            Block::Own(block) => out.push(Event::Provider(block.finish(end))),
        }
        Ok(())
    }

    fn begin_thinking(&mut self, block: ThinkingBlock, out: &mut Output) -> (Block, usize) {
        let mut thought = Thought { index: None, signature: block.signature.unwrap_or_default() };
        let delta = ReasoningDelta { text: block.thinking.unwrap_or_default(), ..ReasoningDelta::default() };
        push_thought(&mut thought.index, &mut self.thoughts, delta, out);
        let bytes = thought.signature.len();
        (Block::Thinking(thought), bytes)
    }

    fn redacted(&mut self, redacted_data: String, out: &mut Output) {
        let delta = ReasoningDelta { redacted_data, ..ReasoningDelta::default() };
        push_thought(&mut None, &mut self.thoughts, delta, out);
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Broken> {
        self.open_bytes += bytes;
        if self.open_bytes > OPEN_BYTES_MAX {
            return Err(Broken::Malformed("blocks that are open are too large"));
        }
        Ok(())
    }
}

fn begin_text(block: TextBlock<'_>, out: &mut Output) -> Result<(Block, usize), Broken> {
    push_text(block.text, out);
    let raw = block.citations.unwrap_or_default();
    out.committed |= !raw.is_empty();
    let bytes = raw.iter().map(|raw| 2 * raw.get().len()).sum();
    let citations = raw.into_iter().map(citations::citation).collect::<Result<_, _>>()?;
    Ok((Block::Text(citations), bytes))
}

fn push_text(text: String, out: &mut Output) {
    if !text.is_empty() {
        out.push(Event::Text(text));
    }
}

/// Shows more of a thought, which gets the next number with the first that is shown.
fn push_thought(number: &mut Option<u32>, shown: &mut u32, delta: ReasoningDelta, out: &mut Output) {
    if delta == ReasoningDelta::default() {
        return;
    }
    let index = *number.get_or_insert_with(|| {
        *shown += 1;
        *shown - 1
    });
    out.push(Event::Reasoning(ReasoningDelta { index, ..delta }));
}

/// Whether a call is made by the model itself.
fn is_the_model(caller: &RawValue) -> bool {
    let tag = json_text::noting::<Tag<'_>>(caller.get().as_bytes(), &[]);
    tag.is_some_and(|(tag, more)| tag.kind == "direct" && !more)
}

/// Whether the input of a call's beginning only stands for what the deltas bring.
fn is_empty_input(input: &str) -> bool {
    let dense: String = input.split_ascii_whitespace().collect();
    matches!(dense.as_str(), "" | "{}" | "\"\"" | "null")
}
