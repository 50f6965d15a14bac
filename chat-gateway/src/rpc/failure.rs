//! How each error looks to a caller: the whole policy on two screens.
#![deny(clippy::wildcard_enum_match_arm)]

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use proto::{CHAT_ERROR_DOMAIN, USAGE_TRAILER, chat::ErrorReason as Reason};
use service_runtime::{
    failure::{Code, Failure},
    identity::Refusal,
    peer,
};

use super::{Error, REQUEST_BYTES_MAX, convert};
use crate::{
    access::Denied,
    chat::{self, Attempt},
    provider::{Rejection, RejectionKind},
    upstream::{Class, Fault},
    vault_client::KeyError,
};

/// How long a caller should wait for a vault that failed over or was restarted.
const VAULT_RETRY: Duration = Duration::from_secs(1);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unknown(refusal) => refused(&refusal),
            Error::NotAllowed { principal, method, denied } => not_allowed(&principal, method, denied),
            Error::Invalid(invalid) => invalid.failure(CHAT_ERROR_DOMAIN, Reason::InvalidField.wire_name()),
            Error::Chat(error) => of_chat(error),
            Error::Told(failure) => failure,
        }
    }
}

/// What is said of an error inside an answer that has other things to say.
pub(super) fn problem(error: chat::Error) -> (Reason, String) {
    let (reason, text) = Failure::from(Error::Chat(error)).told();
    let reason = Reason::from_str_name(&format!("ERROR_REASON_{reason}"));
    (reason.unwrap_or_default(), text)
}

/// The failure of a call whose caller is not known.
pub(super) fn refused(refusal: &Refusal) -> Failure {
    let (unauthenticated, not_allowed) = (Reason::CallerUnauthenticated, Reason::CallerNotAllowed);
    peer::refused(CHAT_ERROR_DOMAIN, unauthenticated.wire_name(), not_allowed.wire_name(), refusal)
}

/// Names what is denied, and repeats nothing of it: what is absent and what is another's look
/// the same.
fn not_allowed(principal: &str, method: &str, denied: Denied) -> Failure {
    let what = match denied {
        Denied::Method => format!("call {method}"),
        Denied::Organization => "chat for this organization".to_owned(),
        Denied::Profile => "chat as this profile, or as none".to_owned(),
        Denied::Model => "chat with this model".to_owned(),
    };
    failure(Code::PermissionDenied, Reason::CallerNotAllowed)
        .says(format!("{principal} may not {what}. The operator's policy says who may."))
        .with("principal", principal)
        .with("method", method)
        .with("denied", denied.name())
}

fn of_chat(error: chat::Error) -> Failure {
    use chat::Error as E;
    match error {
        E::ModelUnknown { model, why } => failure(Code::InvalidArgument, Reason::ModelUnknown)
            .says(format!("Model {model:?} is unknown: {why}."))
            .with("model", model),
        E::ModelUnsupported { model, provider } => failure(Code::InvalidArgument, Reason::ModelUnsupported)
            .says(format!("Model {model:?} of {provider} does not chat. Choose a chat model."))
            .with("model", model)
            .with("provider", provider),
        E::Unsupported { field, problem } => failure(Code::InvalidArgument, Reason::InvalidField)
            .says(format!("{field}: {problem}."))
            .with("field", &field)
            .field(field, problem),
        E::Key(error) => of_key(&error),
        E::Overloaded { limit } => failure(Code::ResourceExhausted, Reason::Overloaded)
            .says(format!("{limit} chats are under way at this replica. Try again, or at another one."))
            .with("limit", limit)
            .retry_after(OVERLOADED_RETRY),
        E::NoneAnswered { first, others } => none_answered(*first, others),
        E::Ended => failure(Code::Unavailable, Reason::ProviderInternal).says("The gateway failed. Try again."),
        E::Upstream { attempt, fault } => {
            let (code, reason) = class(&fault);
            let failure = about(&attempt, failure(code, reason)).says(text(&attempt, &fault));
            with_fault(failure, fault)
        }
        E::Truncated { attempt, fault, usage } => {
            let (_, cause) = class(&fault);
            let failure = about(&attempt, failure(Code::Aborted, Reason::StreamTruncated))
                .says(format!(
                    "The answer broke off after it had begun; what was received is not whole, and a repeat is billed \
                     again. Cause: {}",
                    text(&attempt, &fault)
                ))
                .with("cause", cause.wire_name())
                .trailer(USAGE_TRAILER, usage.map(convert::usage).unwrap_or_default().encode_to_vec());
            with_fault(failure, fault)
        }
        E::Stopping => stopping(),
        E::AnswerTooLarge { limit } => failure(Code::ResourceExhausted, Reason::AnswerTooLarge)
            .says(format!("The answer is larger than the {limit} bytes that Chat returns. Use StreamChat."))
            .with("limit", limit),
    }
}

/// The failure of a request that is larger than the gateway reads.
pub(super) fn too_large() -> Failure {
    failure(Code::ResourceExhausted, Reason::RequestTooLarge)
        .says(format!("The request is larger than {REQUEST_BYTES_MAX} bytes. Send large files by URL."))
        .with("limit", REQUEST_BYTES_MAX)
}

/// How long a caller should wait for requests of others to be sent.
const OVERLOADED_RETRY: Duration = Duration::from_secs(1);

/// The failure of a request that is one too many.
pub(super) fn overloaded(limit: usize) -> Failure {
    failure(Code::ResourceExhausted, Reason::Overloaded)
        .says(format!("The gateway has requests of {limit} bytes in hand, as many as it may. Try again."))
        .with("limit", limit)
        .retry_after(OVERLOADED_RETRY)
}

/// How long a caller should wait who knows no other gateway: one that comes anew needs a moment.
const STOPPING_RETRY: Duration = Duration::from_secs(1);

/// The failure of a call that a gateway does not take, or take to its end, because it stops.
pub(super) fn stopping() -> Failure {
    failure(Code::Unavailable, Reason::ShuttingDown)
        .says("This gateway stops. Try again: another one answers.")
        .retry_after(STOPPING_RETRY)
}

/// The failure of a request that does not arrive.
pub(super) fn late(limit: Duration) -> Failure {
    failure(Code::DeadlineExceeded, Reason::TotalTimeout)
        .says(format!("The request did not arrive within {} s. Send it without pauses.", limit.as_secs()))
}

fn of_key(error: &Arc<KeyError>) -> Failure {
    match error.as_ref() {
        KeyError::NotConfigured { provider, forbidden, says } => {
            let failure = failure(Code::FailedPrecondition, Reason::NoKeyConfigured)
                .says(says.as_str())
                .with("provider", provider)
                .with("variable", format_args!("ARCHESTRA_CHAT_{}_API_KEY", provider.name().to_uppercase()));
            if forbidden.is_empty() { failure } else { failure.with("forbidden", forbidden) }
        }
        KeyError::Unusable { provider, api_key_id, source_step, cause, says } => {
            failure(Code::FailedPrecondition, Reason::KeyUnusable)
                .says(says.as_str())
                .with("provider", provider)
                .with("api_key_id", api_key_id)
                .with("source", source_step)
                .with("cause", cause)
        }
        KeyError::Deadline => failure(Code::DeadlineExceeded, Reason::TotalTimeout)
            .says("The key-vault did not answer by the deadline. Nothing was sent to the provider."),
        KeyError::Unavailable(_) | KeyError::Refused(_) => failure(Code::Unavailable, Reason::VaultUnavailable)
            .says("The key-vault is unavailable. Nothing was sent to the provider; try again.")
            .retry_after(VAULT_RETRY)
            .caused_by(Arc::clone(error)),
        KeyError::StoreUnavailable(_) => failure(Code::Unavailable, Reason::StoreUnavailable)
            .says("The key-vault's database is unavailable. Nothing was sent to the provider; try again.")
            .retry_after(VAULT_RETRY)
            .caused_by(Arc::clone(error)),
        KeyError::NotRecorded(_) => failure(Code::Unavailable, Reason::AuditUnavailable)
            .says("The key-vault could not record the call, and released no key. Nothing was sent to the provider; try again.")
            .retry_after(VAULT_RETRY)
            .caused_by(Arc::clone(error)),
        KeyError::Limited { retry_after, .. } => failure(Code::ResourceExhausted, Reason::RateLimited)
            .says("The key-vault limits this gateway: it asks for too many keys. The operator must look.")
            .retry_after(retry_after.unwrap_or(VAULT_RETRY))
            .caused_by(Arc::clone(error)),
        KeyError::Sealed(_) => failure(Code::Unavailable, Reason::VaultSealed)
            .says("The key-vault cannot open keys now. Nothing was sent to the provider.")
            .caused_by(Arc::clone(error)),
    }
}

/// The first model's failure, with what became of the others.
fn none_answered(first: chat::Error, others: Vec<(String, chat::Error)>) -> Failure {
    let others = others.into_iter().map(|(model, error)| format!("{model}: {}", of_chat(error).reason()));
    let others = others.collect::<Vec<_>>().join(", ");
    of_chat(first)
        .adds(&format!(" The fallback models did not answer either ({others})."))
        .with("fallback_failures", others)
}

/// What a fault means before the answer has begun.
fn class(fault: &Fault) -> (Code, Reason) {
    match fault.class() {
        Class::InvalidRequest => (Code::InvalidArgument, Reason::ProviderInvalidRequest),
        Class::ContextLength => (Code::InvalidArgument, Reason::ContextLengthExceeded),
        Class::Key => (Code::FailedPrecondition, Reason::ProviderKeyInvalid),
        Class::Permission => (Code::FailedPrecondition, Reason::ProviderPermissionDenied),
        Class::Quota => (Code::ResourceExhausted, Reason::ProviderQuotaExhausted),
        Class::RateLimited => (Code::ResourceExhausted, Reason::ProviderRateLimited),
        Class::ModelNotFound => (Code::NotFound, Reason::ModelNotFound),
        Class::Overloaded => (Code::Unavailable, Reason::ProviderOverloaded),
        Class::Internal | Class::Unreadable => (Code::Unavailable, Reason::ProviderInternal),
        Class::Timeout => (Code::Unavailable, Reason::ProviderTimeout),
        Class::Unreachable | Class::Cut => (Code::Unavailable, Reason::ProviderUnreachable),
        Class::Slow => (Code::DeadlineExceeded, Reason::FirstEventTimeout),
        Class::Silent => (Code::DeadlineExceeded, Reason::IdleTimeout),
        Class::Deadline => (Code::DeadlineExceeded, Reason::TotalTimeout),
        Class::Stopping => (Code::Unavailable, Reason::ShuttingDown),
    }
}

/// What is wrong, whose fault it is, and what to do.
fn text(attempt: &Attempt, fault: &Fault) -> String {
    let provider = attempt.provider;
    let key = match attempt.api_key_id.as_str() {
        "" => "The key in the vault's environment".to_owned(),
        id => format!("Key {id}"),
    };
    match fault {
        Fault::Rejected { rejection: Rejection { kind, message, .. }, .. } => match kind {
            RejectionKind::InvalidRequest => format!("{provider} refuses the request: {message}"),
            RejectionKind::ContextLength => format!("The conversation is too long for the model: {message}"),
            RejectionKind::ModelNotFound => {
                format!("{provider} has no model {:?}, or not for this key.", attempt.model)
            }
            // The provider's words may quote the key here.
            RejectionKind::Key => format!("{key} is not valid at {provider}. An administrator must rotate it."),
            RejectionKind::Permission => format!("{key} may not do this at {provider}."),
            RejectionKind::Quota => {
                format!("The account of {} has no credit or quota left at {provider}.", lower(&key))
            }
            RejectionKind::RateLimited => format!("{provider} limits the rate of {}. Try again later.", lower(&key)),
            RejectionKind::Overloaded => format!("{provider} is overloaded. Try again later."),
            RejectionKind::Internal => format!("{provider} failed. Try again."),
            RejectionKind::Timeout => format!("{provider} took too long. Try again."),
        },
        Fault::Unreachable(_) => format!("{provider} cannot be reached. Try again."),
        Fault::EndedEarly => format!("{provider} hung up before its answer was whole."),
        Fault::Malformed(_) => format!("{provider} sent what cannot be read."),
        Fault::NotAStream { status, .. } => {
            format!("{provider} answered with status {status} and not as its API does. Check its base URL.")
        }
        Fault::FirstEventTimeout(limit) => format!("{provider} sent no output within {} s.", limit.as_secs_f32()),
        Fault::IdleTimeout(limit) => format!("{provider} sent nothing for {} s.", limit.as_secs_f32()),
        Fault::TotalTimeout => "The answer was not finished by the deadline.".to_owned(),
        Fault::Stopping => "The gateway stops, and waited for the answer as long as it may.".to_owned(),
        Fault::KeyNotSendable => format!("{key} cannot be sent in a header. An administrator must rotate it."),
        Fault::CircuitOpen { of_provider: true, .. } => {
            format!("{provider} failed too often in a row and is not asked for a while. Try again later.")
        }
        Fault::CircuitOpen { .. } => {
            format!(
                "{key} was refused by {provider} too often in a row, and is not used for a while. An administrator must rotate it."
            )
        }
    }
}

fn lower(key: &str) -> String {
    key.replacen("The key", "the key", 1).replacen("Key", "key", 1)
}

/// Adds what was tried.
fn about(attempt: &Attempt, failure: Failure) -> Failure {
    let failure = failure
        .with("provider", attempt.provider)
        .with("model", &attempt.model)
        .with("api_key_id", &attempt.api_key_id)
        .with("source", attempt.source.name())
        .with("attempts", attempt.count);
    if attempt.request_id.is_empty() { failure } else { failure.with("upstream_request_id", &attempt.request_id) }
}

/// Adds what the provider said, and keeps the rest for the log.
fn with_fault(mut failure: Failure, fault: Fault) -> Failure {
    match &fault {
        Fault::Rejected { status, rejection } => {
            failure = failure.with("upstream_status", status);
            if !rejection.code.is_empty() {
                failure = failure.with("upstream_code", &rejection.code);
            }
            if let Some(delay) = rejection.retry_after {
                failure = failure.retry_after(delay);
            }
            match rejection.kind {
                // The caller's to mend: nothing for the operator's log.
                RejectionKind::InvalidRequest | RejectionKind::ContextLength | RejectionKind::ModelNotFound => failure,
                RejectionKind::Key
                | RejectionKind::Permission
                | RejectionKind::Quota
                | RejectionKind::RateLimited
                | RejectionKind::Overloaded
                | RejectionKind::Internal
                | RejectionKind::Timeout => failure.caused_by(fault),
            }
        }
        Fault::NotAStream { status, .. } => {
            failure = failure.with("upstream_status", status);
            failure.caused_by(fault)
        }
        Fault::Unreachable(_)
        | Fault::EndedEarly
        | Fault::Malformed(_)
        | Fault::FirstEventTimeout(_)
        | Fault::IdleTimeout(_)
        | Fault::TotalTimeout
        | Fault::KeyNotSendable => failure.caused_by(fault),
        // The log has the count of all of them.
        Fault::Stopping => failure,
        Fault::CircuitOpen { wait, .. } => failure.with("circuit", "open").retry_after(*wait).caused_by(fault),
    }
}

fn failure(code: Code, reason: Reason) -> Failure {
    Failure::new(code, CHAT_ERROR_DOMAIN, reason.wire_name())
}
