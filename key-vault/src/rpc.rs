//! What callers can ask: the generated traits, each method the same few lines.
//!
//! Who calls, what do they ask, do it. Everything that can be refused about a message is
//! refused in `convert`; every failure becomes a status in `failure`.

mod convert;
mod failure;
mod page_token;

use std::sync::Arc;

use proto::keyvault::{
    AssignProfilesRequest, AssignProfilesResponse, BatchAssignProfilesRequest, BatchAssignProfilesResponse,
    ClearOrganizationDefaultRequest, ClearOrganizationDefaultResponse, CreateApiKeyRequest, CreateApiKeyResponse,
    DeleteApiKeyRequest, DeleteApiKeyResponse, ExplainResolutionRequest, ExplainResolutionResponse, GetApiKeyRequest,
    GetApiKeyResponse, ListApiKeysRequest, ListApiKeysResponse, ListProfileKeysRequest, ListProfileKeysResponse,
    ReplaceProfilesRequest, ReplaceProfilesResponse, ResolveKeyRequest, ResolveKeyResponse, RollbackApiKeyRequest,
    RollbackApiKeyResponse, RotateApiKeyRequest, RotateApiKeyResponse, SetOrganizationDefaultRequest,
    SetOrganizationDefaultResponse, UnassignProfilesRequest, UnassignProfilesResponse, UpdateApiKeyRequest,
    UpdateApiKeyResponse,
    api_key_service_server::{ApiKeyService, ApiKeyServiceServer},
    key_resolution_service_server::{KeyResolutionService, KeyResolutionServiceServer},
};
use service_runtime::{failure::Failure, fields, peer::Peer, server::Served};
use tonic::{Request, Response, Status, async_trait, service::Routes};

use crate::vault::{self, Vault};

/// The largest request. A key with 1,000 profiles takes 131 KiB.
const REQUEST_BYTES_MAX: usize = 256 * 1024;

/// Why an RPC was refused or failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the caller is not authenticated")]
    NoPeer,
    #[error("the request is not valid")]
    Invalid(#[from] fields::Invalid),
    #[error(transparent)]
    Vault(#[from] vault::Error),
}

/// The services of a vault.
pub(crate) fn served(vault: Vault) -> Served {
    let rpc = Arc::new(Rpc { vault });
    let keys = ApiKeyServiceServer::from_arc(Arc::clone(&rpc)).max_decoding_message_size(REQUEST_BYTES_MAX);
    let resolution = KeyResolutionServiceServer::from_arc(rpc).max_decoding_message_size(REQUEST_BYTES_MAX);
    Served {
        routes: Routes::new(keys).add_service(resolution),
        services: &["archestra.keyvault.v1.ApiKeyService", "archestra.keyvault.v1.KeyResolutionService"],
        descriptors: proto::FILE_DESCRIPTOR_SET,
        too_large: failure::too_large,
    }
}

#[derive(Debug)]
struct Rpc {
    vault: Vault,
}

/// Turns the outcome of a method's body into what tonic sends.
fn answer<T>(outcome: Result<T, Error>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|error| Failure::from(error).into())
}

/// Who calls. The first line of every method.
fn peer<T>(request: &Request<T>) -> Result<&Peer, Error> {
    Peer::of(request).ok_or(Error::NoPeer)
}

#[async_trait]
impl ApiKeyService for Rpc {
    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        answer(self.create(request).await)
    }

    async fn get_api_key(&self, request: Request<GetApiKeyRequest>) -> Result<Response<GetApiKeyResponse>, Status> {
        answer(self.get(request).await)
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        answer(self.list(request).await)
    }

    async fn update_api_key(
        &self,
        request: Request<UpdateApiKeyRequest>,
    ) -> Result<Response<UpdateApiKeyResponse>, Status> {
        answer(self.update(request).await)
    }

    async fn rotate_api_key(
        &self,
        request: Request<RotateApiKeyRequest>,
    ) -> Result<Response<RotateApiKeyResponse>, Status> {
        answer(self.rotate(request).await)
    }

    async fn rollback_api_key(
        &self,
        request: Request<RollbackApiKeyRequest>,
    ) -> Result<Response<RollbackApiKeyResponse>, Status> {
        todo!("{request:?}")
    }

    async fn delete_api_key(
        &self,
        request: Request<DeleteApiKeyRequest>,
    ) -> Result<Response<DeleteApiKeyResponse>, Status> {
        answer(self.delete(request).await)
    }

    async fn set_organization_default(
        &self,
        request: Request<SetOrganizationDefaultRequest>,
    ) -> Result<Response<SetOrganizationDefaultResponse>, Status> {
        answer(self.set_default(request).await)
    }

    async fn clear_organization_default(
        &self,
        request: Request<ClearOrganizationDefaultRequest>,
    ) -> Result<Response<ClearOrganizationDefaultResponse>, Status> {
        answer(self.clear_default(request).await)
    }

    async fn assign_profiles(
        &self,
        request: Request<AssignProfilesRequest>,
    ) -> Result<Response<AssignProfilesResponse>, Status> {
        answer(self.assign(request).await)
    }

    async fn unassign_profiles(
        &self,
        request: Request<UnassignProfilesRequest>,
    ) -> Result<Response<UnassignProfilesResponse>, Status> {
        answer(self.unassign(request).await)
    }

    async fn replace_profiles(
        &self,
        request: Request<ReplaceProfilesRequest>,
    ) -> Result<Response<ReplaceProfilesResponse>, Status> {
        answer(self.replace(request).await)
    }

    async fn batch_assign_profiles(
        &self,
        request: Request<BatchAssignProfilesRequest>,
    ) -> Result<Response<BatchAssignProfilesResponse>, Status> {
        answer(self.batch_assign(request).await)
    }

    async fn list_profile_keys(
        &self,
        request: Request<ListProfileKeysRequest>,
    ) -> Result<Response<ListProfileKeysResponse>, Status> {
        answer(self.profile_keys(request).await)
    }
}

#[async_trait]
impl KeyResolutionService for Rpc {
    type WatchKeyChangesStream = tonic::codegen::BoxStream<proto::keyvault::WatchKeyChangesResponse>;

    async fn watch_key_changes(
        &self,
        request: Request<proto::keyvault::WatchKeyChangesRequest>,
    ) -> Result<Response<Self::WatchKeyChangesStream>, Status> {
        todo!("{request:?}")
    }

    async fn resolve_key(&self, request: Request<ResolveKeyRequest>) -> Result<Response<ResolveKeyResponse>, Status> {
        answer(self.resolve(request).await)
    }

    async fn explain_resolution(
        &self,
        request: Request<ExplainResolutionRequest>,
    ) -> Result<Response<ExplainResolutionResponse>, Status> {
        answer(self.explain(request).await)
    }
}

impl Rpc {
    async fn create(&self, request: Request<CreateApiKeyRequest>) -> Result<CreateApiKeyResponse, Error> {
        let creator = peer(&request)?.principal().to_owned();
        let new = convert::new_key(request.into_inner(), creator)?;
        let key = self.vault.create(new).await?;
        Ok(CreateApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn get(&self, request: Request<GetApiKeyRequest>) -> Result<GetApiKeyResponse, Error> {
        peer(&request)?;
        let request = request.into_inner();
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let key = self.vault.get(&organization, id).await?;
        Ok(GetApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn list(&self, request: Request<ListApiKeysRequest>) -> Result<ListApiKeysResponse, Error> {
        peer(&request)?;
        let listing = convert::listing(request.into_inner())?;
        let filter = listing.filter();
        let page = self.vault.list(&listing.organization, filter, listing.after, listing.size).await?;
        let next_page_token = page.next_after.map_or_else(String::new, |after| listing.token(after));
        let environment_fallbacks = self
            .vault
            .environment_fallbacks(&listing.organization)
            .into_iter()
            .filter(|provider| listing.provider.is_none_or(|wanted| wanted == *provider))
            .map(convert::environment_fallback)
            .collect();
        let api_keys = page.keys.into_iter().map(Into::into).collect();
        Ok(ListApiKeysResponse { api_keys, environment_fallbacks, next_page_token })
    }

    async fn update(&self, request: Request<UpdateApiKeyRequest>) -> Result<UpdateApiKeyResponse, Error> {
        peer(&request)?;
        let update = convert::update(request.into_inner())?;
        let key = self.vault.update(&update.organization, update.id, update.name.as_ref(), update.state).await?;
        Ok(UpdateApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn rotate(&self, request: Request<RotateApiKeyRequest>) -> Result<RotateApiKeyResponse, Error> {
        peer(&request)?;
        let rotation = convert::rotation(request.into_inner())?;
        let key = self.vault.rotate(&rotation.organization, rotation.id, &rotation.material).await?;
        Ok(RotateApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn delete(&self, request: Request<DeleteApiKeyRequest>) -> Result<DeleteApiKeyResponse, Error> {
        peer(&request)?;
        let request = request.into_inner();
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let key = self.vault.delete(&organization, id).await?;
        Ok(DeleteApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn set_default(
        &self,
        request: Request<SetOrganizationDefaultRequest>,
    ) -> Result<SetOrganizationDefaultResponse, Error> {
        peer(&request)?;
        let request = request.into_inner();
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let key = self.vault.set_default(&organization, id).await?;
        Ok(SetOrganizationDefaultResponse { api_key: Some(key.into()) })
    }

    async fn clear_default(
        &self,
        request: Request<ClearOrganizationDefaultRequest>,
    ) -> Result<ClearOrganizationDefaultResponse, Error> {
        peer(&request)?;
        let (organization, provider) = convert::default(request.into_inner())?;
        let before = self.vault.clear_default(&organization, provider).await?;
        Ok(ClearOrganizationDefaultResponse { api_key_id: before.map(|id| id.to_string()).unwrap_or_default() })
    }

    async fn assign(&self, request: Request<AssignProfilesRequest>) -> Result<AssignProfilesResponse, Error> {
        peer(&request)?;
        let request = request.into_inner();
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let profiles = convert::some_profiles(request.profile_ids)?;
        let key = self.vault.assign(&organization, id, &profiles).await?;
        Ok(AssignProfilesResponse { api_key: Some(key.into()) })
    }

    async fn unassign(&self, request: Request<UnassignProfilesRequest>) -> Result<UnassignProfilesResponse, Error> {
        peer(&request)?;
        let request = request.into_inner();
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let profiles = convert::some_profiles(request.profile_ids)?;
        let key = self.vault.unassign(&organization, id, &profiles).await?;
        Ok(UnassignProfilesResponse { api_key: Some(key.into()) })
    }

    async fn replace(&self, request: Request<ReplaceProfilesRequest>) -> Result<ReplaceProfilesResponse, Error> {
        peer(&request)?;
        let request = request.into_inner();
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let profiles = convert::profiles(request.profile_ids)?;
        let key = self.vault.replace_profiles(&organization, id, &profiles).await?;
        Ok(ReplaceProfilesResponse { api_key: Some(key.into()) })
    }

    async fn batch_assign(
        &self,
        request: Request<BatchAssignProfilesRequest>,
    ) -> Result<BatchAssignProfilesResponse, Error> {
        peer(&request)?;
        let batch = convert::batch(request.into_inner())?;
        let count = self.vault.batch_assign(&batch.organization, &batch.ids, &batch.profiles).await?;
        Ok(BatchAssignProfilesResponse { assigned_count: i32::try_from(count).unwrap_or(i32::MAX) })
    }

    async fn profile_keys(&self, request: Request<ListProfileKeysRequest>) -> Result<ListProfileKeysResponse, Error> {
        peer(&request)?;
        let (organization, profile) = convert::profile(request.into_inner())?;
        let keys = self.vault.profile_keys(&organization, &profile).await?;
        Ok(ListProfileKeysResponse { profile_keys: keys.into_iter().map(Into::into).collect() })
    }

    async fn resolve(&self, request: Request<ResolveKeyRequest>) -> Result<ResolveKeyResponse, Error> {
        peer(&request)?;
        let request = request.into_inner();
        let ask = convert::ask(request.organization_id, request.profile_id, request.provider)?;
        Ok(self.vault.resolve(&ask).await?.into())
    }

    async fn explain(&self, request: Request<ExplainResolutionRequest>) -> Result<ExplainResolutionResponse, Error> {
        peer(&request)?;
        let request = request.into_inner();
        let ask = convert::ask(request.organization_id, request.profile_id, request.provider)?;
        Ok(convert::explanation(self.vault.explain(&ask).await?))
    }
}
