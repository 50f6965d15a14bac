//! Why a chat was not answered, or not to its end.

use std::sync::Arc;

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
}
