//! Commands on the audit log.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prost_types::Timestamp;
use proto::{
    keyvault::{
        AuditEvent, AuditProblem, ListAuditEventsRequest, ListAuditEventsResponse, VerifyAuditLogRequest,
        VerifyAuditLogResponse, audit_event::Decision, vault_admin_service_client::VaultAdminServiceClient,
    },
    types::{Provider, Source},
};
use service_runtime::client::Wire;
use tokio::time::sleep;
use tonic::{Code, Status};

use super::{output, session};
use crate::config::{AuditCommand, AuditFilter, ConnectionOptions, DecisionName, Output, SourceName};

/// A page of events that are filtered by what has no index may take a while.
const CALL_MAX: Duration = Duration::from_mins(1);

/// The largest page there is.
const PAGE_SIZE: i32 = 1_000;

/// How many events `tail` begins with.
const TAIL_FIRST: usize = 10;

/// How often `tail` asks for more.
const TAIL_INTERVAL: Duration = Duration::from_secs(1);

/// How late an event can come into sight after others with a later id: as long as a replica
/// tries to write it, and somewhat for clocks that differ.
const TAIL_LATE: Duration = Duration::from_secs(15);

pub(super) async fn run(command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::List { connection, filter, oldest_first, limit, output } => {
            let request = ListAuditEventsRequest { oldest_first, ..request(*filter) };
            Auditor::open(&connection, output)?.list(request, usize::try_from(limit)?).await
        }
        AuditCommand::Tail { connection, filter, output } => {
            Auditor::open(&connection, output)?.tail(request(*filter)).await
        }
        AuditCommand::Verify { connection, output } => Auditor::open(&connection, output)?.verify().await,
        AuditCommand::Export { connection, filter } => {
            Auditor::open(&connection, Output::Json)?.export(request(*filter)).await
        }
    }
}

/// A connection to a vault, on behalf of an auditor.
struct Auditor {
    admin: VaultAdminServiceClient<Wire>,
    output: Output,
}

impl Auditor {
    fn open(options: &ConnectionOptions, output: Output) -> anyhow::Result<Self> {
        let channel = session::connect(options, CALL_MAX)?;
        Ok(Self { admin: VaultAdminServiceClient::new(channel), output })
    }

    async fn list(mut self, mut request: ListAuditEventsRequest, limit: usize) -> anyhow::Result<()> {
        let mut all = ListAuditEventsResponse::default();
        loop {
            request.page_size = i32::try_from(limit - all.events.len()).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
            let page = self.admin.list_audit_events(request.clone()).await?.into_inner();
            all.events.extend(page.events);
            all.next_page_token = page.next_page_token;
            if all.next_page_token.is_empty() || all.events.len() >= limit {
                break;
            }
            request.page_token.clone_from(&all.next_page_token);
        }
        match self.output {
            Output::Json => output::json("ListAuditEventsResponse", &all)?,
            Output::Table => {
                output::events(&all.events);
                if !all.next_page_token.is_empty() {
                    output::note("there are more: ask for them with --limit, or for fewer with a filter");
                }
            }
        }
        Ok(())
    }

    async fn tail(mut self, mut request: ListAuditEventsRequest) -> anyhow::Result<()> {
        request.page_size = PAGE_SIZE;
        let mut last = self.admin.list_audit_events(request.clone()).await?.into_inner().events;
        // What was listed last. What is listed again is not new.
        let mut seen: BTreeSet<String> = last.iter().map(|event| event.event_id.clone()).collect();
        last.truncate(TAIL_FIRST);
        last.reverse();
        self.show(&last)?;
        request.oldest_first = true;
        loop {
            sleep(TAIL_INTERVAL).await;
            request.start_time = Some(Timestamp::from(SystemTime::now() - TAIL_LATE));
            match self.page_through(&request, &seen).await {
                Ok(listed) => seen = listed,
                // It is restarted, or its database is: the next question finds what came meanwhile.
                Err(error) if error.downcast_ref::<Status>().is_some_and(|s| s.code() == Code::Unavailable) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Shows the events of all pages that are not among `seen`. Returns the ids of all.
    async fn page_through(
        &mut self,
        request: &ListAuditEventsRequest,
        seen: &BTreeSet<String>,
    ) -> anyhow::Result<BTreeSet<String>> {
        let mut request = request.clone();
        let mut events = Vec::new();
        loop {
            let page = self.admin.list_audit_events(request.clone()).await?.into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let listed = events.iter().map(|event| event.event_id.clone()).collect();
        events.retain(|event| !seen.contains(&event.event_id));
        self.show(&events)?;
        Ok(listed)
    }

    async fn verify(mut self) -> anyhow::Result<()> {
        let target =
            if self.output == Output::Table { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(ProgressStyle::with_template("{spinner} {human_pos} events, {per_sec}")?);
        let mut request = VerifyAuditLogRequest::default();
        let mut problems: Vec<AuditProblem> = Vec::new();
        let last = loop {
            let part = self.admin.verify_audit_log(request.clone()).await?.into_inner();
            bar.set_position(part.event_count.unsigned_abs());
            problems.extend(part.problems.iter().cloned());
            if part.next_page_token.is_empty() {
                break part;
            }
            request.page_token = part.next_page_token;
        };
        bar.finish_and_clear();
        let all = VerifyAuditLogResponse { problems, ..last };
        match self.output {
            Output::Json => output::json("VerifyAuditLogResponse", &all)?,
            Output::Table => output::verification(&all),
        }
        match all.problems.first() {
            None if all.valid => Ok(()),
            None => bail!("the audit log is not as it was written"),
            Some(first) => bail!(
                "the audit log is not as it was written: event {} of chain {:?}: {}",
                first.sequence,
                first.chain_id,
                first.detail
            ),
        }
    }

    async fn export(mut self, mut request: ListAuditEventsRequest) -> anyhow::Result<()> {
        request.oldest_first = true;
        request.page_size = PAGE_SIZE;
        loop {
            let page = self.admin.list_audit_events(request.clone()).await?.into_inner();
            output::messages("AuditEvent", &page.events)?;
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            request.page_token = page.next_page_token;
        }
    }

    fn show(&self, events: &[AuditEvent]) -> anyhow::Result<()> {
        match self.output {
            Output::Json => output::messages("AuditEvent", events),
            Output::Table => {
                events.iter().for_each(output::event);
                Ok(())
            }
        }
    }
}

fn request(filter: AuditFilter) -> ListAuditEventsRequest {
    let ago =
        |duration: Option<Duration>| duration.and_then(|ago| SystemTime::now().checked_sub(ago)).map(Timestamp::from);
    ListAuditEventsRequest {
        organization_id: filter.organization.unwrap_or_default(),
        principal: filter.principal.unwrap_or_default(),
        action: filter.action.unwrap_or_default(),
        api_key_id: filter.key.unwrap_or_default(),
        profile_id: filter.profile.unwrap_or_default(),
        provider: filter.provider.map_or(Provider::Unspecified, Provider::from).into(),
        source: filter.source.map_or(Source::Unspecified, Source::from).into(),
        decision: filter.decision.map_or(Decision::Unspecified, Decision::from).into(),
        trace_id: filter.trace.unwrap_or_default(),
        start_time: ago(filter.since),
        end_time: ago(filter.until),
        oldest_first: false,
        page_size: 0,
        page_token: String::new(),
    }
}

impl From<SourceName> for Source {
    fn from(name: SourceName) -> Self {
        match name {
            SourceName::Profile => Self::Profile,
            SourceName::OrganizationDefault => Self::OrganizationDefault,
            SourceName::Environment => Self::Environment,
        }
    }
}

impl From<DecisionName> for Decision {
    fn from(name: DecisionName) -> Self {
        match name {
            DecisionName::Allowed => Self::Allowed,
            DecisionName::Denied => Self::Denied,
            DecisionName::Failed => Self::Failed,
        }
    }
}
