//! What Gemini counts. A count that cannot be read is not known, and breaks no answer.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::message::Usage;

/// `usageMetadata`, as far as it has a common form. It is on every event; the last counts.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    #[serde(rename = "promptTokenCount")]
    prompt: Count,
    #[serde(rename = "cachedContentTokenCount")]
    cached_content: Count,
    #[serde(rename = "toolUsePromptTokenCount")]
    tool_use_prompt: Count,
    #[serde(rename = "candidatesTokenCount")]
    candidates: Count,
    #[serde(rename = "thoughtsTokenCount")]
    thoughts: Count,
    #[serde(rename = "totalTokenCount")]
    total: Count,
}

#[derive(Clone, Copy, Default)]
enum Count {
    /// Not there, or null.
    #[default]
    Unsaid,
    /// Of another form: nothing can be summed with it.
    Unknown,
    Known(u64),
}

impl Counts {
    /// `None` if nothing is counted yet: the first events of some streams only tell how
    /// they are paid for.
    pub(super) fn unified(self) -> Option<Usage> {
        let output = match self.candidates.plus(self.thoughts) {
            // A count of zero is left out.
            Count::Unsaid => self.prompt.known().map(|_| 0),
            output @ (Count::Unknown | Count::Known(_)) => output.known(),
        };
        let usage = Usage {
            input: self.prompt.plus(self.tool_use_prompt).known(),
            cached_input: self.cached_content.known(),
            cache_write: None,
            output,
            reasoning: self.thoughts.known(),
            total: self.total.known(),
        };
        Some(usage).filter(|usage| *usage != Usage::default())
    }
}

impl Count {
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Unsaid, count) | (count, Self::Unsaid) => count,
            (Self::Known(a), Self::Known(b)) => Self::Known(a.saturating_add(b)),
        }
    }

    fn known(self) -> Option<u64> {
        match self {
            Self::Unsaid | Self::Unknown => None,
            Self::Known(count) => Some(count),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(count: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(count)?.get();
        let read = if json == "null" { Some(Self::Unsaid) } else { serde_json::from_str(json).ok().map(Self::Known) };
        Ok(read.unwrap_or(Self::Unknown))
    }
}
