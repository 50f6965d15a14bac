//! Who may call a method: decided once, before anything of its message is looked at but the
//! organization that it is for.

use std::time::Instant;

use proto::keyvault::{
    AssignProfilesRequest, BatchAssignProfilesRequest, ClearOrganizationDefaultRequest, CreateApiKeyRequest,
    DeleteApiKeyRequest, ExplainResolutionRequest, GetApiKeyRequest, GetFallbackPolicyRequest, GetRewrapStatusRequest,
    GetSealStatusRequest, ListApiKeysRequest, ListAuditEventsRequest, ListProfileKeysRequest, QueryUsageRequest,
    ReplaceProfilesRequest, ReportKeyUseRequest, ResolveKeyRequest, RewrapKeyEncryptionKeysRequest,
    RollbackApiKeyRequest, RotateApiKeyRequest, RotateKeyEncryptionKeyRequest, SetFallbackPolicyRequest,
    SetOrganizationDefaultRequest, UnassignProfilesRequest, UpdateApiKeyRequest, VerifyAuditLogRequest,
    WatchKeyChangesRequest,
};
use service_runtime::{peer::Peer, telemetry};
use tonic::Request;

use super::{Error, Rpc};
use crate::access::Caller;

/// A request, as far as it matters to who may send it.
pub(super) trait Asked {
    /// The name of its method.
    const METHOD: &'static str;

    /// The organization that it is for, as the caller wrote it. `None` if the method is not
    /// for one.
    fn organization(&self) -> Option<&str>;
}

impl Rpc {
    /// Who calls, if they may. The first line of every method.
    pub(super) async fn admit<M: Asked>(&self, request: Request<M>) -> Result<(Caller, M), Error> {
        let since = Instant::now();
        let Some(peer) = Peer::of(&request) else {
            let caller = Caller::unknown(M::METHOD, telemetry::current_trace_id().unwrap_or_default(), since);
            let organization = request.get_ref().organization();
            self.vault.record_refusal(&caller, organization, "CALLER_UNAUTHENTICATED").await?;
            return Err(Error::NoPeer);
        };
        let caller = Caller {
            principal: peer.principal().clone(),
            authentication: peer.authentication().to_string(),
            address: peer.address(),
            method: M::METHOD,
            trace_id: telemetry::current_trace_id().unwrap_or_default(),
            since,
        };
        Ok((caller, request.into_inner()))
    }
}

/// Implements [`Asked`] for messages with an organization, and for those without.
macro_rules! asked {
    ($($message:ty: $method:literal $(, $of:ident)?;)*) => {
        $(impl Asked for $message {
            const METHOD: &'static str = $method;

            fn organization(&self) -> Option<&str> {
                asked!(@organization self $($of)?)
            }
        })*
    };
    (@organization $self:ident of_organization) => { Some(&$self.organization_id) };
    (@organization $self:ident) => { None };
}

asked! {
    AssignProfilesRequest: "AssignProfiles", of_organization;
    BatchAssignProfilesRequest: "BatchAssignProfiles", of_organization;
    ClearOrganizationDefaultRequest: "ClearOrganizationDefault", of_organization;
    CreateApiKeyRequest: "CreateApiKey", of_organization;
    DeleteApiKeyRequest: "DeleteApiKey", of_organization;
    ExplainResolutionRequest: "ExplainResolution", of_organization;
    GetApiKeyRequest: "GetApiKey", of_organization;
    GetFallbackPolicyRequest: "GetFallbackPolicy", of_organization;
    GetRewrapStatusRequest: "GetRewrapStatus";
    GetSealStatusRequest: "GetSealStatus";
    ListApiKeysRequest: "ListApiKeys", of_organization;
    ListAuditEventsRequest: "ListAuditEvents";
    ListProfileKeysRequest: "ListProfileKeys", of_organization;
    QueryUsageRequest: "QueryUsage", of_organization;
    ReplaceProfilesRequest: "ReplaceProfiles", of_organization;
    ReportKeyUseRequest: "ReportKeyUse";
    ResolveKeyRequest: "ResolveKey", of_organization;
    RewrapKeyEncryptionKeysRequest: "RewrapKeyEncryptionKeys";
    RollbackApiKeyRequest: "RollbackApiKey", of_organization;
    RotateApiKeyRequest: "RotateApiKey", of_organization;
    RotateKeyEncryptionKeyRequest: "RotateKeyEncryptionKey";
    SetFallbackPolicyRequest: "SetFallbackPolicy", of_organization;
    SetOrganizationDefaultRequest: "SetOrganizationDefault", of_organization;
    UnassignProfilesRequest: "UnassignProfiles", of_organization;
    VerifyAuditLogRequest: "VerifyAuditLog";
    WatchKeyChangesRequest: "WatchKeyChanges";
}

impl Asked for UpdateApiKeyRequest {
    const METHOD: &'static str = "UpdateApiKey";

    fn organization(&self) -> Option<&str> {
        Some(self.api_key.as_ref().map_or("", |key| &key.organization_id))
    }
}
