//! An answer as a caller saw it, and a failure as a caller reads it.

use std::collections::HashMap;

use proto::{
    USAGE_TRAILER,
    chat::{
        ContentPart, Finished, Message, Started, StreamChatRequest, StreamChatResponse, TextPart, ToolCallFinished,
        content_part::Part, message::Role, stream_chat_response::Event,
    },
};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

/// What came of a streamed chat.
#[derive(Debug, Default)]
pub struct Answer {
    /// The first event.
    pub started: Option<Started>,
    /// All text.
    pub text: String,
    /// All text of a refusal.
    pub refusal: String,
    /// All calls that finished.
    pub calls: Vec<ToolCallFinished>,
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
    /// `started` first, one `finished` last, deltas that add up to what finishes.
    pub async fn read(outcome: Result<tonic::Response<Streaming<StreamChatResponse>>, Status>) -> Self {
        let mut answer = Self::default();
        let mut events = match outcome {
            Ok(response) => response.into_inner(),
            Err(status) => {
                answer.failure = Some(status.into());
                return answer;
            }
        };
        let mut arguments: HashMap<i32, String> = HashMap::new();
        loop {
            match events.message().await {
                Ok(Some(response)) => answer.add(response.event.expect("an event is set"), &mut arguments),
                Ok(None) => break,
                Err(status) => {
                    assert!(answer.finished.is_none(), "nothing fails after `finished`");
                    answer.failure = Some(status.into());
                    break;
                }
            }
        }
        assert!(
            answer.finished.is_some() != answer.failure.is_some(),
            "a stream ends with `finished` or with a status: {answer:?}"
        );
        answer
    }

    fn add(&mut self, event: Event, arguments: &mut HashMap<i32, String>) {
        assert!(self.finished.is_none(), "nothing comes after `finished`");
        assert_eq!(self.started.is_none(), matches!(event, Event::Started(_)), "`started` comes first, once");
        self.events += 1;
        match event {
            Event::Started(started) => self.started = Some(started),
            Event::TextDelta(delta) => {
                assert!(!delta.text.is_empty() || !delta.signature.is_empty(), "a delta is not empty");
                self.text.push_str(&delta.text);
            }
            Event::RefusalDelta(delta) => self.refusal.push_str(&delta.text),
            Event::ToolCallStarted(call) => {
                assert!(!call.id.is_empty(), "a call has an id");
                assert!(arguments.insert(call.index, String::new()).is_none(), "a call starts once");
            }
            Event::ToolCallDelta(delta) => {
                arguments.get_mut(&delta.index).expect("a delta is of a call that started").push_str(&delta.arguments);
            }
            Event::ToolCallFinished(call) => {
                let joined = arguments.get(&call.index).expect("a call that finishes has started");
                assert!(call.arguments == *joined || (joined.is_empty() && call.arguments == "{}"), "deltas add up");
                self.calls.push(call);
            }
            Event::ReasoningDelta(_) | Event::Citation(_) | Event::ProviderEvent(_) | Event::Usage(_) => {}
            Event::Finished(finished) => self.finished = Some(finished),
        }
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
