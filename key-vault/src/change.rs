//! What changed, as plain data: one record for each mutation.

use uuid::Uuid;

use crate::key::{KeyId, OrganizationId, Provider};

/// What a mutation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Created,
    Updated,
    Rotated,
    Deleted,
    DefaultChanged,
    ProfilesChanged,
    PreviousDestroyed,
    FallbackPolicyChanged,
}

impl ChangeKind {
    const ALL: [Self; 8] = [
        Self::Created,
        Self::Updated,
        Self::Rotated,
        Self::Deleted,
        Self::DefaultChanged,
        Self::ProfilesChanged,
        Self::PreviousDestroyed,
        Self::FallbackPolicyChanged,
    ];

    /// The name in the database.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Rotated => "rotated",
            Self::Deleted => "deleted",
            Self::DefaultChanged => "default_changed",
            Self::ProfilesChanged => "profiles_changed",
            Self::PreviousDestroyed => "previous_destroyed",
            Self::FallbackPolicyChanged => "fallback_policy_changed",
        }
    }

    /// The kind of a name that [`ChangeKind::name`] gave.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One mutation of an organization's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) organization: OrganizationId,
    pub(crate) kind: ChangeKind,
    /// Whose resolutions may differ now.
    pub(crate) providers: Vec<Provider>,
    /// The keys of which a field changed.
    pub(crate) keys: Vec<KeyId>,
}

/// Where a vault's history stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Which history.
    pub(crate) epoch: Uuid,
    /// The last change.
    pub(crate) revision: i64,
    /// Changes up to this one are no longer kept.
    pub(crate) compacted: i64,
    /// Raised by each change of the key encryption keys.
    pub(crate) kek_revision: i64,
}
