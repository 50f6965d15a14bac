//! Why a chat was not answered, or not to its end.

use std::{error::Error as StdError, time::Duration};

use crate::{
    message::{Provider, Source, Usage},
    provider::Rejection,
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
    Key(#[from] KeyError),
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

/// Why the vault gave no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// No step of the resolution has a key.
    #[error("no {provider} key is configured")]
    NotConfigured { provider: Provider, says: String },
    /// The key that decides cannot be used.
    #[error("key {api_key_id} cannot be used")]
    Unusable { provider: Provider, api_key_id: String, source_step: String, cause: String, says: String },
    /// The deadline passed before the vault answered.
    #[error("no key by the deadline")]
    Deadline,
    /// The vault does not answer, or not in a way we understand.
    #[error("the key-vault is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// The vault's database does not answer.
    #[error("the key-vault's store is unavailable")]
    StoreUnavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// The vault cannot open keys.
    #[error("the key-vault is sealed")]
    Sealed(#[source] Box<dyn StdError + Send + Sync>),
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

/// What went wrong between the gateway and a provider.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The provider refused. Its words are scrubbed of the key.
    #[error("the provider refused with status {status}: {}", rejection.code)]
    Rejected { status: u16, rejection: Rejection },
    /// No connection, or it broke.
    #[error("the provider cannot be reached")]
    Unreachable(#[source] Box<dyn StdError + Send + Sync>),
    /// It hung up before the answer was whole.
    #[error("the provider ended its answer early")]
    EndedEarly,
    /// It sent what cannot be read.
    #[error("the provider sent what cannot be read: {0}")]
    Malformed(&'static str),
    /// It answered with something else than a stream of events.
    #[error("the provider answered with status {status} and {content_type:?} instead of an event stream")]
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
    /// The key cannot stand in a header.
    #[error("the key cannot be sent")]
    KeyNotSendable,
}
