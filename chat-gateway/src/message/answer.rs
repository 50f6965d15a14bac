//! What is answered: the events of a stream.

use super::{Provider, Source};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// Not empty, whole characters.
    Text(String),
    /// A text that the provider signed: a part of its own. Whole characters, may be empty.
    SignedText {
        text: String,
        signature: String,
    },
    /// Not empty, whole characters.
    Refusal(String),
    Reasoning(ReasoningDelta),
    ToolCallStarted {
        index: u32,
        id: String,
        name: String,
    },
    ToolCallDelta {
        index: u32,
        arguments: String,
    },
    ToolCallFinished(FinishedCall),
    Citation(Citation),
    /// What has no common form.
    Provider(ProviderEvent),
    /// Replaces every earlier report.
    Usage(Usage),
    /// Last, once.
    Finished(Finish),
}

/// More of what the model thinks. An empty field says nothing; one is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReasoningDelta {
    /// The number of the block, from 0. Deltas of a block follow each other.
    pub(crate) index: u32,
    /// Whole characters.
    pub(crate) text: String,
    /// Once in a block, with its last delta.
    pub(crate) signature: String,
    pub(crate) redacted_data: String,
    pub(crate) id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FinishedCall {
    pub(crate) index: u32,
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON text, `{}` if there are none; raw fragments if incomplete.
    pub(crate) arguments: String,
    /// The answer ended inside the call.
    pub(crate) incomplete: bool,
    /// Empty is none.
    pub(crate) signature: String,
}

/// Where something in the text comes from. Empty texts were not said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Citation {
    pub(crate) kind: CitationKind,
    pub(crate) cited_text: String,
    pub(crate) title: String,
    pub(crate) url: String,
    pub(crate) document_index: Option<u64>,
    pub(crate) start: Option<u64>,
    /// Exclusive.
    pub(crate) end: Option<u64>,
    /// The provider's own object.
    pub(crate) json: String,
}

/// What is cited, and what `start` and `end` of a [`Citation`] count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CitationKind {
    #[default]
    Other,
    Characters,
    Pages,
    Blocks,
    Web,
    SearchResult,
    File,
    Recitation,
}

/// What a provider said that has no common form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProviderEvent {
    /// The provider's word for it.
    pub(crate) kind: String,
    /// All of it: an object.
    pub(crate) json: String,
    /// Whether it is a whole part of the answer, to be sent back in its place.
    pub(crate) replayable: bool,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finish {
    pub(crate) reason: FinishReason,
    /// The provider's own word.
    pub(crate) provider_reason: String,
    pub(crate) usage: Option<Usage>,
    /// Empty unless the provider says which.
    pub(crate) stop_sequence: String,
    /// What else it said of the end, as JSON. Empty if nothing.
    pub(crate) provider_details: String,
    /// Its own counts, as JSON. Empty if none.
    pub(crate) provider_usage: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FinishReason {
    Stop,
    StopSequence,
    Length,
    ToolCalls,
    ContentFilter,
    Refusal,
    Pause,
    MalformedToolCall,
    Other,
}

impl FinishReason {
    /// In spans.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::StopSequence => "stop_sequence",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Refusal => "refusal",
            Self::Pause => "pause",
            Self::MalformedToolCall => "malformed_tool_call",
            Self::Other => "other",
        }
    }
}

/// Tokens, with one meaning for all providers. `None` was not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// All of the prompt, cache reads and writes included.
    pub(crate) input: Option<u64>,
    pub(crate) cached_input: Option<u64>,
    pub(crate) cache_write: Option<u64>,
    /// All of the answer, reasoning included.
    pub(crate) output: Option<u64>,
    pub(crate) reasoning: Option<u64>,
    pub(crate) total: Option<u64>,
}

/// Who answers, known when the answer begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Started {
    pub(crate) provider: Provider,
    pub(crate) model: String,
    /// Empty for [`Source::Environment`].
    pub(crate) api_key_id: String,
    pub(crate) source: Source,
    /// Empty if the provider gave none.
    pub(crate) provider_request_id: String,
}
