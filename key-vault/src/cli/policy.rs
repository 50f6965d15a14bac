//! Commands on fallback policies.

use anyhow::Context as _;
use proto::keyvault::{
    FallbackPolicy, GetFallbackPolicyRequest, GetFallbackPolicyResponse, SetFallbackPolicyRequest,
    api_key_service_client::ApiKeyServiceClient,
};
use service_runtime::client::Wire;

use super::{output, session};
use crate::config::{ClientOptions, Output, Permission, PolicyChange, PolicyCommand};

pub(super) async fn run(options: ClientOptions, command: PolicyCommand) -> anyhow::Result<()> {
    let channel = session::connect(&options.connection, session::CALL_MAX)?;
    let mut administrator = Administrator { keys: ApiKeyServiceClient::new(channel), options };
    match command {
        PolicyCommand::Show { place } => administrator.show(place.profile).await,
        PolicyCommand::Set { place, change } => administrator.set(place.profile, change).await,
    }
}

/// A connection to a vault, on behalf of who says what an organization may do.
struct Administrator {
    keys: ApiKeyServiceClient<Wire>,
    options: ClientOptions,
}

impl Administrator {
    async fn show(&mut self, profile: Option<String>) -> anyhow::Result<()> {
        let found = self.get(profile).await?;
        match self.options.output {
            Output::Json => output::json("GetFallbackPolicyResponse", &found),
            Output::Table => {
                output::fallback_policy(&found);
                Ok(())
            }
        }
    }

    /// Sets what is named, and keeps the rest as it was read just before: of two who each change
    /// a step at the same time, one may undo the other.
    async fn set(&mut self, profile: Option<String>, change: PolicyChange) -> anyhow::Result<()> {
        let allowed = |permission| permission == Permission::Allow;
        let mut request = SetFallbackPolicyRequest {
            organization_id: self.options.organization.clone(),
            profile_id: profile.clone(),
            allow_organization_default: change.organization_default.map(allowed),
            allow_environment: change.environment.map(allowed),
            request_id: session::request_id(),
        };
        if request.allow_organization_default.is_none() || request.allow_environment.is_none() {
            let was: FallbackPolicy =
                self.get(profile.clone()).await?.fallback_policy.context("the vault answered without a policy")?;
            request.allow_organization_default.get_or_insert(was.allow_organization_default);
            request.allow_environment.get_or_insert(was.allow_environment);
        }
        let set = self.keys.set_fallback_policy(request).await?.into_inner();
        match self.options.output {
            Output::Json => output::json("SetFallbackPolicyResponse", &set),
            Output::Table => self.show(profile).await,
        }
    }

    async fn get(&mut self, profile_id: Option<String>) -> anyhow::Result<GetFallbackPolicyResponse> {
        let request = GetFallbackPolicyRequest { organization_id: self.options.organization.clone(), profile_id };
        Ok(self.keys.get_fallback_policy(request).await?.into_inner())
    }
}
