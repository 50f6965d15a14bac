//! The wire form of a failed RPC: code, reason, public text, and what to do.
//!
//! Each service maps its errors to a [`Failure`] in its own `rpc/failure.rs`; this is
//! the only place that makes a [`Status`] of one. A failure has two texts, kept apart
//! by type: what the caller reads, and the cause, which is logged here once and never
//! sent.
//!
//! The details follow <https://google.aip.dev/193>: `ErrorInfo` always, `BadRequest`
//! for fields, `RetryInfo` when waiting helps, `RequestInfo` with the trace id.

use std::{collections::HashMap, error::Error, fmt, time::Duration};

use tonic::{
    Status,
    metadata::{BinaryMetadataValue, MetadataMap},
};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::{error, warn};

use crate::telemetry;

pub use tonic::Code;

/// Limits of what a status carries. Its text travels percent-encoded, up to three bytes
/// for one, beside details that have it in base64, and gRPC clients read 8 KiB of trailers:
/// beyond that they report an error of their own in place of ours.
const TEXT_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 200;
const FIELDS_MAX: usize = 10;

/// A failed RPC, before it is sent.
///
/// Has no `Display`: the cause must not reach a caller by accident.
pub struct Failure {
    code: Code,
    domain: &'static str,
    reason: &'static str,
    text: String,
    metadata: HashMap<String, String>,
    fields: Vec<(String, String)>,
    retry_after: Option<Duration>,
    trailer: Option<(&'static str, Vec<u8>)>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure with a reason of the vocabulary that `domain` names.
    pub fn new(code: Code, domain: &'static str, reason: &'static str) -> Self {
        Self {
            code,
            domain,
            reason,
            text: String::new(),
            metadata: HashMap::new(),
            fields: Vec::new(),
            retry_after: None,
            trailer: None,
            cause: None,
        }
    }

    /// The machine-readable reason.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// A value that it carries.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str)
    }

    /// What the caller reads: what is wrong and what to do about it. Cut at 1 KiB.
    #[must_use]
    pub fn says(mut self, text: impl Into<String>) -> Self {
        self.text = cut(text.into(), TEXT_BYTES_MAX);
        self
    }

    /// Adds a sentence to what the caller reads.
    #[must_use]
    pub fn adds(self, text: &str) -> Self {
        let says = format!("{}{text}", self.text);
        self.says(says)
    }

    /// Adds a value to `ErrorInfo.metadata`: each that the text mentions.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.metadata.insert(name.to_owned(), cut(value.to_string(), VALUE_BYTES_MAX));
        self
    }

    /// Adds a field to the `BadRequest` detail. No more than ten are kept.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, problem: impl Into<String>) -> Self {
        if self.fields.len() < FIELDS_MAX {
            self.fields.push((cut(path.into(), VALUE_BYTES_MAX), cut(problem.into(), VALUE_BYTES_MAX)));
        }
        self
    }

    /// Tells the caller how long to wait.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds a binary trailer. `name` ends in `-bin`.
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: Vec<u8>) -> Self {
        self.trailer = Some((name, value));
        self
    }

    /// Keeps the cause for the log. It is never sent.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The reason and what the caller reads, to be said inside an answer: of a part that failed
    /// beside others that did not. Records the cause, as a status would.
    pub fn told(self) -> (&'static str, String) {
        if let Some(cause) = &self.cause {
            warn!(reason = self.reason, error = %Chain(cause.as_ref()), "a part of an RPC failed");
        }
        (self.reason, self.text)
    }

    fn log(&self) {
        // What a caller can mend is not an error of ours.
        if let Some(cause) = &self.cause {
            error!(reason = self.reason, error = %Chain(cause.as_ref()), "RPC failed");
        }
    }

    fn details(&self) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.reason, self.domain, self.metadata.clone());
        for (path, problem) in &self.fields {
            details.add_bad_request_violation(path.clone(), problem.clone());
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        if let Some(trace_id) = telemetry::current_trace_id() {
            details.set_request_info(trace_id, "");
        }
        details
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("code", &self.code).field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl From<Failure> for Status {
    /// The last step of a failed RPC: records the cause, sends the public text.
    fn from(failure: Failure) -> Self {
        failure.log();
        let mut metadata = MetadataMap::new();
        if let Some((name, value)) = &failure.trailer {
            metadata.insert_bin(*name, BinaryMetadataValue::from_bytes(value));
        }
        let details = failure.details();
        Status::with_error_details_and_metadata(failure.code, failure.text, details, metadata)
    }
}

/// The beginning of a text, whole characters of it.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// Prints an error with its sources, outermost first.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_fits_the_trailers_that_clients_read() {
        let long = "語".repeat(5_000);
        let mut failure = Failure::new(Code::InvalidArgument, "test.archestra", "INVALID_FIELD").says(&long);
        for n in 0..10 {
            failure = failure.with(&format!("name{n}"), &long);
        }
        for _ in 0..1_000 {
            failure = failure.field(&long, &long);
        }
        let response = Status::from(failure).into_http::<()>();
        let bytes: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 16 * 1024, "{bytes}");
        let status = Status::from(Failure::new(Code::Aborted, "test.archestra", "X").says(&long));
        assert!(status.message().ends_with('…') && status.message().len() <= TEXT_BYTES_MAX);
    }

    #[test]
    fn a_failure_becomes_a_status_with_every_detail_and_without_its_cause() {
        let failure = Failure::new(Code::InvalidArgument, "test.archestra", "INVALID_FIELD")
            .says("The name is empty.")
            .with("field", "name")
            .field("name", "must not be empty")
            .retry_after(Duration::from_secs(2))
            .trailer("archestra-usage-bin", vec![1, 2])
            .caused_by("secret internals");

        let status = Status::from(failure);
        let details = status.get_error_details();

        assert_eq!(status.code(), Code::InvalidArgument);
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_FIELD", "test.archestra"));
        assert_eq!(info.metadata["field"], "name");
        assert_eq!(details.bad_request().expect("a BadRequest").field_violations[0].field, "name");
        assert_eq!(details.retry_info().expect("a RetryInfo").retry_delay, Some(Duration::from_secs(2)));
        let trailer = status.metadata().get_bin("archestra-usage-bin").expect("the trailer");
        assert_eq!(trailer.to_bytes().expect("valid base64").as_ref(), [1, 2]);
        assert!(!format!("{status:?}").contains("secret internals"));
    }
}
