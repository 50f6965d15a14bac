//! What Gemini counts.

use serde::Deserialize;

use crate::message::Usage;

/// `usageMetadata`, as far as it has a common form. It is on every event; the last counts.
#[derive(Deserialize)]
pub(super) struct Counts {
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

impl Counts {
    /// `None` if nothing is counted yet: the first events of some streams only tell how
    /// they are paid for.
    pub(super) fn unified(self) -> Option<Usage> {
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
