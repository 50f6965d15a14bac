//! Fallback policies.

use proto::keyvault::{
    GetFallbackPolicyRequest, GetFallbackPolicyResponse, SetFallbackPolicyRequest, SetFallbackPolicyResponse,
};
use tonic::Request;

use super::{Error, Rpc};

impl Rpc {
    pub(super) async fn set_policy(
        &self,
        request: Request<SetFallbackPolicyRequest>,
    ) -> Result<SetFallbackPolicyResponse, Error> {
        let (_mutation, _request) = self.admit_mutation(request).await?;
        Err(Error::NotYet)
    }

    pub(super) async fn policy(
        &self,
        request: Request<GetFallbackPolicyRequest>,
    ) -> Result<GetFallbackPolicyResponse, Error> {
        let (_, _request) = self.admit(request).await?;
        Err(Error::NotYet)
    }
}
