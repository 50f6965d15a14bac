//! What callers can ask: the generated traits, each method the same few lines.
//!
//! Who calls, what do they ask, do it. Everything that can be refused about a message is
//! refused in `convert`; every failure becomes a status in `failure`.

mod admin;
mod admission;
mod audit;
mod convert;
mod failure;
mod mutation;
mod page_token;
mod policy;
mod usage;

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use proto::keyvault::{
    AssignProfilesRequest, AssignProfilesResponse, BatchAssignProfilesRequest, BatchAssignProfilesResponse,
    ClearOrganizationDefaultRequest, ClearOrganizationDefaultResponse, CreateApiKeyRequest, CreateApiKeyResponse,
    DeleteApiKeyRequest, DeleteApiKeyResponse, ExplainResolutionRequest, ExplainResolutionResponse, GetApiKeyRequest,
    GetApiKeyResponse, GetFallbackPolicyRequest, GetFallbackPolicyResponse, ListApiKeysRequest, ListApiKeysResponse,
    ListProfileKeysRequest, ListProfileKeysResponse, ReplaceProfilesRequest, ReplaceProfilesResponse,
    ReportKeyUseRequest, ReportKeyUseResponse, ResolveKeyRequest, ResolveKeyResponse, RollbackApiKeyRequest,
    RollbackApiKeyResponse, RotateApiKeyRequest, RotateApiKeyResponse, SetFallbackPolicyRequest,
    SetFallbackPolicyResponse, SetOrganizationDefaultRequest, SetOrganizationDefaultResponse, UnassignProfilesRequest,
    UnassignProfilesResponse, UpdateApiKeyRequest, UpdateApiKeyResponse, WatchKeyChangesRequest,
    WatchKeyChangesResponse,
    api_key_service_server::{ApiKeyService, ApiKeyServiceServer},
    key_resolution_service_server::{KeyResolutionService, KeyResolutionServiceServer},
    usage_service_server::UsageServiceServer,
    vault_admin_service_server::VaultAdminServiceServer,
};
use service_runtime::{
    drain::{Drain, Farewell},
    failure::Failure,
    fields,
    health::Service,
    identity::{Identities, Refusal},
    readiness::Readiness,
    server::Served,
    telemetry,
};
use tokio::time::timeout;
use tonic::{Request, Response, Status, async_trait, service::Routes};
use tracing::debug;

use crate::{
    access::{self, Caller, Role},
    vault::{self, AUDIT, KEYRING, News, STORE, Vault, Watcher},
};
use admission::Admitted;
use convert::Rotation;

/// The largest request. A key with 1,000 profiles takes 131 KiB.
const REQUEST_BYTES_MAX: usize = 256 * 1024;

/// How long a call may take. Longer than a connection and a lock of the database are waited
/// for together, shorter than a caller would wait.
const CALL_MAX: Duration = Duration::from_secs(15);

/// Calls that one connection may have open. A gateway resolves in milliseconds and keeps
/// one watch; 256 at once are thousands a second.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;

/// Why an RPC was refused or failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the caller is not known")]
    Unknown(#[from] Refusal),
    #[error("{principal} may not call {method}")]
    NotAllowed { principal: Arc<str>, method: &'static str },
    #[error("the request is not valid")]
    Invalid(#[from] fields::Invalid),
    #[error("the call took longer than {0:?}")]
    TooSlow(Duration),
    #[error(transparent)]
    Vault(#[from] vault::Error),
}

/// What the services cannot do their work without. Secrets managers are not among it: keys that
/// are open serve on.
const SERVICES: &[Service] = &[
    Service { name: "archestra.keyvault.v1.ApiKeyService", needs: &[STORE, KEYRING] },
    Service { name: "archestra.keyvault.v1.KeyResolutionService", needs: &[STORE, KEYRING, AUDIT] },
    Service { name: "archestra.keyvault.v1.UsageService", needs: &[STORE] },
    Service { name: "archestra.keyvault.v1.VaultAdminService", needs: &[STORE] },
];

/// The services of a vault.
pub(crate) fn served(vault: Arc<Vault>, identities: Identities<Role>, readiness: Readiness) -> Served<Role> {
    let unknown = Arc::clone(&vault);
    let rpc = Arc::new(Rpc { vault });
    let keys = ApiKeyServiceServer::from_arc(Arc::clone(&rpc)).max_decoding_message_size(REQUEST_BYTES_MAX);
    let resolution =
        KeyResolutionServiceServer::from_arc(Arc::clone(&rpc)).max_decoding_message_size(REQUEST_BYTES_MAX);
    let usage = UsageServiceServer::from_arc(Arc::clone(&rpc)).max_decoding_message_size(REQUEST_BYTES_MAX);
    let admin = VaultAdminServiceServer::from_arc(rpc).max_decoding_message_size(REQUEST_BYTES_MAX);
    Served {
        identities,
        refuse: Arc::new(move |path, address, refusal| refuse_unknown(&unknown, path, address, refusal)),
        routes: Routes::new(keys).add_service(resolution).add_service(usage).add_service(admin),
        services: SERVICES,
        readiness,
        // No call waits for the end by itself; the server cuts those that are left.
        drain: Drain::default(),
        farewell: Farewell { refused: failure::stopping, cut: failure::cut_off },
        descriptors: proto::FILE_DESCRIPTOR_SET,
        too_large: failure::too_large,
        fault_of: failure::fault_of,
        routine: &["archestra.keyvault.v1.KeyResolutionService/ReportKeyUse"],
        streams_per_connection_max: STREAMS_PER_CONNECTION_MAX,
    }
}

/// The answer to a caller who is not known, of which the log takes note.
fn refuse_unknown(vault: &Vault, path: &str, address: Option<SocketAddr>, refusal: &Refusal) -> Failure {
    let trace_id = telemetry::current_trace_id().unwrap_or_default();
    let caller = Caller::unknown(access::method(path), refusal.name(), address, trace_id);
    let failure = failure::refused(refusal);
    debug!(address = address.map(display), method = caller.method, cause = refusal.name(), "a caller is not known");
    vault.note_unknown(&caller, failure.reason());
    failure
}

#[derive(Debug)]
struct Rpc {
    vault: Arc<Vault>,
}

/// Turns a method's body into what tonic sends.
async fn answer<T>(body: impl Future<Output = Result<T, Error>>) -> Result<Response<T>, Status> {
    answer_within(CALL_MAX, body).await
}

async fn answer_within<T>(
    limit: Duration,
    body: impl Future<Output = Result<T, Error>>,
) -> Result<Response<T>, Status> {
    let outcome = timeout(limit, body).await.unwrap_or(Err(Error::TooSlow(limit)));
    outcome.map(Response::new).map_err(refused)
}

fn refused(error: impl Into<Error>) -> Status {
    Failure::from(error.into()).into()
}

/// What a watcher is sent.
type Changes = Pin<Box<dyn Stream<Item = Result<WatchKeyChangesResponse, Status>> + Send>>;

#[async_trait]
impl ApiKeyService for Rpc {
    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        answer(Box::pin(self.create(request))).await
    }

    async fn get_api_key(&self, request: Request<GetApiKeyRequest>) -> Result<Response<GetApiKeyResponse>, Status> {
        answer(Box::pin(self.get(request))).await
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        answer(Box::pin(self.list(request))).await
    }

    async fn update_api_key(
        &self,
        request: Request<UpdateApiKeyRequest>,
    ) -> Result<Response<UpdateApiKeyResponse>, Status> {
        answer(Box::pin(self.update(request))).await
    }

    async fn rotate_api_key(
        &self,
        request: Request<RotateApiKeyRequest>,
    ) -> Result<Response<RotateApiKeyResponse>, Status> {
        answer(Box::pin(self.rotate(request))).await
    }

    async fn rollback_api_key(
        &self,
        request: Request<RollbackApiKeyRequest>,
    ) -> Result<Response<RollbackApiKeyResponse>, Status> {
        answer(Box::pin(self.roll_back(request))).await
    }

    async fn delete_api_key(
        &self,
        request: Request<DeleteApiKeyRequest>,
    ) -> Result<Response<DeleteApiKeyResponse>, Status> {
        answer(Box::pin(self.delete(request))).await
    }

    async fn set_organization_default(
        &self,
        request: Request<SetOrganizationDefaultRequest>,
    ) -> Result<Response<SetOrganizationDefaultResponse>, Status> {
        answer(Box::pin(self.set_default(request))).await
    }

    async fn clear_organization_default(
        &self,
        request: Request<ClearOrganizationDefaultRequest>,
    ) -> Result<Response<ClearOrganizationDefaultResponse>, Status> {
        answer(Box::pin(self.clear_default(request))).await
    }

    async fn assign_profiles(
        &self,
        request: Request<AssignProfilesRequest>,
    ) -> Result<Response<AssignProfilesResponse>, Status> {
        answer(Box::pin(self.assign(request))).await
    }

    async fn unassign_profiles(
        &self,
        request: Request<UnassignProfilesRequest>,
    ) -> Result<Response<UnassignProfilesResponse>, Status> {
        answer(Box::pin(self.unassign(request))).await
    }

    async fn replace_profiles(
        &self,
        request: Request<ReplaceProfilesRequest>,
    ) -> Result<Response<ReplaceProfilesResponse>, Status> {
        answer(Box::pin(self.replace(request))).await
    }

    async fn batch_assign_profiles(
        &self,
        request: Request<BatchAssignProfilesRequest>,
    ) -> Result<Response<BatchAssignProfilesResponse>, Status> {
        answer(Box::pin(self.batch_assign(request))).await
    }

    async fn list_profile_keys(
        &self,
        request: Request<ListProfileKeysRequest>,
    ) -> Result<Response<ListProfileKeysResponse>, Status> {
        answer(Box::pin(self.profile_keys(request))).await
    }

    async fn set_fallback_policy(
        &self,
        request: Request<SetFallbackPolicyRequest>,
    ) -> Result<Response<SetFallbackPolicyResponse>, Status> {
        answer(Box::pin(self.set_policy(request))).await
    }

    async fn get_fallback_policy(
        &self,
        request: Request<GetFallbackPolicyRequest>,
    ) -> Result<Response<GetFallbackPolicyResponse>, Status> {
        answer(Box::pin(self.policy(request))).await
    }
}

#[async_trait]
impl KeyResolutionService for Rpc {
    type WatchKeyChangesStream = Changes;

    async fn watch_key_changes(&self, request: Request<WatchKeyChangesRequest>) -> Result<Response<Changes>, Status> {
        answer(Box::pin(self.watch(request))).await
    }

    async fn resolve_key(&self, request: Request<ResolveKeyRequest>) -> Result<Response<ResolveKeyResponse>, Status> {
        answer(Box::pin(self.resolve(request))).await
    }

    async fn explain_resolution(
        &self,
        request: Request<ExplainResolutionRequest>,
    ) -> Result<Response<ExplainResolutionResponse>, Status> {
        answer(Box::pin(self.explain(request))).await
    }

    async fn report_key_use(
        &self,
        request: Request<ReportKeyUseRequest>,
    ) -> Result<Response<ReportKeyUseResponse>, Status> {
        answer(Box::pin(self.report_use(request))).await
    }
}

impl Rpc {
    async fn create(&self, request: Request<CreateApiKeyRequest>) -> Result<CreateApiKeyResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let new = convert::new_key(request)?;
        let key = self.vault.create(&mutation, new).await?;
        Ok(CreateApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn get(&self, request: Request<GetApiKeyRequest>) -> Result<GetApiKeyResponse, Error> {
        let (_, request) = self.admit(request).await?;
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let key = self.vault.get(&organization, id).await?;
        Ok(GetApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn list(&self, request: Request<ListApiKeysRequest>) -> Result<ListApiKeysResponse, Error> {
        let (_, request) = self.admit(request).await?;
        let listing = convert::listing(request)?;
        let filter = listing.filter();
        let page = self.vault.list(&listing.organization, filter, listing.after, listing.size).await?;
        let next_page_token = page.next_after.map_or_else(String::new, |after| listing.token(after));
        let environment_fallbacks = self
            .vault
            .environment_fallbacks(&listing.organization, filter.profile)
            .await?
            .into_iter()
            .filter(|provider| listing.provider.is_none_or(|wanted| wanted == *provider))
            .map(convert::environment_fallback)
            .collect();
        let api_keys = page.keys.into_iter().map(Into::into).collect();
        Ok(ListApiKeysResponse { api_keys, environment_fallbacks, next_page_token })
    }

    async fn update(&self, request: Request<UpdateApiKeyRequest>) -> Result<UpdateApiKeyResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let update = convert::update(request)?;
        let (name, state) = (update.name.as_ref(), update.state);
        let key = self.vault.update(&mutation, &update.organization, update.id, name, state).await?;
        Ok(UpdateApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn rotate(&self, request: Request<RotateApiKeyRequest>) -> Result<RotateApiKeyResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let Rotation { organization, id, material, keep_previous_for } = convert::rotation(request)?;
        let key = self.vault.rotate(&mutation, &organization, id, &material, keep_previous_for).await?;
        Ok(RotateApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn roll_back(&self, request: Request<RollbackApiKeyRequest>) -> Result<RollbackApiKeyResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let key = self.vault.roll_back(&mutation, &organization, id).await?;
        Ok(RollbackApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn delete(&self, request: Request<DeleteApiKeyRequest>) -> Result<DeleteApiKeyResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let key = self.vault.delete(&mutation, &organization, id).await?;
        Ok(DeleteApiKeyResponse { api_key: Some(key.into()) })
    }

    async fn set_default(
        &self,
        request: Request<SetOrganizationDefaultRequest>,
    ) -> Result<SetOrganizationDefaultResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let key = self.vault.set_default(&mutation, &organization, id).await?;
        Ok(SetOrganizationDefaultResponse { api_key: Some(key.into()) })
    }

    async fn clear_default(
        &self,
        request: Request<ClearOrganizationDefaultRequest>,
    ) -> Result<ClearOrganizationDefaultResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let (organization, provider) = convert::default(request)?;
        let before = self.vault.clear_default(&mutation, &organization, provider).await?;
        Ok(ClearOrganizationDefaultResponse { api_key_id: before.map(|id| id.to_string()).unwrap_or_default() })
    }

    async fn assign(&self, request: Request<AssignProfilesRequest>) -> Result<AssignProfilesResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let profiles = convert::some_profiles(request.profile_ids)?;
        let key = self.vault.assign(&mutation, &organization, id, &profiles).await?;
        Ok(AssignProfilesResponse { api_key: Some(key.into()) })
    }

    async fn unassign(&self, request: Request<UnassignProfilesRequest>) -> Result<UnassignProfilesResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let profiles = convert::some_profiles(request.profile_ids)?;
        let key = self.vault.unassign(&mutation, &organization, id, &profiles).await?;
        Ok(UnassignProfilesResponse { api_key: Some(key.into()) })
    }

    async fn replace(&self, request: Request<ReplaceProfilesRequest>) -> Result<ReplaceProfilesResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let (organization, id) = convert::key(request.organization_id, &request.api_key_id)?;
        let profiles = convert::profiles(request.profile_ids)?;
        let key = self.vault.replace_profiles(&mutation, &organization, id, &profiles).await?;
        Ok(ReplaceProfilesResponse { api_key: Some(key.into()) })
    }

    async fn batch_assign(
        &self,
        request: Request<BatchAssignProfilesRequest>,
    ) -> Result<BatchAssignProfilesResponse, Error> {
        let (mutation, request) = self.admit_mutation(request).await?;
        let batch = convert::batch(request)?;
        let count = self.vault.batch_assign(&mutation, &batch.organization, &batch.ids, &batch.profiles).await?;
        Ok(BatchAssignProfilesResponse { assigned_count: i32::try_from(count).unwrap_or(i32::MAX) })
    }

    async fn profile_keys(&self, request: Request<ListProfileKeysRequest>) -> Result<ListProfileKeysResponse, Error> {
        let (_, request) = self.admit(request).await?;
        let (organization, profile) = convert::profile(request)?;
        let keys = self.vault.profile_keys(&organization, &profile).await?;
        Ok(ListProfileKeysResponse { profile_keys: keys.into_iter().map(Into::into).collect() })
    }

    async fn resolve(&self, request: Request<ResolveKeyRequest>) -> Result<ResolveKeyResponse, Error> {
        let (Admitted { caller, .. }, request) = self.admit(request).await?;
        let ask = convert::ask(request.organization_id, request.profile_id, request.provider)?;
        Ok(self.vault.resolve(&caller, &ask).await?.into())
    }

    async fn explain(&self, request: Request<ExplainResolutionRequest>) -> Result<ExplainResolutionResponse, Error> {
        let (_, request) = self.admit(request).await?;
        let ask = convert::ask(request.organization_id, request.profile_id, request.provider)?;
        Ok(convert::explanation(self.vault.explain(&ask).await?))
    }

    async fn watch(&self, request: Request<WatchKeyChangesRequest>) -> Result<Changes, Error> {
        let (admitted, request) = self.admit(request).await?;
        let (from, epoch) = convert::watch(&request)?;
        Ok(Box::pin(changes(self.vault.watch(from, epoch).await?, admitted)))
    }
}

/// What a watcher is told of its organizations, until it leaves, may not watch any more, or
/// the watch ends with a failure.
fn changes(watcher: Watcher, admitted: Admitted) -> impl Stream<Item = Result<WatchKeyChangesResponse, Status>> {
    stream::unfold(Some((watcher, admitted)), |watch| async {
        let (mut watcher, mut admitted) = watch?;
        loop {
            let news = match watcher.next().await {
                Ok(news) => admitted.renew().map(|()| news),
                Err(error) => Err(error.into()),
            };
            match news {
                Ok(News::Change(change)) if !admitted.grant.covers(change.organization.as_str()) => {}
                Ok(news) => return Some((Ok(news.into()), Some((watcher, admitted)))),
                Err(error) => return Some((Err(refused(error)), None)),
            }
        }
    })
}
