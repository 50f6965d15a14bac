//! Why a chat was not answered, or not to its end.

use std::sync::Arc;

use super::rules::Rule;
use crate::{
    message::{Provider, Source, Usage},
    upstream::Fault,
    vault_client::KeyError,
};

/// Why a chat failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No rule leads from the model to a provider.
    #[error("model {model:?} is unknown")]
    ModelUnknown { model: String, why: String },
    /// The model is a provider's and does not chat.
    #[error("model {model:?} does not chat")]
    ModelUnsupported { model: String, provider: Provider },
    /// The provider does not have this parameter.
    #[error("{field} is not available")]
    Unsupported { field: String, problem: String },
    /// The vault did not give a key.
    #[error("no key for the chat")]
    Key(#[from] Arc<KeyError>),
    /// As many chats are answered as there may be at once.
    #[error("{limit} chats are being answered")]
    Overloaded { limit: usize },
    /// The models that were asked after the first did not answer either.
    #[error("{first}")]
    NoneAnswered {
        first: Box<Error>,
        /// The others, and why they did not.
        others: Vec<(String, Error)>,
    },
    /// The gateway stopped before the answer had begun.
    #[error("the gateway stops")]
    Stopping,
    /// The answer ended without a word. Unreachable as long as nothing panics.
    #[error("the answer ended without a word")]
    Ended,
    /// The provider did not begin to answer.
    #[error("the provider did not answer")]
    Upstream {
        attempt: Box<Attempt>,
        #[source]
        fault: Fault,
    },
    /// The answer broke off after it had begun: a repeat is billed again.
    #[error("the answer broke off")]
    Truncated {
        attempt: Box<Attempt>,
        #[source]
        fault: Fault,
        usage: Option<Usage>,
    },
    /// The answer does not fit in one message.
    #[error("the answer is larger than {limit} bytes")]
    AnswerTooLarge { limit: usize },
}

/// What was tried: for the caller's error and the operator's log.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) provider: Provider,
    pub(crate) model: String,
    /// Empty for the environment's key.
    pub(crate) api_key_id: String,
    pub(crate) source: Source,
    /// The provider's id of the request. Empty if it gave none.
    pub(crate) request_id: String,
    /// How many requests the chat has sent to providers.
    pub(crate) count: u32,
}

impl Error {
    /// Adds that another model did not answer either. What it says does not hide the first.
    pub(super) fn and(self, model: String, error: Self) -> Self {
        match self {
            Self::NoneAnswered { first, mut others } => {
                others.push((model, error));
                Self::NoneAnswered { first, others }
            }
            first => Self::NoneAnswered { first: Box::new(first), others: vec![(model, error)] },
        }
    }

    /// Says how many requests the chat has sent to providers.
    pub(super) fn after(mut self, attempts: u32) -> Self {
        let first = if let Self::NoneAnswered { first, .. } = &mut self { first } else { &mut self };
        if let Self::Upstream { attempt, .. } = first {
            attempt.count = attempts;
        }
        self
    }

    /// Whether the next model may do better. Not if the request itself is at fault, or its
    /// time is over.
    pub(super) fn is_for_the_next_model(&self) -> bool {
        match self {
            Self::Upstream { fault, .. } => Rule::for_fault(fault).falls_back,
            Self::Key(_) => true,
            _ => false,
        }
    }

    /// Names the fallback that cannot take the request.
    pub(super) fn of_fallback(self, n: usize, model: &str) -> Self {
        match self {
            Self::Unsupported { field, problem } => {
                Self::Unsupported { field, problem: format!("fallback_models[{n}] ({model}): {problem}") }
            }
            other => other,
        }
    }
}
