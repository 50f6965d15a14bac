//! Why an operation of the vault did not happen.

use crate::{
    key::{KeyId, Provider, Source},
    seal, store,
};

/// Why an operation did not happen. After any of these nothing of it has, except that
/// [`store::Error::CommitUnknown`] leaves it open.
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
    /// No step has a key: an administrator must add one.
    #[error("no {provider} key is configured")]
    NoKey {
        provider: Provider,
        /// The environment has one, and not for this organization.
        environment_withheld: bool,
    },
    /// One key would have too many profiles.
    #[error("key {id} would have more than {} profiles", super::PROFILES_MAX)]
    TooManyProfiles { id: KeyId },
    /// A profile cannot have two keys of one provider.
    #[error("two of the keys are of {provider}")]
    SameProvider { provider: Provider },
    /// Safe to retry with the same request id.
    #[error("the key store is unavailable")]
    Store(#[from] store::Error),
    /// Nothing can be sealed now; an operator must look.
    #[error("the vault cannot seal")]
    CannotSeal(#[source] seal::Error),
    /// The key encryption key has done all it may.
    #[error("key encryption key {kek_id} is used up or gone")]
    KekUsedUp { kek_id: String },
}

/// Why a key cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    Disabled,
    Undecryptable(seal::Error),
}
