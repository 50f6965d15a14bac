//! Whose it is to act on a reason, as `docs/errors.md` says it to people.

use std::fmt;

use crate::{chat, keyvault};

/// Who acts on an error, and whose fault it is as far as a program can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Who wrote the calling program.
    Caller,
    /// Who keeps the organization's keys.
    Administrator,
    /// Who runs the services.
    Operator,
    /// Anthropic, OpenAI or Google.
    Provider,
}

impl Actor {
    /// In logs, measurements and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::Provider => "provider",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl chat::ErrorReason {
    /// The reason of this wire name.
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::from_str_name(&format!("ERROR_REASON_{name}"))
    }

    /// Who acts. For [`StreamTruncated`](Self::StreamTruncated) its cause tells more.
    pub fn actor(self) -> Actor {
        match self {
            Self::Unspecified
            | Self::VaultUnavailable
            | Self::StoreUnavailable
            | Self::VaultSealed
            | Self::AuditUnavailable
            | Self::RateLimited
            | Self::Overloaded
            | Self::ShuttingDown
            | Self::ProviderUnreachable
            | Self::CallerNotAllowed => Actor::Operator,
            Self::InvalidField
            | Self::ModelUnknown
            | Self::ModelUnsupported
            | Self::ProviderInvalidRequest
            | Self::ContextLengthExceeded
            | Self::ModelNotFound
            | Self::ProviderRateLimited
            | Self::StreamTruncated
            | Self::TotalTimeout
            | Self::AnswerTooLarge
            | Self::RequestTooLarge
            | Self::CallerUnauthenticated => Actor::Caller,
            Self::NoKeyConfigured
            | Self::KeyUnusable
            | Self::ProviderKeyInvalid
            | Self::ProviderPermissionDenied
            | Self::ProviderQuotaExhausted => Actor::Administrator,
            Self::ProviderOverloaded
            | Self::ProviderInternal
            | Self::ProviderTimeout
            | Self::FirstEventTimeout
            | Self::IdleTimeout => Actor::Provider,
        }
    }
}

impl keyvault::ErrorReason {
    /// The reason of this wire name.
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::from_str_name(&format!("ERROR_REASON_{name}"))
    }

    /// Who acts.
    pub fn actor(self) -> Actor {
        match self {
            Self::InvalidField
            | Self::KeyNotFound
            | Self::CallerUnauthenticated
            | Self::RequestTooLarge
            | Self::RequestIdReused
            | Self::EtagMismatch
            | Self::RevisionCompacted
            | Self::RateLimited => Actor::Caller,
            Self::NoKeyConfigured | Self::KeyUnusable | Self::NoPreviousVersion => Actor::Administrator,
            Self::Unspecified
            | Self::StoreUnavailable
            | Self::VaultSealed
            | Self::Overloaded
            | Self::ShuttingDown
            | Self::KekNotDistributed
            | Self::NoPendingKek
            | Self::SecretsManagerUnavailable
            | Self::SecretsManagerNotEverywhere
            | Self::CallerNotAllowed
            | Self::AuditUnavailable => Actor::Operator,
        }
    }
}
