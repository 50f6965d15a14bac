//! How each error looks to a caller: the whole policy on one screen.
#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use proto::{KEYVAULT_ERROR_DOMAIN, keyvault::ErrorReason as Reason};
use service_runtime::{
    failure::{Code, Failure},
    peer,
};

use super::{Error, REQUEST_BYTES_MAX};
use crate::{
    store,
    vault::{self, Unusable},
};

/// How long a caller should wait for a database that failed over or was restarted.
const STORE_RETRY: Duration = Duration::from_secs(1);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoPeer => peer::unauthenticated(KEYVAULT_ERROR_DOMAIN, Reason::CallerUnauthenticated.wire_name()),
            Error::Invalid(invalid) => invalid.failure(KEYVAULT_ERROR_DOMAIN, Reason::InvalidField.wire_name()),
            Error::Vault(error) => of_vault(error),
        }
    }
}

fn of_vault(error: vault::Error) -> Failure {
    use vault::Error as E;
    match error {
        E::KeyNotFound { id } => failure(Code::NotFound, Reason::KeyNotFound)
            .says(format!("Key {id} does not exist in this organization."))
            .with("api_key_id", id),
        E::Disabled { id, provider } => failure(Code::FailedPrecondition, Reason::KeyUnusable)
            .says(format!("Key {id} is disabled. Enable it first, or link another key."))
            .with("api_key_id", id)
            .with("provider", provider)
            .with("cause", "disabled"),
        E::Unusable { id, provider, source_step, cause } => {
            let failure = failure(Code::FailedPrecondition, Reason::KeyUnusable)
                .with("api_key_id", id)
                .with("provider", provider)
                .with("source", source_step.name());
            match cause {
                Unusable::Disabled => failure.with("cause", "disabled").says(format!(
                    "Key {id} is disabled, and no other key is used in its place. Enable it, or take its link away."
                )),
                Unusable::Undecryptable(cause) => failure
                    .with("cause", "undecryptable")
                    .says(format!(
                        "Key {id} cannot be opened, and no other key is used in its place. Rotate it, or ask the operator."
                    ))
                    .caused_by(cause),
            }
        }
        E::NoKey { provider, environment_withheld } => {
            let variable = provider.environment_variable();
            let environment = if environment_withheld {
                format!("have the operator let this organization use {variable}")
            } else {
                format!("set {variable} in the vault")
            };
            failure(Code::FailedPrecondition, Reason::NoKeyConfigured)
                .says(format!(
                    "No {provider} key is configured. Assign one to the profile, set a default for the organization, \
                     or {environment}."
                ))
                .with("provider", provider)
                .with("variable", variable)
        }
        E::TooManyProfiles { id } => failure(Code::InvalidArgument, Reason::InvalidField)
            .says(format!("Key {id} would have more than {} profiles.", vault::PROFILES_MAX))
            .with("api_key_id", id)
            .field("profile_ids", format!("a key has at most {} profiles", vault::PROFILES_MAX)),
        E::SameProvider { provider } => failure(Code::InvalidArgument, Reason::InvalidField)
            .says(format!("Two of the keys are of {provider}; a profile has one key per provider."))
            .with("provider", provider)
            .field("api_key_ids", format!("two keys of {provider}")),
        E::Store(source @ store::Error::CommitUnknown(_)) => failure(Code::Unavailable, Reason::StoreUnavailable)
            .says(
                "The key store was lost while it committed: the change has happened whole or not at all. Repeat the \
                 call with the same request_id, and it happens once.",
            )
            .with("outcome", "unknown")
            .retry_after(STORE_RETRY)
            .caused_by(source),
        E::Store(source) => failure(Code::Unavailable, Reason::StoreUnavailable)
            .says("The key store is unavailable. Try again.")
            .retry_after(STORE_RETRY)
            .caused_by(source),
        E::CannotSeal(source) => sealed().caused_by(source),
        E::KekUsedUp { .. } => sealed().caused_by(error),
    }
}

/// The failure of a request that is larger than the vault reads.
pub(super) fn too_large() -> Failure {
    failure(Code::ResourceExhausted, Reason::RequestTooLarge)
        .says(format!("The request is larger than {REQUEST_BYTES_MAX} bytes."))
        .with("limit", REQUEST_BYTES_MAX)
}

fn sealed() -> Failure {
    failure(Code::Unavailable, Reason::VaultSealed).says("The vault cannot seal keys now. The operator must look.")
}

fn failure(code: Code, reason: Reason) -> Failure {
    Failure::new(code, KEYVAULT_ERROR_DOMAIN, reason.wire_name())
}
