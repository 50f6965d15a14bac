//! What was done and refused, read back and checked.

use proto::keyvault::{ListAuditEventsRequest, ListAuditEventsResponse, VerifyAuditLogRequest, VerifyAuditLogResponse};
use tonic::Request;

use super::{Error, Rpc, convert};

impl Rpc {
    pub(super) async fn list_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<ListAuditEventsResponse, Error> {
        let (_, request) = self.admit(request).await?;
        let listing = convert::event_listing(request)?;
        let page = self.vault.audit_events(&listing.filter, listing.order, listing.after, listing.size).await?;
        let next_page_token = page.next_after.map_or_else(String::new, |after| listing.token(after));
        Ok(ListAuditEventsResponse { events: page.events.into_iter().map(Into::into).collect(), next_page_token })
    }

    pub(super) async fn verify_log(
        &self,
        request: Request<VerifyAuditLogRequest>,
    ) -> Result<VerifyAuditLogResponse, Error> {
        let (_, request) = self.admit(request).await?;
        let cursor = convert::verification(&request)?;
        Ok(convert::verified(self.vault.verify_audit(cursor).await?))
    }
}
