//! Where a part of a request is, as the contract names it.

use std::fmt;

/// The place of a part: `messages[2].parts[0]`, or in the content of a tool's result
/// `messages[2].parts[0].tool_result.content[1]`.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) message: usize,
    pub(super) part: usize,
    /// In the content of a result.
    pub(super) content: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "messages[{}].parts[{}]", self.message, self.part)?;
        self.content.map_or(Ok(()), |at| write!(f, ".tool_result.content[{at}]"))
    }
}
