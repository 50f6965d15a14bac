//! Fallback policies, as plain data: which steps of a resolution may be fallen back to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::key::Source;

/// What was set for an organization, or for one of its profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FallbackPolicy {
    pub(crate) allow_organization_default: bool,
    pub(crate) allow_environment: bool,
}

impl FallbackPolicy {
    /// The policy where none was set.
    pub(crate) const ALLOW_ALL: Self = Self { allow_organization_default: true, allow_environment: true };

    fn allows(self, step: Source) -> bool {
        match step {
            // Nothing is fallen back to.
            Source::Profile => true,
            Source::OrganizationDefault => self.allow_organization_default,
            Source::Environment => self.allow_environment,
        }
    }
}

/// The policies that a resolution is under. Each can forbid a step; none can allow what the
/// other forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policies {
    pub(crate) organization: FallbackPolicy,
    /// Allows all where no profile is named.
    pub(crate) profile: FallbackPolicy,
}

/// Whose policy forbids a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForbiddenBy {
    Organization,
    Profile,
    Both,
}

impl fmt::Display for ForbiddenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Organization => "the organization's fallback policy",
            Self::Profile => "the profile's fallback policy",
            Self::Both => "the fallback policies of the organization and of the profile",
        })
    }
}

impl Policies {
    /// What both come to together.
    pub(crate) fn effective(self) -> FallbackPolicy {
        FallbackPolicy {
            allow_organization_default: self.allows(Source::OrganizationDefault),
            allow_environment: self.allows(Source::Environment),
        }
    }

    /// Whether a step may be taken.
    pub(crate) fn allows(self, step: Source) -> bool {
        self.forbids(step).is_none()
    }

    /// Whose policy forbids a step, if it is forbidden.
    pub(crate) fn forbids(self, step: Source) -> Option<ForbiddenBy> {
        match (self.organization.allows(step), self.profile.allows(step)) {
            (true, true) => None,
            (false, true) => Some(ForbiddenBy::Organization),
            (true, false) => Some(ForbiddenBy::Profile),
            (false, false) => Some(ForbiddenBy::Both),
        }
    }

    /// The steps that are forbidden, in their order.
    pub(crate) fn forbidden(self) -> impl Iterator<Item = (Source, ForbiddenBy)> {
        let steps = [Source::OrganizationDefault, Source::Environment];
        steps.into_iter().filter_map(move |step| Some((step, self.forbids(step)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_taken_only_if_both_policies_allow_it() {
        let all = [true, false];
        for (organization, profile) in all.into_iter().flat_map(|a| all.map(|b| (a, b))) {
            let default = |allow| FallbackPolicy { allow_organization_default: allow, allow_environment: true };
            let environment = |allow| FallbackPolicy { allow_organization_default: true, allow_environment: allow };
            let policies = Policies { organization: default(organization), profile: default(profile) };
            assert_eq!(policies.allows(Source::OrganizationDefault), organization && profile);
            assert!(policies.allows(Source::Environment) && policies.allows(Source::Profile));
            let policies = Policies { organization: environment(organization), profile: environment(profile) };
            assert_eq!(policies.effective(), environment(organization && profile));
            assert!(policies.allows(Source::OrganizationDefault) && policies.allows(Source::Profile));
        }
    }
}
