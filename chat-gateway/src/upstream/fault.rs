//! What goes wrong between the gateway and a provider, and of which class it is.
#![deny(clippy::wildcard_enum_match_arm)]

use std::{error::Error, time::Duration};

use crate::{
    provider::{Rejection, RejectionKind},
    usage::Outcome,
};

/// What went wrong between the gateway and a provider.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The provider refused. Its words are scrubbed of the key.
    #[error("the provider refused with status {status}: {}", rejection.code)]
    Rejected { status: u16, rejection: Rejection },
    /// No connection, or it broke.
    #[error("the provider cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// It hung up before the answer was whole.
    #[error("the provider ended its answer early")]
    EndedEarly,
    /// It sent what cannot be read.
    #[error("the provider sent what cannot be read: {0}")]
    Malformed(&'static str),
    /// It answered with something else than a stream of events, or than a list of models.
    #[error("the provider answered with status {status} and {content_type:?} instead of what was asked for")]
    NotAStream { status: u16, content_type: String },
    /// No output in time.
    #[error("no output within {} s", .0.as_secs())]
    FirstEventTimeout(Duration),
    /// Silence in the middle.
    #[error("no sign of life for {} s", .0.as_secs())]
    IdleTimeout(Duration),
    /// The whole took too long.
    #[error("not finished by the deadline")]
    TotalTimeout,
    /// We stop, and waited as long as we may.
    #[error("not finished before the gateway stopped")]
    Stopping,
    /// The key cannot stand in a header.
    #[error("the key cannot be sent")]
    KeyNotSendable,
    /// It was not asked: it failed too often in a row with this.
    #[error("not asked after too many faults in a row: {class:?}")]
    CircuitOpen {
        class: Class,
        /// When it may be asked again.
        wait: Duration,
        /// Whether it is the provider that failed, or else the key.
        of_provider: bool,
    },
}

impl Fault {
    /// What a call comes to that fails so before the first output.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Rejected { rejection, .. } => rejection.into(),
            Self::NotAStream { .. } => Outcome::Failed,
            // It had begun to answer, or took its time: it may bill.
            Self::Unreachable(_)
            | Self::EndedEarly
            | Self::Malformed(_)
            | Self::FirstEventTimeout(_)
            | Self::IdleTimeout(_)
            | Self::TotalTimeout
            | Self::Stopping
            | Self::KeyNotSendable
            | Self::CircuitOpen { .. } => Outcome::Partial,
        }
    }

    /// How long to wait before the same is asked again, if that is known.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rejected { rejection, .. } => rejection.retry_after,
            Self::CircuitOpen { wait, .. } => Some(*wait),
            Self::Unreachable(_)
            | Self::EndedEarly
            | Self::Malformed(_)
            | Self::NotAStream { .. }
            | Self::FirstEventTimeout(_)
            | Self::IdleTimeout(_)
            | Self::TotalTimeout
            | Self::Stopping
            | Self::KeyNotSendable => None,
        }
    }

    /// In spans: the status of a provider that refused, or else the class.
    pub(crate) fn error_type(&self) -> String {
        if let Self::Rejected { status, .. } = self
            && *status >= 400
        {
            return status.to_string();
        }
        self.class().name().to_owned()
    }

    /// Which class the fault is of.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Rejected { rejection, .. } => match rejection.kind {
                RejectionKind::InvalidRequest => Class::InvalidRequest,
                RejectionKind::ContextLength => Class::ContextLength,
                RejectionKind::ModelNotFound => Class::ModelNotFound,
                RejectionKind::Key => Class::Key,
                RejectionKind::Permission => Class::Permission,
                RejectionKind::Quota => Class::Quota,
                RejectionKind::RateLimited => Class::RateLimited,
                RejectionKind::Overloaded => Class::Overloaded,
                RejectionKind::Internal => Class::Internal,
                RejectionKind::Timeout => Class::Timeout,
            },
            Self::Unreachable(_) => Class::Unreachable,
            Self::EndedEarly => Class::Cut,
            Self::Malformed(_) | Self::NotAStream { .. } => Class::Unreadable,
            Self::FirstEventTimeout(_) => Class::Slow,
            Self::IdleTimeout(_) => Class::Silent,
            Self::TotalTimeout => Class::Deadline,
            Self::Stopping => Class::Stopping,
            Self::KeyNotSendable => Class::Key,
            // Nothing ran out of time here: nothing was sent.
            Self::CircuitOpen { class: Class::Slow, .. } => Class::Timeout,
            Self::CircuitOpen { class, .. } => *class,
        }
    }
}

/// What a fault is, in the order of whose it is: the caller's, the key's, its quota's, the
/// model's, the provider's, nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The request cannot succeed as it is. Refused content is one.
    InvalidRequest,
    /// The conversation is too long for the model.
    ContextLength,
    /// The key is not valid.
    Key,
    /// The key may not do this.
    Permission,
    /// No credit or quota left.
    Quota,
    /// Too much for now.
    RateLimited,
    /// No such model, or not for this key.
    ModelNotFound,
    /// The provider is overloaded.
    Overloaded,
    /// The provider failed.
    Internal,
    /// It answered what cannot be read: it, or what stands before it, is not what we take it
    /// for. The answer was made, and is billed.
    Unreadable,
    /// The provider gave up waiting.
    Timeout,
    /// No connection, or it broke.
    Unreachable,
    /// It hung up in an orderly way, and too early.
    Cut,
    /// No headers or no output in time.
    Slow,
    /// Silence in the middle. Only after the commit point.
    Silent,
    /// The time for the whole is over.
    Deadline,
    /// The gateway stops.
    Stopping,
}

impl Class {
    /// In spans and measurements.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::ContextLength => "context_length",
            Self::Key => "key",
            Self::Permission => "permission",
            Self::Quota => "quota",
            Self::RateLimited => "rate_limited",
            Self::ModelNotFound => "model_not_found",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
            Self::Unreadable => "unreadable",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Cut => "cut",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::Deadline => "deadline",
            Self::Stopping => "stopping",
        }
    }
}
