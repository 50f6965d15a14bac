//! Why an operation of the vault did not happen.

use uuid::Uuid;

use crate::{
    fallback_policy::Policies,
    key::{KeyId, Provider, Source},
    limits::Exceeded,
    seal::{self, secrets_manager},
    store,
};

/// Why an operation did not happen. After any of these nothing of it has, but for
/// [`store::Error::CommitUnknown`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The organization has no such key.
    #[error("key {id} does not exist")]
    KeyNotFound { id: KeyId },
    /// A disabled key cannot get links.
    #[error("key {id} is disabled")]
    Disabled { id: KeyId, provider: Provider },
    /// The step that decides has a key that cannot be used.
    #[error("key {id} cannot be used")]
    Unusable { id: KeyId, provider: Provider, source_step: Source, cause: Unusable },
    /// The kept previous material of a key does not open.
    #[error("the previous version of key {id} does not open")]
    PreviousUnusable { id: KeyId, provider: Provider, cause: seal::Error },
    /// Nothing is kept of what a key was before.
    #[error("no previous version of key {id} is kept")]
    NoPrevious { id: KeyId },
    /// No step that may be taken has a key: an administrator must add one.
    #[error("no {provider} key is configured")]
    NoKey {
        provider: Provider,
        /// The environment has one, and not for this organization.
        environment_withheld: bool,
        /// What forbids steps.
        policies: Policies,
    },
    /// One key would have too many profiles.
    #[error("key {id} would have more than {} profiles", super::PROFILES_MAX)]
    TooManyProfiles { id: KeyId },
    /// A profile cannot have two keys of one provider.
    #[error("two of the keys are of {provider}")]
    SameProvider { provider: Provider },
    /// The id was used for another request.
    #[error("request id {id} was used for another request")]
    RequestIdReused { id: Uuid },
    /// The key is not what the caller read.
    #[error("key {id} has changed")]
    EtagMismatch {
        id: KeyId,
        /// The current one.
        etag: String,
    },
    /// The changes that a watcher asks for are not kept, or are of another history.
    #[error("the history before revision {revision} of epoch {epoch} is gone")]
    Compacted { revision: i64, epoch: Uuid },
    /// The caller asks for too much.
    #[error("the limit of {} {} is reached", .0.limit, .0.of)]
    Limited(Exceeded),
    /// This replica serves as many watchers as it may.
    #[error("{} watchers are served already", super::watch::WATCHERS_MAX)]
    TooManyWatchers,
    /// This replica stops.
    #[error("the replica stops")]
    Stopping,
    /// Safe to retry, here or at another replica.
    #[error("the vault is sealed: {reason}")]
    Sealed { reason: String },
    /// Safe to retry: nothing was done and no key was released.
    #[error("what was asked could not be recorded: {cause}")]
    NotRecorded { cause: &'static str },
    /// Safe to retry.
    #[error("the key store is unavailable")]
    Store(#[from] store::Error),
    /// Nothing can be sealed now; an operator must look.
    #[error("the vault cannot seal")]
    CannotSeal(#[source] seal::Error),
    /// The key encryption key has done all it may.
    #[error("key encryption key {kek_id} is used up: rotate it")]
    KekUsedUp { kek_id: String },
    /// Something that only the operator asks for.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl Error {
    /// The reason that is recorded of a resolution that failed for what the keys are. `None` for
    /// what is not about the keys.
    pub(super) fn decided(&self) -> Option<&'static str> {
        match self {
            Self::NoKey { .. } => Some("NO_KEY_CONFIGURED"),
            Self::Unusable { .. } => Some("KEY_UNUSABLE"),
            _ => None,
        }
    }
}

/// Why an operation on the key encryption keys did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    /// A live replica could not open what the new key encryption key seals.
    #[error("{} live replicas do not know key encryption key {kek_id}", replicas.len())]
    KekNotDistributed { kek_id: String, replicas: Vec<Uuid> },
    /// There is nothing to promote.
    #[error("no key encryption key waits to be promoted")]
    NoPendingKek,
    /// The secrets manager did not do its work.
    #[error("the secrets manager {kind:?} failed")]
    Manager { kind: String, source: secrets_manager::Error },
    /// A live replica could not start again.
    #[error("{} live replicas do not have the secrets manager {kind:?}", replicas.len())]
    ManagerNotEverywhere { kind: &'static str, replicas: Vec<Uuid> },
}

/// Why a key cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    Disabled,
    Undecryptable(seal::Error),
}
