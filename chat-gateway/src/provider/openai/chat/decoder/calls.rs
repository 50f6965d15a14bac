//! The calls of an answer.
//!
//! Calls of functions become the common calls. A custom tool is called with a text, which
//! is none of them: such a call is put together and handed on as it would have come at once.

mod brackets;

use serde::Serialize;

use super::chunk::{CallDelta, CustomDelta, FunctionDelta};
use brackets::Brackets;

use crate::{
    message::{Event, ProviderEvent},
    provider::{
        Broken, Output,
        tool_calls::{CallEnd, ToolCalls},
    },
};

/// How many indexes of calls an answer may use. OpenAI accepts at most 128 tools.
const CALL_INDEXES_MAX: usize = 1024;

/// The input of a custom call: as much as the arguments of all common calls together.
const INPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Calls {
    seed: String,
    functions: ToolCalls,
    /// All calls of functions. Indexes may be used again by servers that imitate the API: the
    /// latest call is meant.
    indexed: Vec<Indexed>,
    custom: Option<CustomCall>,
    custom_begun: bool,
}

/// What an index of the provider means.
#[derive(Debug)]
struct Indexed {
    index: u64,
    key: u64,
    arguments: Brackets,
}

/// A call of a custom tool, in the provider's form.
#[derive(Debug, Serialize)]
struct CustomCall {
    #[serde(skip)]
    index: Option<u64>,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    custom: Called,
    /// Ours: the text of an input does not show that it was cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
}

#[derive(Debug, Serialize)]
struct Called {
    name: String,
    input: String,
}

impl Calls {
    pub(super) fn new(seed: &str) -> Self {
        Self {
            seed: seed.to_owned(),
            functions: ToolCalls::default(),
            indexed: Vec::new(),
            custom: None,
            custom_begun: false,
        }
    }

    /// Whether any call has begun.
    pub(super) fn any(&self) -> bool {
        self.functions.any() || self.custom_begun
    }

    /// A piece of a call arrives.
    pub(super) fn piece(&mut self, delta: CallDelta, out: &mut Output) -> Result<(), Broken> {
        let CallDelta { index, id, function, custom, .. } = delta;
        let id = id.unwrap_or_default();
        match (function, custom) {
            (None, Some(custom)) => self.custom(index, id, custom, out),
            // Nothing, or more of a call of a new kind.
            (None, None) if id.is_empty() => Ok(()),
            (function, _) => self.function(index, id, function.unwrap_or_default(), out),
        }
    }

    /// A piece of the form before there were several calls arrives.
    pub(super) fn legacy_piece(&mut self, function: FunctionDelta, out: &mut Output) -> Result<(), Broken> {
        self.function(Some(0), String::new(), function, out)
    }

    /// The answer ends, and all calls with it.
    pub(super) fn finish(&mut self, end: CallEnd, out: &mut Output) {
        self.finish_custom(end, out);
        self.functions.finish_all(end, out);
    }

    fn function(
        &mut self,
        index: Option<u64>,
        id: String,
        delta: FunctionDelta,
        out: &mut Output,
    ) -> Result<(), Broken> {
        let name = delta.name.unwrap_or_default();
        let arguments = delta.arguments.unwrap_or_default();
        let at = match self.continued(index, &id, &name, &arguments) {
            Some(at) => at,
            None => self.begin(index, id, name, out)?,
        };
        let call = &mut self.indexed[at];
        // White space after a call that is whole belongs to nothing.
        if arguments.trim().is_empty() && !self.functions.is_open(call.key) {
            return Ok(());
        }
        call.arguments.push(&arguments);
        self.functions.append(call.key, arguments, out)
    }

    /// The call that a delta goes on with. Some servers give every call the index 0, so a
    /// name begins a call even at a known index, if it comes with another id, or with none
    /// after whole arguments. An id alone does not, for others make a new one up for each
    /// delta; nor does the name of the call again with nothing more.
    fn continued(&self, index: Option<u64>, id: &str, name: &str, arguments: &str) -> Option<usize> {
        let at = match index {
            Some(index) => self.indexed.iter().rposition(|call| call.index == index)?,
            None => self.indexed.len().checked_sub(1)?,
        };
        let call = &self.indexed[at];
        let other_id = !id.is_empty() && self.functions.id(call.key) != Some(id);
        let says_more = !arguments.is_empty() || self.functions.name(call.key) != Some(name);
        let after_whole = id.is_empty() && call.arguments.are_closed() && says_more;
        let begins = !name.is_empty() && (other_id || after_whole || !self.functions.is_open(call.key));
        (!begins).then_some(at)
    }

    /// The place of a new call among all.
    fn begin(&mut self, index: Option<u64>, id: String, name: String, out: &mut Output) -> Result<usize, Broken> {
        if name.is_empty() {
            return Err(Broken::Malformed("a tool call begins without a name"));
        }
        if self.indexed.len() >= CALL_INDEXES_MAX {
            return Err(Broken::Malformed("too many tool calls"));
        }
        self.finish_before(out);
        let key = u64::from(self.functions.begun());
        let id = if id.is_empty() { format!("call_{}_{key}", self.seed) } else { id };
        self.functions.begin(key, id, name, out)?;
        self.indexed.push(Indexed { index: index.unwrap_or(key), key, arguments: Brackets::default() });
        Ok(self.indexed.len() - 1)
    }

    /// A call has no end of its own. The one before is whole if its arguments are: then
    /// the caller need not wait for the others.
    fn finish_before(&mut self, out: &mut Output) {
        self.finish_custom(CallEnd::Whole, out);
        if let Some(complete) = self.functions.last_if_complete() {
            self.functions.finish(complete, CallEnd::Whole, out);
        }
    }

    fn custom(&mut self, index: Option<u64>, id: String, delta: CustomDelta, out: &mut Output) -> Result<(), Broken> {
        let name = delta.name.unwrap_or_default();
        let open = self.custom.take_if(|open| {
            let other_id = !id.is_empty() && open.id != id;
            index.is_none_or(|index| open.index == Some(index)) && (name.is_empty() || !other_id)
        });
        let mut call = match open {
            Some(call) => call,
            None if name.is_empty() => return Err(Broken::Malformed("a call of a custom tool begins without a name")),
            None => {
                self.finish_before(out);
                CustomCall {
                    index,
                    id,
                    kind: "custom",
                    custom: Called { name, input: String::new() },
                    incomplete: false,
                }
            }
        };
        (out.committed, self.custom_begun) = (true, true);
        call.custom.input.push_str(&delta.input.unwrap_or_default());
        if call.custom.input.len() > INPUT_BYTES_MAX {
            return Err(Broken::Malformed("the input of a custom tool is too large"));
        }
        self.custom = Some(call);
        Ok(())
    }

    /// It cannot be sent back: nothing in a request answers it.
    fn finish_custom(&mut self, end: CallEnd, out: &mut Output) {
        if let Some(mut call) = self.custom.take() {
            call.incomplete = end == CallEnd::Cut;
            let json = serde_json::to_string(&call).unwrap_or_default();
            out.push(Event::Provider(ProviderEvent { kind: call.kind.to_owned(), json, replayable: false }));
        }
    }
}
