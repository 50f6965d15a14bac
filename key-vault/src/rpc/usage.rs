//! What keys were used for: taken in from gateways, and read back.

use proto::keyvault::{
    QueryUsageRequest, QueryUsageResponse, ReportKeyUseRequest, ReportKeyUseResponse,
    usage_service_server::UsageService,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Error, Rpc, answer};

#[async_trait]
impl UsageService for Rpc {
    async fn query_usage(&self, request: Request<QueryUsageRequest>) -> Result<Response<QueryUsageResponse>, Status> {
        answer(Box::pin(self.query(request))).await
    }
}

impl Rpc {
    pub(super) async fn report_use(
        &self,
        request: Request<ReportKeyUseRequest>,
    ) -> Result<ReportKeyUseResponse, Error> {
        let (_, _request) = self.admit(request).await?;
        Err(Error::NotYet)
    }

    async fn query(&self, request: Request<QueryUsageRequest>) -> Result<QueryUsageResponse, Error> {
        let (_, _request) = self.admit(request).await?;
        Err(Error::NotYet)
    }
}
