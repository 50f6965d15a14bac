//! A chat as plain data: what is asked, and what is answered.
//!
//! The same for all providers. Nothing here knows a transport or a wire format;
//! values of these types are checked already (`rpc/convert.rs`).

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

/// A company whose models can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI's Chat Completions API.
    OpenAi,
    /// Google's Gemini API.
    Gemini,
}

impl Provider {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 3] = [Self::Anthropic, Self::OpenAi, Self::Gemini];

    /// The lower-case name in metadata, logs and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Identifies an organization or a profile: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label(String);

impl Label {
    pub(crate) const LENGTH_MAX: usize = 128;

    /// Takes `text` if it is in the alphabet and of a fitting length.
    pub(crate) fn new(text: String) -> Option<Self> {
        let fits = (1..=Self::LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b));
        fits.then_some(Self(text))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A provider's API key in the clear. Wiped on drop.
///
/// Call [`KeyMaterial::expose`] only in the expression that needs the text.
pub(crate) struct KeyMaterial(SecretString);

impl KeyMaterial {
    pub(crate) fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMaterial(..)")
    }
}

/// The step of the vault's resolution that chose a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Profile,
    OrganizationDefault,
    Environment,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::OrganizationDefault => "organization_default",
            Self::Environment => "environment",
        }
    }
}

/// Who chats with which model, about what.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) organization: Label,
    pub(crate) profile: Option<Label>,
    /// As the caller wrote it, trimmed.
    pub(crate) model: String,
    pub(crate) chat: Chat,
}

/// A conversation and how to continue it.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    /// Empty is none.
    pub(crate) system: String,
    /// Not empty. Oldest first.
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: Option<ToolChoice>,
    pub(crate) parallel_tool_calls: Option<bool>,
    pub(crate) max_output_tokens: Option<u32>,
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<u32>,
    pub(crate) stop_sequences: Vec<String>,
    pub(crate) seed: Option<i64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) frequency_penalty: Option<f64>,
}

/// One turn. Never without parts; every tool result answers a call of an earlier
/// assistant turn.
#[derive(Debug)]
pub(crate) enum Message {
    User(Vec<UserPart>),
    Assistant(Vec<AssistantPart>),
    Tool(Vec<ToolResult>),
}

#[derive(Debug)]
pub(crate) enum UserPart {
    Text(String),
    Image(Image),
}

#[derive(Debug)]
pub(crate) enum AssistantPart {
    Text(String),
    ToolCall(ToolCall),
}

#[derive(Debug)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Valid JSON text: an object.
    pub(crate) arguments: String,
}

#[derive(Debug)]
pub(crate) struct ToolResult {
    pub(crate) call_id: String,
    /// The name of the call that `call_id` identifies.
    pub(crate) name: String,
    pub(crate) content: Vec<UserPart>,
    pub(crate) is_error: bool,
}

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) source: ImageSource,
    /// Never empty beside [`ImageSource::Data`].
    pub(crate) media_type: String,
}

#[derive(Debug)]
pub(crate) enum ImageSource {
    Data(Vec<u8>),
    Url(String),
}

#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Valid JSON text: an object. Empty is a tool without parameters.
    pub(crate) parameters: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    Auto,
    None,
    Required,
    Tool(String),
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// Not empty, whole characters.
    Text(String),
    /// Not empty, whole characters.
    Refusal(String),
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
    /// Replaces every earlier report.
    Usage(Usage),
    /// Last, once.
    Finished(Finish),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FinishedCall {
    pub(crate) index: u32,
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON text, `{}` if there are none; raw fragments if incomplete.
    pub(crate) arguments: String,
    /// The answer ended inside the call.
    pub(crate) incomplete: bool,
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
