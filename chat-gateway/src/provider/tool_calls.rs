//! The tool calls of one answer, while their arguments arrive in pieces.
//!
//! Numbers the calls, relays the pieces, and ends each call with its whole arguments.
//! Arguments are never repaired: what is not JSON is handed on as it came, and said to
//! be incomplete. What is held is bounded.

use serde::de::IgnoredAny;

use super::{Broken, Output};
use crate::message::{Event, FinishReason, FinishedCall};

/// All names, ids and arguments of open calls. An answer of the largest models is
/// 128,000 tokens, which is well under 1 MiB of text.
const OPEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Calls that are open at once. Providers accept at most 128 tools, and their models
/// call one after the other.
const OPEN_CALLS_MAX: usize = 256;

/// Calls by the number under which the provider speaks of them.
#[derive(Debug, Default)]
pub(super) struct ToolCalls {
    open: Vec<Open>,
    begun: u32,
    open_bytes: usize,
}

#[derive(Debug)]
struct Open {
    key: u64,
    index: u32,
    id: String,
    name: String,
    arguments: String,
    signature: String,
}

/// How a call came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallEnd {
    /// The provider ended it, or the answer ended by itself.
    Whole,
    /// The answer was cut while the call was open.
    Cut,
}

impl CallEnd {
    /// What the end of an answer means for the calls that are still open. Whatever ended
    /// it from outside may have ended them too.
    pub(super) fn of(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop | FinishReason::StopSequence | FinishReason::ToolCalls => Self::Whole,
            FinishReason::Length
            | FinishReason::ContentFilter
            | FinishReason::Refusal
            | FinishReason::Pause
            | FinishReason::MalformedToolCall
            | FinishReason::Other => Self::Cut,
        }
    }
}

impl ToolCalls {
    /// Whether any call has begun.
    pub(super) fn any(&self) -> bool {
        self.begun > 0
    }

    /// How many calls have begun.
    pub(super) fn begun(&self) -> u32 {
        self.begun
    }

    pub(super) fn is_open(&self, key: u64) -> bool {
        self.position(key).is_some()
    }

    /// Whether a call is open and no piece of its arguments has arrived.
    pub(super) fn is_bare(&self, key: u64) -> bool {
        self.position(key).is_some_and(|at| self.open[at].arguments.is_empty())
    }

    /// The provider's id of an open call.
    pub(super) fn id(&self, key: u64) -> Option<&str> {
        self.position(key).map(|at| self.open[at].id.as_str())
    }

    /// The name of an open call.
    pub(super) fn name(&self, key: u64) -> Option<&str> {
        self.position(key).map(|at| self.open[at].name.as_str())
    }

    /// The call that began last, if it is open and its arguments are whole JSON: no
    /// further piece can belong to it.
    pub(super) fn last_if_complete(&self) -> Option<u64> {
        self.open.last().filter(|call| is_json(&call.arguments)).map(|call| call.key)
    }

    /// A call begins. `key` is not open.
    pub(super) fn begin(&mut self, key: u64, id: String, name: String, out: &mut Output) -> Result<(), Broken> {
        if self.open.len() >= OPEN_CALLS_MAX {
            return Err(Broken::Malformed("too many tool calls are open at once"));
        }
        self.hold(id.len() + name.len())?;
        let index = self.begun;
        self.begun += 1;
        out.push(Event::ToolCallStarted { index, id: id.clone(), name: name.clone() });
        self.open.push(Open { key, index, id, name, arguments: String::new(), signature: String::new() });
        Ok(())
    }

    /// A piece of the arguments of an open call arrives.
    pub(super) fn append(&mut self, key: u64, arguments: String, out: &mut Output) -> Result<(), Broken> {
        let Some(at) = self.position(key) else {
            return Err(Broken::Malformed("arguments of a tool call that is not open"));
        };
        if arguments.is_empty() {
            return Ok(());
        }
        self.hold(arguments.len())?;
        let call = &mut self.open[at];
        call.arguments.push_str(&arguments);
        out.push(Event::ToolCallDelta { index: call.index, arguments });
        Ok(())
    }

    /// The provider signs an open call. Nothing happens if it is not open.
    pub(super) fn sign(&mut self, key: u64, signature: String) -> Result<(), Broken> {
        let Some(at) = self.position(key) else { return Ok(()) };
        self.hold(signature.len())?;
        self.open[at].signature = signature;
        Ok(())
    }

    /// An open call ends. Nothing happens if it is not open.
    pub(super) fn finish(&mut self, key: u64, end: CallEnd, out: &mut Output) {
        if let Some(at) = self.position(key) {
            let call = self.open.remove(at);
            self.open_bytes -= call.id.len() + call.name.len() + call.arguments.len() + call.signature.len();
            out.push(Event::ToolCallFinished(call.finished(end)));
        }
    }

    /// All open calls end, in the order in which they began.
    pub(super) fn finish_all(&mut self, end: CallEnd, out: &mut Output) {
        self.open_bytes = 0;
        for call in self.open.drain(..) {
            out.push(Event::ToolCallFinished(call.finished(end)));
        }
    }

    fn position(&self, key: u64) -> Option<usize> {
        self.open.iter().rposition(|call| call.key == key)
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Broken> {
        self.open_bytes += bytes;
        if self.open_bytes > OPEN_BYTES_MAX {
            return Err(Broken::Malformed("the arguments of tool calls are too large"));
        }
        Ok(())
    }
}

impl Open {
    fn finished(self, end: CallEnd) -> FinishedCall {
        let Self { index, id, name, arguments, signature, .. } = self;
        // A tool without parameters is called with no piece, or with empty ones.
        if arguments.trim().is_empty() && end == CallEnd::Whole {
            return FinishedCall { index, id, name, arguments: "{}".to_owned(), incomplete: false, signature };
        }
        let incomplete = !is_json(&arguments);
        FinishedCall { index, id, name, arguments, incomplete, signature }
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(pieces: &[&str], end: CallEnd) -> (String, bool) {
        let (mut calls, mut out) = (ToolCalls::default(), Output::default());
        calls.begin(7, "id".to_owned(), "tool".to_owned(), &mut out).unwrap();
        for piece in pieces {
            calls.append(7, (*piece).to_owned(), &mut out).unwrap();
        }
        calls.finish(7, end, &mut out);
        match out.events.pop_back() {
            Some(Event::ToolCallFinished(call)) => (call.arguments, call.incomplete),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_call_ends_with_its_whole_arguments() {
        for (pieces, end, arguments, incomplete) in [
            (vec![], CallEnd::Whole, "{}", false),
            (vec!["", ""], CallEnd::Whole, "{}", false),
            (vec![], CallEnd::Cut, "", true),
            (vec!["", "{\"a\":", "1}"], CallEnd::Whole, "{\"a\":1}", false),
            (vec!["{\"a\":1}"], CallEnd::Cut, "{\"a\":1}", false),
            (vec!["{\"a\":"], CallEnd::Whole, "{\"a\":", true),
            (vec!["{\"a\":"], CallEnd::Cut, "{\"a\":", true),
        ] {
            assert_eq!(finished(&pieces, end), (arguments.to_owned(), incomplete), "{pieces:?} {end:?}");
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let (mut calls, mut out) = (ToolCalls::default(), Output::default());
        for key in 0..OPEN_CALLS_MAX as u64 {
            calls.begin(key, "id".to_owned(), "tool".to_owned(), &mut out).unwrap();
        }
        assert!(calls.begin(1000, "id".to_owned(), "tool".to_owned(), &mut out).is_err());

        let mut calls = ToolCalls::default();
        let half = "x".repeat(OPEN_BYTES_MAX / 2);
        for key in 0..4 {
            calls.begin(key, "id".to_owned(), "tool".to_owned(), &mut out).unwrap();
            calls.append(key, half.clone(), &mut out).unwrap();
            calls.finish(key, CallEnd::Whole, &mut out);
        }
        calls.begin(0, "id".to_owned(), "tool".to_owned(), &mut out).unwrap();
        calls.append(0, half.clone(), &mut out).unwrap();
        assert!(calls.append(0, half, &mut out).is_err());
    }
}
