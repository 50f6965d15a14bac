//! Calls of functions: whole in one part, or value by value.

use super::wire::FunctionCall;
use crate::provider::{
    Broken, Output,
    gemini::{
        MADE_ID,
        partial_args::{Arguments, PartialArg},
    },
    tool_calls::{CallEnd, ToolCalls},
};

#[derive(Debug)]
pub(super) struct Calls {
    /// Unique to the request.
    seed: String,
    all: ToolCalls,
    open: Option<OpenCall>,
}

/// A call whose arguments arrive value by value.
#[derive(Debug)]
struct OpenCall {
    key: u64,
    id: Option<String>,
    arguments: Arguments,
    /// The value that came last goes on.
    in_value: bool,
    bytes: usize,
}

/// Paths and values of one call.
const OPEN_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Calls {
    pub(super) fn new(seed: &str) -> Self {
        Self { seed: seed.to_owned(), all: ToolCalls::default(), open: None }
    }

    /// Whether any call has begun.
    pub(super) fn any(&self) -> bool {
        self.all.any()
    }

    /// A call is one part. If it is streamed it is several: the first has the name, and
    /// the last, which may be missing, does not announce another. Hands the signature back
    /// if it is of no call: that of a closing part whose call another has closed.
    pub(super) fn add(
        &mut self,
        call: FunctionCall<'_>,
        signature: String,
        out: &mut Output,
    ) -> Result<Option<String>, Broken> {
        let FunctionCall { id, name, args, partial_args, will_continue } = call;
        let id = id.filter(|id| !id.is_empty());
        if let Some(name) = name.filter(|name| !name.is_empty())
            && !self.goes_on(id.as_ref())
        {
            self.close(CallEnd::Whole, out)?;
            self.begin(id, name, out)?;
        }
        let Some(open) = &mut self.open else { return Ok(Some(signature)) };
        if !signature.is_empty() {
            self.all.sign(open.key, signature)?;
        }
        if let Some(args) = args {
            self.all.append(open.key, args.get().to_owned(), out)?;
        }
        for piece in partial_args.into_iter().flatten() {
            open.add(piece)?;
        }
        if will_continue != Some(true) {
            self.close(CallEnd::Whole, out)?;
        }
        Ok(None)
    }

    /// Whether a part with a name is about the call that is open: it has the same id.
    fn goes_on(&self, id: Option<&String>) -> bool {
        self.open.as_ref().is_some_and(|open| id.is_some() && open.id.as_ref() == id)
    }

    fn begin(&mut self, id: Option<String>, name: String, out: &mut Output) -> Result<(), Broken> {
        let key = u64::from(self.all.begun());
        // The number makes it unique: a tool may be called twice in one turn.
        let shown = id.clone().unwrap_or_else(|| format!("{MADE_ID}{}-{key}", self.seed));
        self.all.begin(key, shown, name, out)?;
        self.open = Some(OpenCall { key, id, arguments: Arguments::default(), in_value: false, bytes: 0 });
        Ok(())
    }

    /// The call that is open ends. In the middle of a value it is cut, whatever ends it.
    pub(super) fn close(&mut self, end: CallEnd, out: &mut Output) -> Result<(), Broken> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let end = if open.in_value { CallEnd::Cut } else { end };
        if open.bytes > 0 {
            let mut arguments = open.arguments.into_text();
            if end == CallEnd::Cut {
                // More was to come: without its last bracket it is as cut as it should look.
                arguments.pop();
            }
            self.all.append(open.key, arguments, out)?;
        }
        self.all.finish(open.key, end, out);
        Ok(())
    }
}

impl OpenCall {
    fn add(&mut self, piece: PartialArg) -> Result<(), Broken> {
        self.in_value = piece.is_part();
        self.bytes += self.arguments.add(piece)?;
        if self.bytes > OPEN_BYTES_MAX {
            return Err(Broken::Malformed("the arguments of a tool call are too large"));
        }
        Ok(())
    }
}
