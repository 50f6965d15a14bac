//! A chat as plain data: what is asked, and what is answered.
//!
//! The same for all providers. Nothing here knows a transport or a wire format;
//! values of these types are checked already (`rpc/convert.rs`).

mod answer;
mod conversation;

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

pub use crate::provider::Name as Provider;
pub(crate) use answer::{
    Citation, CitationKind, Event, Finish, FinishReason, FinishedCall, ProviderEvent, ReasoningDelta, Started, Usage,
};
pub(crate) use conversation::{
    Amount, AssistantPart, Audio, CacheControl, Chat, Document, Effort, FileSource, Function, Image, Message,
    OpenAiApi, Part, ProviderPart, Reasoning, ResponseFormat, Schema, Summary, Thinking, Tool, ToolCall, ToolChoice,
    ToolResult, UserPart,
};

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
    /// Whom to ask in its place if it cannot answer, in this order.
    pub(crate) fallback_models: Vec<String>,
    /// Whether the answer is read to its end for a caller who has left.
    pub(crate) drains: bool,
    pub(crate) chat: Chat,
}
