//! Blocks that only Anthropic has: its own tools and what they return, a summary of the
//! conversation, the change to another model, and whatever comes after these.
//!
//! Such a block is told as a whole when it ends, in the form in which it is sent back.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Tag, read};
use crate::{
    message::ProviderEvent,
    provider::{Broken, tool_calls::CallEnd},
};

#[derive(Debug)]
pub(super) struct OwnBlock {
    kind: String,
    /// As it began.
    json: String,
    /// The pieces of its input.
    input: String,
    /// Fields that came later.
    fields: BTreeMap<String, Box<RawValue>>,
    /// A piece of it was of a kind that is not known.
    is_part: bool,
}

#[derive(Deserialize)]
struct InputJsonDelta {
    partial_json: String,
}

impl OwnBlock {
    pub(super) fn begin(kind: String, json: String) -> Self {
        Self { kind, json, input: String::new(), fields: BTreeMap::new(), is_part: false }
    }

    /// Adds a piece. Returns whether it has its place in the block.
    pub(super) fn append(&mut self, delta: &RawValue) -> Result<bool, Broken> {
        let tag: Tag<'_> = read(Some(delta), "content_block_delta without its delta")?;
        match tag.kind.as_ref() {
            "input_json_delta" => {
                let piece: InputJsonDelta = read(Some(delta), "input_json_delta without its JSON")?;
                self.input.push_str(&piece.partial_json);
            }
            // It has the names of the block's fields, and all of each.
            "compaction_delta" => {
                let fields: BTreeMap<String, Box<RawValue>> = read(Some(delta), "compaction_delta that is none")?;
                self.fields.extend(fields.into_iter().filter(|(name, _)| name != "type"));
            }
            _ => {
                self.is_part = true;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The block is whole, or as much of it as came.
    pub(super) fn finish(mut self, end: CallEnd) -> ProviderEvent {
        let mut replayable = end == CallEnd::Whole && !self.is_part;
        if !self.input.trim_ascii().is_empty() {
            // Never repaired: what is no JSON is shown as the text that it is.
            let input = serde_json::from_str(&self.input).or_else(|_| {
                replayable = false;
                to_raw_value(&self.input)
            });
            self.fields.extend(input.ok().map(|input| ("input".to_owned(), input)));
        }
        ProviderEvent { json: self.json(), kind: self.kind, replayable }
    }

    fn json(&mut self) -> String {
        let json = std::mem::take(&mut self.json);
        if self.fields.is_empty() {
            return json;
        }
        let joined = serde_json::from_str(&json).and_then(|mut all: BTreeMap<String, Box<RawValue>>| {
            all.append(&mut self.fields);
            serde_json::to_string(&all)
        });
        joined.unwrap_or(json)
    }
}
