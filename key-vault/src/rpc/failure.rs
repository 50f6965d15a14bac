//! How each error looks to a caller: the whole policy on one screen.
#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use proto::{KEYVAULT_ERROR_DOMAIN, keyvault::ErrorReason as Reason};
use service_runtime::{
    failure::{Code, Failure},
    identity::Refusal,
    peer,
};
use uuid::Uuid;

use super::{Error, REQUEST_BYTES_MAX};
use crate::{
    fallback_policy::Policies,
    key::{KeyId, Provider, Source},
    limits::Exceeded,
    store,
    vault::{self, OperationError, Unusable, WATCHERS_MAX},
};

/// How long a caller should wait for a database that failed over or was restarted.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Whose fault a reason of the contract is.
pub(super) fn fault_of(reason: &str) -> Option<&'static str> {
    Reason::from_wire_name(reason).map(|reason| reason.actor().name())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unknown(refusal) => refused(&refusal),
            Error::NotAllowed { principal, method } => failure(Code::PermissionDenied, Reason::CallerNotAllowed)
                .says(format!(
                    "{principal} may not call {method}, or not for this organization. The operator's policy says who may."
                ))
                .with("principal", principal)
                .with("method", method),
            Error::Invalid(invalid) => invalid.failure(KEYVAULT_ERROR_DOMAIN, Reason::InvalidField.wire_name()),
            Error::TooSlow(_) => outcome_unknown().caused_by(error),
            Error::Vault(error) => of_vault(error),
        }
    }
}

/// The failure of a call whose caller is not known.
pub(super) fn refused(refusal: &Refusal) -> Failure {
    let (unauthenticated, not_allowed) = (Reason::CallerUnauthenticated, Reason::CallerNotAllowed);
    peer::refused(KEYVAULT_ERROR_DOMAIN, unauthenticated.wire_name(), not_allowed.wire_name(), refusal)
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
        E::Unusable { id, provider, source_step, cause } => unusable(id, provider, source_step, &cause),
        E::NoKey { provider, environment_withheld, policies } => no_key(provider, environment_withheld, policies),
        E::TooManyProfiles { id } => failure(Code::InvalidArgument, Reason::InvalidField)
            .says(format!("Key {id} would have more than {} profiles.", vault::PROFILES_MAX))
            .with("api_key_id", id)
            .field("profile_ids", format!("a key has at most {} profiles", vault::PROFILES_MAX)),
        E::SameProvider { provider } => failure(Code::InvalidArgument, Reason::InvalidField)
            .says(format!("Two of the keys are of {provider}; a profile has one key per provider."))
            .with("provider", provider)
            .field("api_key_ids", format!("two keys of {provider}")),
        E::PreviousUnusable { id, provider, cause } => failure(Code::FailedPrecondition, Reason::KeyUnusable)
            .says(format!("The previous version of key {id} cannot be opened. Rotate the key instead."))
            .with("api_key_id", id)
            .with("provider", provider)
            .with("cause", "undecryptable")
            .caused_by(cause),
        E::NoPrevious { id } => failure(Code::FailedPrecondition, Reason::NoPreviousVersion)
            .says(format!("Nothing is kept of what key {id} was before. Rotate it to the key that you want."))
            .with("api_key_id", id),
        E::RequestIdReused { id } => failure(Code::InvalidArgument, Reason::RequestIdReused)
            .says(format!("Request id {id} was used for another request. Use a new one for each request."))
            .with("request_id", id)
            .field("request_id", "was used for another request"),
        E::EtagMismatch { id, etag } => failure(Code::Aborted, Reason::EtagMismatch)
            .says(format!(
                "Key {id} has changed since you read it: its etag is {etag}. Read it again, and decide again."
            ))
            .with("api_key_id", id)
            .with("etag", etag),
        E::Compacted { revision, epoch } => failure(Code::OutOfRange, Reason::RevisionCompacted)
            .says(format!(
                "The changes after that revision are not to be had: the history stands at {revision} of epoch {epoch}. \
                 Drop what you derived from earlier answers, and watch without from_revision."
            ))
            .with("revision", revision)
            .with("epoch", epoch),
        E::Limited(exceeded) => limited(exceeded),
        E::TooManyWatchers => failure(Code::ResourceExhausted, Reason::Overloaded)
            .says(format!("This replica serves {WATCHERS_MAX} watchers already. Try another one."))
            .with("limit", WATCHERS_MAX)
            .retry_after(STORE_RETRY),
        E::Stopping => stopping(),
        E::Sealed { reason } => failure(Code::Unavailable, Reason::VaultSealed)
            .says("This replica of the vault is sealed. The operator must look; GetSealStatus says why.")
            .retry_after(STORE_RETRY)
            .caused_by(reason),
        E::NotRecorded { .. } => failure(Code::Unavailable, Reason::AuditUnavailable)
            .says("What was asked could not be recorded, so it was not done and no key was released. Try again.")
            .retry_after(STORE_RETRY)
            .caused_by(error),
        E::Store(source) => of_store(source),
        E::CannotSeal(source) => sealed().caused_by(source),
        E::KekUsedUp { .. } => sealed().caused_by(error),
        E::Operation(error) => of_operation(error),
    }
}

fn limited(exceeded: Exceeded) -> Failure {
    let Exceeded { of, limit, retry_after, .. } = exceeded;
    failure(Code::ResourceExhausted, Reason::RateLimited)
        .says(format!(
            "The caller has reached its limit of {limit} {}. Wait; the operator can raise it.",
            of.replace('_', " ")
        ))
        .with("limit", limit)
        .with("of", of)
        .retry_after(retry_after)
}

fn unusable(id: KeyId, provider: Provider, source: Source, cause: &Unusable) -> Failure {
    let failure = failure(Code::FailedPrecondition, Reason::KeyUnusable)
        .with("api_key_id", id)
        .with("provider", provider)
        .with("source", source.name());
    match cause {
        Unusable::Disabled => failure.with("cause", "disabled").says(format!(
            "Key {id} is disabled, and no other key is used in its place. Enable it, or take its link away."
        )),
        Unusable::Undecryptable(cause) => failure
            .with("cause", "undecryptable")
            .says(format!(
                "Key {id} cannot be opened, and no other key is used in its place. Rotate it, or ask the operator."
            ))
            .caused_by(*cause),
    }
}

fn no_key(provider: Provider, environment_withheld: bool, policies: Policies) -> Failure {
    let variable = provider.environment_variable();
    let mut remedies = vec!["Assign one to the profile".to_owned()];
    if policies.allows(Source::OrganizationDefault) {
        remedies.push("set a default for the organization".to_owned());
    }
    if policies.allows(Source::Environment) {
        remedies.push(if environment_withheld {
            format!("have the operator let this organization use {variable}")
        } else {
            format!("set {variable} in the vault")
        });
    }
    let failure = failure(Code::FailedPrecondition, Reason::NoKeyConfigured)
        .with("provider", provider)
        .with("variable", variable);
    let forbidden: Vec<_> = policies.forbidden().collect();
    if forbidden.is_empty() {
        return failure.says(format!("No {provider} key is configured. {}.", alternatives(remedies)));
    }
    remedies.push("change the policy".to_owned());
    let steps: Vec<_> = forbidden.iter().map(|(step, _)| step.name()).collect();
    let by: Vec<_> = forbidden.iter().map(|(step, by)| format!("{} is forbidden by {by}", step.name())).collect();
    failure.with("forbidden", steps.join(" ")).says(format!(
        "No {provider} key is configured that may be used: {}. {}.",
        by.join(", "),
        alternatives(remedies)
    ))
}

/// Two or more of them, as a sentence has them: `a, b, or c`.
fn alternatives(mut remedies: Vec<String>) -> String {
    let last = remedies.pop().unwrap_or_default();
    format!("{}, or {last}", remedies.join(", "))
}

fn of_operation(error: OperationError) -> Failure {
    use OperationError as E;
    match error {
        E::KekNotDistributed { kek_id, replicas } => failure(Code::FailedPrecondition, Reason::KekNotDistributed)
            .says(format!(
                "{} live replicas do not know key encryption key {kek_id} yet. Wait some seconds and try again; \
                 if it lasts, look at their logs or stop them.",
                replicas.len()
            ))
            .with("kek_id", kek_id)
            .with("replicas", listed(&replicas)),
        E::NoPendingKek => failure(Code::FailedPrecondition, Reason::NoPendingKek)
            .says("No key encryption key waits to be promoted. Add one first."),
        E::Manager { kind, source } => {
            let failure = failure(Code::Unavailable, Reason::SecretsManagerUnavailable)
                .says(format!("The secrets manager {kind:?} failed: {source}. Stored keys open all the same."))
                .with("secrets_manager", kind);
            let failure = if source.is_transient() { failure.retry_after(STORE_RETRY) } else { failure };
            failure.caused_by(source)
        }
        E::ManagerNotEverywhere { kind, replicas } => {
            failure(Code::FailedPrecondition, Reason::SecretsManagerNotEverywhere)
                .says(format!(
                    "{} live replicas are not configured for the secrets manager {kind:?} and could not start again. \
                     Configure all of them first.",
                    replicas.len()
                ))
                .with("secrets_manager", kind)
                .with("replicas", listed(&replicas))
        }
    }
}

fn of_store(error: store::Error) -> Failure {
    match error {
        store::Error::NotSetUp => failure(Code::Unavailable, Reason::VaultSealed)
            .says("The vault is not set up yet. Try again.")
            .retry_after(STORE_RETRY),
        store::Error::CommitUnknown(_) => outcome_unknown().caused_by(error),
        store::Error::Database(_) | store::Error::Damaged(_) | store::Error::Silent => {
            store_unavailable().says("The key store is unavailable. Try again.").caused_by(error)
        }
    }
}

/// The failure of a call that a replica does not take, because it stops.
pub(super) fn stopping() -> Failure {
    failure(Code::Unavailable, Reason::ShuttingDown)
        .says("This replica stops. Another one answers.")
        .retry_after(STORE_RETRY)
}

/// The failure of a call that did not end before the replica stopped.
pub(super) fn cut_off() -> Failure {
    stopping()
        .adds(" If the call makes a change, that has happened whole or not at all. Repeat it with the same request_id, and it happens once.")
        .with("outcome", "unknown")
}

/// The failure of a call that may have happened all the same.
fn outcome_unknown() -> Failure {
    store_unavailable()
        .says(
            "The key store was lost while it committed, or did not answer in time: a change has happened whole or not \
             at all. Repeat it with the same request_id, and it happens once.",
        )
        .with("outcome", "unknown")
}

fn store_unavailable() -> Failure {
    failure(Code::Unavailable, Reason::StoreUnavailable).retry_after(STORE_RETRY)
}

fn listed(replicas: &[Uuid]) -> String {
    replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
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
