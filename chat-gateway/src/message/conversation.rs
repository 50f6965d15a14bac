//! What is asked: a conversation, and how to continue it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Provider;

/// A conversation and how to continue it.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    /// Empty is none.
    pub(crate) system: String,
    pub(crate) system_cache: Option<CacheControl>,
    /// Not empty. Oldest first.
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<Part<Tool>>,
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
    pub(crate) response_format: Option<ResponseFormat>,
    pub(crate) thinking: Option<Thinking>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Merged into the body as it is sent. Empty is none.
    pub(crate) provider_options: Map<String, Value>,
    /// Of the whole request.
    pub(crate) cache: Option<CacheControl>,
    pub(crate) openai_api: Option<OpenAiApi>,
}

/// One turn. Never without parts; every tool result answers a call of an earlier
/// assistant turn.
#[derive(Debug)]
pub(crate) enum Message {
    User(Vec<Part<UserPart>>),
    Assistant(Vec<Part<AssistantPart>>),
    Tool(Vec<Part<ToolResult>>),
}

/// A thing up to which the provider may be told to cache.
#[derive(Debug)]
pub(crate) struct Part<T> {
    pub(crate) content: T,
    pub(crate) cache: Option<CacheControl>,
}

impl<T> From<T> for Part<T> {
    fn from(content: T) -> Self {
        Self { content, cache: None }
    }
}

/// How long a provider caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheControl {
    /// As long as the provider does unless told otherwise.
    Usual,
    FiveMinutes,
    OneHour,
}

#[derive(Debug)]
pub(crate) enum UserPart {
    Text(String),
    Image(Image),
    Document(Document),
    Audio(Audio),
    Provider(ProviderPart),
}

#[derive(Debug)]
pub(crate) enum AssistantPart {
    /// The text may be empty beside a signature, which is empty if there is none.
    Text {
        text: String,
        signature: String,
    },
    Reasoning(Reasoning),
    ToolCall(ToolCall),
    Refusal(String),
    Provider(ProviderPart),
}

/// What a model thought. Not empty; an empty field is none.
#[derive(Debug, Default)]
pub(crate) struct Reasoning {
    /// Who made it. `None` is whoever is asked.
    pub(crate) provider: Option<Provider>,
    pub(crate) text: String,
    pub(crate) signature: String,
    pub(crate) redacted_data: String,
    pub(crate) id: String,
}

impl Reasoning {
    /// Whether it means something to `provider`.
    pub(crate) fn is_of(&self, provider: Provider) -> bool {
        self.provider.is_none_or(|own| own == provider)
    }
}

#[derive(Debug)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Valid JSON text: an object.
    pub(crate) arguments: String,
    /// Empty is none.
    pub(crate) signature: String,
}

#[derive(Debug)]
pub(crate) struct ToolResult {
    pub(crate) call_id: String,
    /// The name of the call that `call_id` identifies.
    pub(crate) name: String,
    pub(crate) content: Vec<Part<UserPart>>,
    pub(crate) is_error: bool,
}

/// A part in a provider's own form.
#[derive(Debug)]
pub(crate) struct ProviderPart {
    pub(crate) provider: Provider,
    /// Valid JSON text: an object.
    pub(crate) json: String,
}

/// Where the bytes of a file are.
#[derive(Debug)]
pub(crate) enum FileSource {
    Data(Bytes),
    Url(String),
    /// Uploaded to the provider before.
    FileId(String),
}

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) source: FileSource,
    /// Never empty beside [`FileSource::Data`].
    pub(crate) media_type: String,
    /// Empty, `auto`, `low` or `high`.
    pub(crate) detail: String,
}

#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) source: FileSource,
    /// Never empty beside [`FileSource::Data`].
    pub(crate) media_type: String,
    /// Empty is none.
    pub(crate) title: String,
    /// Empty is none.
    pub(crate) context: String,
    pub(crate) citations: bool,
}

#[derive(Debug)]
pub(crate) struct Audio {
    pub(crate) data: Bytes,
    pub(crate) media_type: String,
}

#[derive(Debug)]
pub(crate) enum Tool {
    Function(Function),
    /// One that the provider runs, in its own form: valid JSON text, an object.
    Provider(String),
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Empty is none.
    pub(crate) description: String,
    /// Valid JSON text: an object. Empty is a tool without parameters.
    pub(crate) parameters: String,
    pub(crate) strict: Option<bool>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    Auto,
    None,
    Required,
    /// A function of the tools.
    Tool(String),
}

/// The form of an answer.
#[derive(Debug)]
pub(crate) enum ResponseFormat {
    Text,
    Json,
    Schema(Schema),
}

#[derive(Debug)]
pub(crate) struct Schema {
    /// Valid JSON text: an object.
    pub(crate) json: String,
    /// Empty is none.
    pub(crate) name: String,
    /// Empty is none.
    pub(crate) description: String,
    pub(crate) strict: Option<bool>,
}

/// How much a model thinks, and what it shows of it. `None` is the provider's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Thinking {
    pub(crate) amount: Option<Amount>,
    pub(crate) summary: Option<Summary>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Effort(Effort),
    /// At least 1.
    Tokens(u32),
    /// As many tokens as the model likes.
    AnyTokens,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    /// The word that all providers use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Summary {
    None,
    Auto,
    Concise,
    Detailed,
}

/// An API of OpenAI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenAiApi {
    ChatCompletions,
    Responses,
}
