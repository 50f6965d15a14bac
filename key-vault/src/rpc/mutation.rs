//! What every mutation says beside its content: the id of the request, and the state of the
//! key that it is based on.

use proto::keyvault::{
    AssignProfilesRequest, BatchAssignProfilesRequest, ClearOrganizationDefaultRequest, CreateApiKeyRequest,
    DeleteApiKeyRequest, ReplaceProfilesRequest, RollbackApiKeyRequest, RotateApiKeyRequest, SetFallbackPolicyRequest,
    SetOrganizationDefaultRequest, UnassignProfilesRequest, UpdateApiKeyRequest,
};
use service_runtime::fields::Invalid;
use tonic::Request;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Error, Rpc,
    admission::{Admitted, Asked},
};
use crate::vault::{Mutation, Repeatable};

/// A request that changes something.
pub(super) trait Mutating: Asked + prost::Message {
    /// Takes the id of the request out of it.
    fn take_request_id(&mut self) -> String;

    /// The etag of the key, if it says one.
    fn etag(&self) -> &str;
}

impl Rpc {
    /// Takes a request apart: what it says as every mutation does, and the rest. The first
    /// line of every method that changes something.
    pub(super) async fn admit_mutation<M: Mutating>(&self, request: Request<M>) -> Result<(Mutation, M), Error> {
        let (Admitted { caller, .. }, mut message) = self.admit(request).await?;
        self.vault.count_mutation(&caller, message.organizations().next().unwrap_or_default()).await?;
        let id = message.take_request_id();
        let request = if id.is_empty() {
            None
        } else {
            let id = Uuid::try_parse(&id).map_err(|_| Invalid::new("request_id", "must be a UUID, or empty"))?;
            // The fields in the order of their numbers: one content, one form. The same id may
            // not be used for two methods.
            Some(Repeatable { id, method: M::METHOD, content: Zeroizing::new(message.encode_to_vec()) })
        };
        let etag = Some(message.etag()).filter(|etag| !etag.is_empty()).map(str::to_owned);
        Ok((Mutation { caller, request, etag }, message))
    }
}

/// Implements [`Mutating`] for messages with an etag, and for those without.
macro_rules! mutating {
    ($($message:ty $(: $etag:ident)?;)*) => {
        $(impl Mutating for $message {
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
    CreateApiKeyRequest;
    UpdateApiKeyRequest: etag;
    RotateApiKeyRequest: etag;
    RollbackApiKeyRequest: etag;
    DeleteApiKeyRequest: etag;
    SetOrganizationDefaultRequest: etag;
    ClearOrganizationDefaultRequest;
    AssignProfilesRequest: etag;
    UnassignProfilesRequest: etag;
    ReplaceProfilesRequest: etag;
    BatchAssignProfilesRequest;
    SetFallbackPolicyRequest;
}
