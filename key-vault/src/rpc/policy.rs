//! Fallback policies.

use proto::keyvault::{
    self as pb, GetFallbackPolicyRequest, GetFallbackPolicyResponse, SetFallbackPolicyRequest,
    SetFallbackPolicyResponse,
};
use tonic::Request;

use super::{Error, Rpc, convert};
use crate::{
    fallback_policy::FallbackPolicy,
    key::{OrganizationId, ProfileId},
};

impl Rpc {
    pub(super) async fn set_policy(
        &self,
        request: Request<SetFallbackPolicyRequest>,
    ) -> Result<SetFallbackPolicyResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let policy = FallbackPolicy {
            allow_organization_default: request.allow_organization_default.unwrap_or(true),
            allow_environment: request.allow_environment.unwrap_or(true),
        };
        let (organization, profile) = convert::policy_place(request.organization_id, request.profile_id)?;
        let policy = self.vault.set_policy(&mutation, &organization, profile.as_ref(), policy).await?;
        Ok(SetFallbackPolicyResponse { fallback_policy: Some(message(&organization, profile.as_ref(), policy)) })
    }

    pub(super) async fn policy(
        &self,
        request: Request<GetFallbackPolicyRequest>,
    ) -> Result<GetFallbackPolicyResponse, Error> {
        let (_, request) = self.admit(request).await?;
        let (organization, profile) = convert::policy_place(request.organization_id, request.profile_id)?;
        let policies = self.vault.policies(&organization, profile.as_ref()).await?;
        let set = if profile.is_some() { policies.profile } else { policies.organization };
        let message = |policy| Some(message(&organization, profile.as_ref(), policy));
        Ok(GetFallbackPolicyResponse { fallback_policy: message(set), effective_policy: message(policies.effective()) })
    }
}

fn message(organization: &OrganizationId, profile: Option<&ProfileId>, policy: FallbackPolicy) -> pb::FallbackPolicy {
    pb::FallbackPolicy {
        organization_id: organization.to_string(),
        profile_id: profile.map(ToString::to_string),
        allow_organization_default: policy.allow_organization_default,
        allow_environment: policy.allow_environment,
    }
}
