//! Who may call a method: decided once, before anything of its message is looked at but the
//! organizations that it is for.

use std::{
    iter::{empty, once},
    sync::Arc,
    time::Instant,
};

use proto::keyvault::{
    AssignProfilesRequest, BatchAssignProfilesRequest, ClearOrganizationDefaultRequest, CreateApiKeyRequest,
    DeleteApiKeyRequest, ErrorReason, ExplainResolutionRequest, GetApiKeyRequest, GetFallbackPolicyRequest,
    GetRewrapStatusRequest, GetSealStatusRequest, ListApiKeysRequest, ListAuditEventsRequest, ListProfileKeysRequest,
    QueryUsageRequest, ReplaceProfilesRequest, ReportKeyUseRequest, ResolveKeyRequest, RewrapKeyEncryptionKeysRequest,
    RollbackApiKeyRequest, RotateApiKeyRequest, RotateKeyEncryptionKeyRequest, SetFallbackPolicyRequest,
    SetOrganizationDefaultRequest, UnassignProfilesRequest, UpdateApiKeyRequest, VerifyAuditLogRequest,
    WatchKeyChangesRequest,
};
use service_runtime::{
    identity::{Refusal, Roles, Standing},
    peer::Peer,
    telemetry,
};
use tonic::Request;

use super::{Error, Rpc};
use crate::access::{Caller, Grant, Role};

/// A request, as far as it matters to who may send it.
pub(super) trait Asked {
    /// The name of its method.
    const METHOD: &'static str;

    /// The organizations that it is for, as the caller wrote them. None if the method is not
    /// for any.
    fn organizations(&self) -> impl Iterator<Item = &str>;
}

/// Somebody who may call a method, and what they may ask of it.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) caller: Caller,
    pub(super) grant: Grant,
    /// Whether they still may, for calls that last.
    pub(super) standing: Standing<Role>,
}

impl Admitted {
    /// Asks again whether the caller of a long call may make it, and for which organizations.
    pub(super) fn renew(&mut self) -> Result<(), Error> {
        let Caller { principal, method, .. } = &self.caller;
        let grant = Grant::of(&self.standing.roles()?, method);
        self.grant = grant.ok_or_else(|| Error::NotAllowed { principal: Arc::clone(principal), method })?;
        Ok(())
    }
}

impl Rpc {
    /// Who calls, if they may. The first line of every method.
    pub(super) async fn admit<M: Asked>(&self, request: Request<M>) -> Result<(Admitted, M), Error> {
        let since = Instant::now();
        let peer = Peer::of(&request).ok_or(Refusal::Nothing)?;
        let extensions = request.extensions();
        let Roles(roles) = extensions.get::<Roles<Role>>().ok_or(Refusal::Nothing)?;
        let standing = extensions.get::<Standing<Role>>().ok_or(Refusal::Nothing)?.clone();
        let caller = Caller {
            principal: peer.principal().clone(),
            authentication: peer.authentication().to_string(),
            address: peer.address(),
            method: M::METHOD,
            trace_id: telemetry::current_trace_id().unwrap_or_default(),
            since,
        };
        let grant = Grant::of(roles, M::METHOD);
        let message = request.into_inner();
        match grant {
            Some(grant) if message.organizations().all(|organization| grant.covers(organization)) => {
                Ok((Admitted { caller, grant, standing }, message))
            }
            Some(_) | None => Err(self.refuse(&caller, message.organizations().next()).await),
        }
    }

    /// Records that a caller may not do what it asks.
    async fn refuse(&self, caller: &Caller, organization: Option<&str>) -> Error {
        // The call is refused, whether the log takes it or not.
        let _ = self.vault.record_refusal(caller, organization, ErrorReason::CallerNotAllowed.wire_name()).await;
        Error::NotAllowed { principal: Arc::clone(&caller.principal), method: caller.method }
    }
}

/// Implements [`Asked`] for messages with an organization, and for those without.
macro_rules! asked {
    ($($message:ty: $method:literal $(, $of:ident)?;)*) => {
        $(impl Asked for $message {
            const METHOD: &'static str = $method;

            fn organizations(&self) -> impl Iterator<Item = &str> {
                asked!(@organization self $($of)?)
            }
        })*
    };
    (@organization $self:ident of_organization) => { once($self.organization_id.as_str()) };
    (@organization $self:ident) => { empty() };
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

    fn organizations(&self) -> impl Iterator<Item = &str> {
        once(self.api_key.as_ref().map_or("", |key| key.organization_id.as_str()))
    }
}

impl Asked for ReportKeyUseRequest {
    const METHOD: &'static str = "ReportKeyUse";

    fn organizations(&self) -> impl Iterator<Item = &str> {
        self.uses.iter().map(|usage| usage.organization_id.as_str())
    }
}
