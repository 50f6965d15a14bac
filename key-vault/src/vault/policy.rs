//! Fallback policies: set, read, and what they leave of the environment.

use super::{
    Error, Mutation, Vault,
    mutation::{Affected, Answer, begun},
};
use crate::{
    change::ChangeKind,
    environment::Fallback,
    fallback_policy::{FallbackPolicy, Policies},
    key::{OrganizationId, ProfileId, Provider, Source},
};

impl Vault {
    /// Says which steps an organization, or one of its profiles, may fall back to.
    pub(crate) async fn set_policy(
        &self,
        mutation: &Mutation,
        organization: &OrganizationId,
        profile: Option<&ProfileId>,
        policy: FallbackPolicy,
    ) -> Result<FallbackPolicy, Error> {
        let work = begun!(self, mutation, policy);
        work.tx.set_policy(organization, profile, policy).await?;
        let answer = Answer::Policy(policy);
        let affected = [Affected::policy(profile)];
        work.finish(organization, ChangeKind::FallbackPolicyChanged, &affected, answer).await?.policy()
    }

    /// What was set for an organization and, if one is named, for a profile.
    pub(crate) async fn policies(
        &self,
        organization: &OrganizationId,
        profile: Option<&ProfileId>,
    ) -> Result<Policies, Error> {
        Ok(self.store.policies(organization, profile).await?)
    }

    /// The providers whose keys in the environment calls of an organization, or of one of its
    /// profiles, can reach.
    pub(crate) async fn environment_fallbacks(
        &self,
        organization: &OrganizationId,
        profile: Option<&ProfileId>,
    ) -> Result<Vec<Provider>, Error> {
        let policies = self.policies(organization, profile).await?;
        if !policies.allows(Source::Environment) {
            return Ok(Vec::new());
        }
        let reached = |provider: &Provider| matches!(self.environment.find(organization, *provider), Fallback::Key(_));
        Ok(Provider::ALL.into_iter().filter(reached).collect())
    }
}
