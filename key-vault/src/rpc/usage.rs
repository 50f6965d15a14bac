//! What keys were used for: taken in from gateways, and read back.

use chrono::Utc;
use proto::keyvault::{
    QueryUsageRequest, QueryUsageResponse, ReportKeyUseRequest, ReportKeyUseResponse,
    usage_service_server::UsageService,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Error, Rpc, answer, convert};

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
        let (admitted, request) = self.admit(request).await?;
        let asked = request.uses.len();
        let report = convert::key_use_report(request, Utc::now())?;
        let accepted = self.vault.report_use(&admitted.caller.principal, &report).await?;
        let count = |uses| i32::try_from(uses).unwrap_or(i32::MAX);
        Ok(ReportKeyUseResponse { accepted_count: count(accepted), duplicate_count: count(asked - accepted) })
    }

    async fn query(&self, request: Request<QueryUsageRequest>) -> Result<QueryUsageResponse, Error> {
        let (_, request) = self.admit(request).await?;
        let question = convert::usage_question(request, Utc::now())?;
        // Asked for first: what is reported between the two is then in the rows too.
        let gaps = match question.after {
            None => self.vault.usage_gaps(&question.query.hours).await?,
            Some(_) => Vec::new(),
        };
        let page = self.vault.usage(&question.query, question.after.as_ref(), question.size).await?;
        Ok(QueryUsageResponse {
            next_page_token: page.next_after.map_or_else(String::new, |after| question.token(after)),
            rows: page.rows.into_iter().map(|row| convert::usage_row(&question.query, row)).collect(),
            gaps: gaps.into_iter().map(convert::usage_gap).collect(),
        })
    }
}
