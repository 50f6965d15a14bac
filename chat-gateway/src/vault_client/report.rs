//! Reports of what keys were used for.

use std::{error::Error as StdError, time::Duration};

use proto::{
    keyvault::{
        KeyUse as Message, ReportKeyUseRequest, key_resolution_service_client::KeyResolutionServiceClient, key_use,
    },
    types,
};
use service_runtime::client::Wire;
use tonic::{Code, Request, Status};

use super::{
    VaultClient, cause,
    replicas::{Failed, Limits},
};
use crate::usage::{KeyUse, Outcome, Report};

/// The longest wait for the vault to take a report.
const REPORT_MAX: Duration = Duration::from_secs(4);

/// Why the vault did not take a report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// It may take it later, and has counted it already or not.
    #[error("the key-vault is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// It will not take it.
    #[error("the key-vault refuses the report")]
    Refused(#[source] Box<dyn StdError + Send + Sync>),
    /// It takes no reports: it is of a version before.
    #[error("the key-vault takes no reports")]
    Unserved,
}

impl VaultClient {
    /// Tells the vault what keys were used for. A repeat is counted once.
    pub(crate) async fn report(&self, report: &Report<'_>) -> Result<(), ReportError> {
        let message = ReportKeyUseRequest {
            reporter_id: report.reporter.to_string(),
            uses: report.uses.iter().map(message).collect(),
            dropped_count: count(report.dropped),
            r#final: report.last,
        };
        let report = |mut client: KeyResolutionServiceClient<Wire>, limit| {
            let mut request = Request::new(message.clone());
            request.set_timeout(limit);
            async move { client.report_key_use(request).await }
        };
        // A database that takes its time is the same for all: only a replica that is away is
        // left for another one.
        let limits = Limits { whole: REPORT_MAX, address: REPORT_MAX };
        match self.replicas.ask(limits, report).await {
            Ok(_) => Ok(()),
            Err(Failed::Status(status)) => Err(refused(&status)),
            Err(failed) => Err(ReportError::Unavailable(failed.cause())),
        }
    }
}

fn refused(status: &Status) -> ReportError {
    match status.code() {
        Code::Unimplemented => ReportError::Unserved,
        Code::InvalidArgument | Code::PermissionDenied | Code::OutOfRange | Code::FailedPrecondition => {
            ReportError::Refused(cause(status))
        }
        _ => ReportError::Unavailable(cause(status)),
    }
}

fn message(call: &KeyUse) -> Message {
    let called = &call.called;
    let usage = call.usage.unwrap_or_default();
    let outcome = match call.outcome {
        Outcome::Complete => key_use::Outcome::Complete,
        Outcome::Partial => key_use::Outcome::Partial,
        Outcome::Failed => key_use::Outcome::Failed,
        Outcome::Rejected => key_use::Outcome::Rejected,
    };
    Message {
        report_id: call.report_id.to_string(),
        organization_id: called.organization.to_string(),
        profile_id: called.profile.as_ref().map(ToString::to_string),
        provider: types::Provider::from(called.provider).into(),
        api_key_id: called.api_key_id.clone(),
        version: called.version,
        source: types::Source::from(called.source).into(),
        model: called.model.clone(),
        outcome: outcome.into(),
        input_tokens: usage.input.map(tokens),
        cached_input_tokens: usage.cached_input.map(tokens),
        cache_write_tokens: usage.cache_write.map(tokens),
        output_tokens: usage.output.map(tokens),
        reasoning_tokens: usage.reasoning.map(tokens),
        use_time: Some(call.time.into()),
    }
}

/// The vault refuses counts that no call has: a provider that says one is not believed.
fn tokens(count: u64) -> i64 {
    const TOKENS_MAX: u64 = 1_000_000_000;
    self::count(count.min(TOKENS_MAX))
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
