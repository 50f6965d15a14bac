//! What every mutation says beside its content: who asks, the id of the request, and the
//! state of the key that it is based on.

use proto::keyvault::{
    AssignProfilesRequest, BatchAssignProfilesRequest, ClearOrganizationDefaultRequest, CreateApiKeyRequest,
    DeleteApiKeyRequest, ReplaceProfilesRequest, RollbackApiKeyRequest, RotateApiKeyRequest,
    SetOrganizationDefaultRequest, UnassignProfilesRequest, UpdateApiKeyRequest,
};
use service_runtime::fields::Invalid;
use tonic::Request;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Error, peer};
use crate::vault::{Mutation, Repeatable};

/// A request that changes something.
pub(super) trait Mutating: prost::Message {
    /// The name of its method: the same id may not be used for two of them.
    const METHOD: &'static str;

    /// Takes the id of the request out of it.
    fn take_request_id(&mut self) -> String;

    /// The etag of the key, if it says one.
    fn etag(&self) -> &str;
}

/// Takes a request apart: what it says as every mutation does, and the rest.
pub(super) fn of<M: Mutating>(request: Request<M>) -> Result<(Mutation, M), Error> {
    let principal = peer(&request)?.principal().to_owned();
    let mut message = request.into_inner();
    let id = message.take_request_id();
    let request = if id.is_empty() {
        None
    } else {
        let id = Uuid::try_parse(&id).map_err(|_| Invalid::new("request_id", "must be a UUID, or empty"))?;
        // The fields in the order of their numbers: one content, one form.
        Some(Repeatable { id, method: M::METHOD, content: Zeroizing::new(message.encode_to_vec()) })
    };
    let etag = Some(message.etag()).filter(|etag| !etag.is_empty()).map(str::to_owned);
    Ok((Mutation { principal, request, etag }, message))
}

/// Implements [`Mutating`] for messages with an etag, and for those without.
macro_rules! mutating {
    ($($message:ty: $method:literal $(, $etag:ident)?;)*) => {
        $(impl Mutating for $message {
            const METHOD: &'static str = $method;

            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }

            fn etag(&self) -> &str {
                mutating!(@etag self $($etag)?)
            }
        })*
    };
    (@etag $self:ident etag) => { &$self.etag };
    (@etag $self:ident) => { "" };
}

mutating! {
    CreateApiKeyRequest: "CreateApiKey";
    UpdateApiKeyRequest: "UpdateApiKey", etag;
    RotateApiKeyRequest: "RotateApiKey", etag;
    RollbackApiKeyRequest: "RollbackApiKey", etag;
    DeleteApiKeyRequest: "DeleteApiKey", etag;
    SetOrganizationDefaultRequest: "SetOrganizationDefault", etag;
    ClearOrganizationDefaultRequest: "ClearOrganizationDefault";
    AssignProfilesRequest: "AssignProfiles", etag;
    UnassignProfilesRequest: "UnassignProfiles", etag;
    ReplaceProfilesRequest: "ReplaceProfiles", etag;
    BatchAssignProfilesRequest: "BatchAssignProfiles";
}
