//! What was done and refused, read back and checked.

use proto::keyvault::{ListAuditEventsRequest, ListAuditEventsResponse, VerifyAuditLogRequest, VerifyAuditLogResponse};
use tonic::Request;

use super::{Error, Rpc};

impl Rpc {
    pub(super) async fn list_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<ListAuditEventsResponse, Error> {
        let (_, _request) = self.admit(request).await?;
        Err(Error::NotYet)
    }

    pub(super) async fn verify_log(
        &self,
        request: Request<VerifyAuditLogRequest>,
    ) -> Result<VerifyAuditLogResponse, Error> {
        let (_, _request) = self.admit(request).await?;
        Err(Error::NotYet)
    }
}
