//! An answer as a caller saw it, and a failure as a caller reads it.

use std::{collections::HashMap, time::Duration};

use proto::{
    USAGE_TRAILER,
    chat::{
        Citation, ContentPart, Finished, Message, ProviderEvent, ReasoningPart, Started, StreamChatRequest,
        StreamChatResponse, TextPart, ToolCallFinished, Usage, content_part::Part, message::Role,
    },
};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

mod grammar;

/// What came of a streamed chat.
#[derive(Debug, Default)]
pub struct Answer {
    /// The first event.
    pub started: Option<Started>,
    /// All text.
    pub text: String,
    /// All text of a refusal.
    pub refusal: String,
    /// The parts of the answer in the order of their beginnings, as `Chat` returns them.
    pub parts: Vec<Part>,
    /// All calls that finished.
    pub calls: Vec<ToolCallFinished>,
    /// Where the text comes from.
    pub citations: Vec<Citation>,
    /// All that has no common form: parts of the answer, which are also among `parts`, and
    /// what was said beside them.
    pub provider_events: Vec<ProviderEvent>,
    /// The last report of what is used.
    pub usage: Option<Usage>,
    /// The last event.
    pub finished: Option<Finished>,
    /// How many events came.
    pub events: usize,
    /// How it failed, if it did.
    pub failure: Option<Failure>,
}

/// A status, read.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The code.
    pub code: Code,
    /// `ErrorInfo.reason`.
    pub reason: String,
    /// `ErrorInfo.metadata`.
    pub metadata: HashMap<String, String>,
    /// The fields of `BadRequest`.
    pub fields: Vec<String>,
    /// The text.
    pub message: String,
    /// The delay of `RetryInfo`.
    pub retry_after: Option<Duration>,
    /// The trailer with the usage, serialized.
    pub usage: Option<Vec<u8>>,
    /// The trace id of `RequestInfo`.
    pub trace_id: String,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let usage = status.metadata().get_bin(USAGE_TRAILER).and_then(|value| value.to_bytes().ok());
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            fields: details
                .bad_request()
                .map(|bad| bad.field_violations.iter().map(|field| field.field.clone()).collect())
                .unwrap_or_default(),
            message: status.message().to_owned(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            usage: usage.map(|bytes| bytes.to_vec()),
            trace_id: details.request_info().map(|info| info.request_id.clone()).unwrap_or_default(),
        }
    }
}

impl Failure {
    /// Code and reason, as in `docs/errors.md`.
    pub fn class(&self) -> String {
        format!("{:?} {}", self.code, self.reason)
    }

    /// Whether what was asked may have happened all the same: the connection failed and not
    /// the vault, or the vault lost its database while it committed.
    pub fn may_have_happened(&self) -> bool {
        self.reason.is_empty() || self.value("outcome") == "unknown"
    }

    /// A value of the metadata. Empty if there is none.
    pub fn value(&self, name: &str) -> &str {
        self.metadata.get(name).map(String::as_str).unwrap_or_default()
    }
}

impl Answer {
    /// Reads the outcome of a call to its end, and holds the stream to its grammar: one
    /// `started` first, one `finished` last, deltas that add up to what finishes, and what
    /// else the contract says of each event.
    pub async fn read(outcome: Result<tonic::Response<Streaming<StreamChatResponse>>, Status>) -> Self {
        let mut reader = grammar::Reader::default();
        let mut events = match outcome {
            Ok(response) => response.into_inner(),
            Err(status) => return Self { failure: Some(status.into()), ..Self::default() },
        };
        loop {
            match events.message().await {
                Ok(Some(response)) => reader.add(response.event.expect("an event is set")),
                Ok(None) => return reader.ended(None),
                Err(status) => return reader.ended(Some(status.into())),
            }
        }
    }

    /// The blocks of what the model thought.
    pub fn reasoning(&self) -> impl Iterator<Item = &ReasoningPart> {
        self.parts.iter().filter_map(|part| match part {
            Part::Reasoning(block) => Some(block),
            _ => None,
        })
    }

    /// How it failed. Panics if it did not.
    pub fn failed(&self) -> &Failure {
        self.failure.as_ref().unwrap_or_else(|| panic!("it should have failed: {self:?}"))
    }
}

/// A request that says one thing.
pub fn ask(model: &str, profile: Option<&str>, text: &str) -> StreamChatRequest {
    let text = TextPart { text: text.to_owned(), ..TextPart::default() };
    let part = ContentPart { part: Some(Part::Text(text)), ..ContentPart::default() };
    StreamChatRequest {
        organization_id: crate::ORGANIZATION.to_owned(),
        profile_id: profile.map(str::to_owned),
        model: model.to_owned(),
        messages: vec![Message { role: Role::User.into(), parts: vec![part] }],
        ..Default::default()
    }
}
