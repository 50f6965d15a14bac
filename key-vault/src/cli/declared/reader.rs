//! Reads an organization from the vault, as far as a file can speak of it.

use std::collections::BTreeMap;

use proto::keyvault::{
    ApiKey, GetFallbackPolicyRequest, ListApiKeysRequest, api_key_service_client::ApiKeyServiceClient,
};
use service_runtime::client::Wire;
use tonic::Status;

use super::{declaration::Policy, plan::Actual};

/// The keys of an organization, and the policies of these profiles; `None` is the whole organization.
pub(super) async fn read<'a>(
    keys: &mut ApiKeyServiceClient<Wire>,
    organization: &str,
    profiles: impl Iterator<Item = &'a Option<String>>,
) -> Result<Actual, Status> {
    let mut actual = Actual { keys: all_keys(keys, organization).await?, policies: BTreeMap::new() };
    for profile in profiles {
        let policy = policy(keys, organization, profile.clone()).await?;
        actual.policies.insert(profile.clone(), policy);
    }
    Ok(actual)
}

/// What is set for a profile, or for the whole organization.
pub(super) async fn policy(
    keys: &mut ApiKeyServiceClient<Wire>,
    organization: &str,
    profile_id: Option<String>,
) -> Result<Policy, Status> {
    let request = GetFallbackPolicyRequest { organization_id: organization.to_owned(), profile_id };
    let found = keys.get_fallback_policy(request).await?.into_inner().fallback_policy;
    Ok(found.map_or(Policy::UNSET, |found| Policy {
        organization_default: found.allow_organization_default,
        environment: found.allow_environment,
    }))
}

async fn all_keys(keys: &mut ApiKeyServiceClient<Wire>, organization: &str) -> Result<Vec<ApiKey>, Status> {
    let mut request =
        ListApiKeysRequest { organization_id: organization.to_owned(), page_size: 1_000, ..Default::default() };
    let mut all = Vec::new();
    loop {
        let page = keys.list_api_keys(request.clone()).await?.into_inner();
        all.extend(page.api_keys);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}
