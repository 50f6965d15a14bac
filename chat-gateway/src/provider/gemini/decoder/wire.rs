//! The form of an event.
//!
//! A field that is not declared here, or that is read by `IgnoredAny`, is one that nobody
//! knows, and makes the whole event go on as it came.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::partial_args::PartialArg;
use crate::provider::bounded_list;

/// Fields of an event that tell nothing, or nothing that is not told elsewhere.
pub(super) const SAYS_NOTHING: &[&str] = &["createTime", "role", "tokenCount"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default, deserialize_with = "bounded_list::read")]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow)]
    pub(super) prompt_feedback: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model_status: Option<&'a RawValue>,
    pub(super) model_version: Option<String>,
    pub(super) response_id: Option<String>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(default)]
    pub(super) index: u64,
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    pub(super) finish_reason: Option<Word>,
    #[serde(borrow)]
    pub(super) finish_message: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) continuation_token: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) avg_logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) safety_ratings: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citation_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) url_context_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) logprobs_result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, default, deserialize_with = "bounded_list::read")]
    pub(super) parts: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) thought: Option<bool>,
    pub(super) thought_signature: Option<String>,
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionCall<'a>>,
    // Content without a common form.
    #[serde(borrow)]
    executable_code: Option<&'a RawValue>,
    #[serde(borrow)]
    code_execution_result: Option<&'a RawValue>,
    #[serde(borrow)]
    inline_data: Option<&'a RawValue>,
    #[serde(borrow)]
    file_data: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_call: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_response: Option<&'a RawValue>,
    #[serde(borrow)]
    function_response: Option<&'a RawValue>,
    #[serde(borrow)]
    audio_transcription: Option<&'a RawValue>,
}

impl Part<'_> {
    /// Whether it adds to the answer. A signature alone is of what came before, and so is
    /// the end of a call.
    pub(super) fn has_content(&self) -> bool {
        self.text.as_ref().is_some_and(|text| !text.is_empty())
            || self.function_call.as_ref().is_some_and(|call| !call.only_ends())
            || self.own_kind().is_some()
    }

    /// The kind of a part without a common form, as Gemini's own contract writes it.
    pub(super) fn own_kind(&self) -> Option<&'static str> {
        let kinds = [
            (self.executable_code, "executable_code"),
            (self.code_execution_result, "code_execution_result"),
            (self.inline_data, "inline_data"),
            (self.file_data, "file_data"),
            (self.tool_call, "tool_call"),
            (self.tool_response, "tool_response"),
            (self.function_response, "function_response"),
            (self.audio_transcription, "audio_transcription"),
        ];
        kinds.into_iter().find_map(|(content, kind)| content.map(|_| kind))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunctionCall<'a> {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(borrow)]
    pub(super) args: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "bounded_list::read")]
    pub(super) partial_args: Option<Vec<PartialArg>>,
    pub(super) will_continue: Option<bool>,
}

impl FunctionCall<'_> {
    /// Whether it is the closing part of a call that was streamed.
    fn only_ends(&self) -> bool {
        let Self { id: _, name, args, partial_args, will_continue } = self;
        name.is_none() && args.is_none() && partial_args.is_none() && *will_continue != Some(true)
    }
}

/// The name of an enum's value, or its number where a proxy has not named it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Word {
    Name(String),
    Number(i64),
}

impl Word {
    /// The word, unless it says that there is none.
    pub(super) fn said(self) -> Option<String> {
        match self {
            Self::Name(name) if name.is_empty() || name.ends_with("_UNSPECIFIED") => None,
            Self::Name(name) => Some(name),
            Self::Number(0) => None,
            Self::Number(number) => Some(number.to_string()),
        }
    }
}
