//! What keys were used for, as a table, JSON or CSV.

use std::{io, time::SystemTime};

use anyhow::Context as _;
use chrono::DateTime;
use prost_types::Timestamp;
use proto::{
    keyvault::{
        QueryUsageRequest, QueryUsageResponse, UsageDimension, UsageGap, UsageRow, usage_gap::Kind,
        usage_service_client::UsageServiceClient,
    },
    types::Provider,
};
use service_runtime::client::Wire;

use super::{output, session};
use crate::config::{UsageDimensionName as By, UsageOptions, UsageOutput};

/// A sum of a row: its name in CSV, in a table, and how it is found.
type Count = (&'static str, &'static str, fn(&UsageRow) -> i64);

const COUNTS: [Count; 11] = [
    ("call_count", "CALLS", |row| row.call_count),
    ("partial_count", "PARTIAL", |row| row.partial_count),
    ("failed_count", "FAILED", |row| row.failed_count),
    ("rejected_count", "REJECTED", |row| row.rejected_count),
    ("input_tokens", "INPUT", |row| row.input_tokens),
    ("cached_input_tokens", "CACHED", |row| row.cached_input_tokens),
    ("cache_write_tokens", "CACHE WRITE", |row| row.cache_write_tokens),
    ("output_tokens", "OUTPUT", |row| row.output_tokens),
    ("reasoning_tokens", "REASONING", |row| row.reasoning_tokens),
    ("partial_input_tokens", "PARTIAL INPUT", |row| row.partial_input_tokens),
    ("partial_output_tokens", "PARTIAL OUTPUT", |row| row.partial_output_tokens),
];

pub(super) async fn run(options: UsageOptions) -> anyhow::Result<()> {
    let client = UsageServiceClient::new(session::connect(&options.connection, session::CALL_MAX)?);
    let (by, format) = (options.by.clone(), options.output);
    let usage = all(client, request(options)?).await?;
    match format {
        UsageOutput::Json => return output::json("QueryUsageResponse", &usage),
        UsageOutput::Table => table(&by, &usage.rows),
        UsageOutput::Csv => csv(&by, &usage.rows)?,
    }
    for gap in &usage.gaps {
        output::note(&said(gap));
    }
    Ok(())
}

fn request(options: UsageOptions) -> anyhow::Result<QueryUsageRequest> {
    let since = options.since.map(|since| SystemTime::now().checked_sub(since).context("--since is too long"));
    let start = since.transpose()?.or(options.from.map(SystemTime::from));
    Ok(QueryUsageRequest {
        organization_id: options.organization,
        start_time: start.map(Timestamp::from),
        end_time: options.to.map(|to| SystemTime::from(to).into()),
        profile_id: options.profile.unwrap_or_default(),
        api_key_id: options.key.unwrap_or_default(),
        provider: options.provider.map_or(Provider::Unspecified, Provider::from).into(),
        model: options.model.unwrap_or_default(),
        group_by: options.by.into_iter().map(|by| UsageDimension::from(by).into()).collect(),
        page_size: 1_000,
        page_token: String::new(),
    })
}

/// All pages of an answer.
async fn all(
    mut client: UsageServiceClient<Wire>,
    mut request: QueryUsageRequest,
) -> anyhow::Result<QueryUsageResponse> {
    let mut all = QueryUsageResponse::default();
    loop {
        let page = client.query_usage(request.clone()).await?.into_inner();
        all.rows.extend(page.rows);
        all.gaps.extend(page.gaps);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

fn table(by: &[By], rows: &[UsageRow]) {
    let labels = labels(by);
    // What is nothing in every row is no column, but for what everyone asks for.
    let always = ["call_count", "input_tokens", "output_tokens"];
    let shown = |(name, _, of): &&Count| always.contains(name) || rows.iter().any(|row| of(row) != 0);
    let counts: Vec<_> = COUNTS.iter().filter(shown).collect();
    let header = labels.iter().map(|(_, title, _)| *title).chain(counts.iter().map(|(_, title, _)| *title));
    let mut table = output::table(header);
    for row in rows {
        let labels = labels.iter().map(|(_, _, of)| of(row));
        table.add_row(labels.chain(counts.iter().map(|(_, _, of)| of(row).to_string())).collect::<Vec<_>>());
    }
    output::print(&table.to_string());
}

fn csv(by: &[By], rows: &[UsageRow]) -> anyhow::Result<()> {
    let labels = labels(by);
    let mut out = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(io::stdout().lock());
    out.write_record(labels.iter().map(|(name, ..)| *name).chain(COUNTS.iter().map(|(name, ..)| *name)))?;
    for row in rows {
        let labels = labels.iter().map(|(_, _, of)| of(row));
        out.write_record(labels.chain(COUNTS.iter().map(|(_, _, of)| of(row).to_string())))?;
    }
    out.flush()?;
    Ok(())
}

/// A column that tells rows apart: its name in CSV, in a table, and what a row says.
type Label = (&'static str, &'static str, fn(&UsageRow) -> String);

/// The columns that tell rows apart, each once.
fn labels(by: &[By]) -> Vec<Label> {
    const KEY: Label = ("api_key_id", "KEY", |row| row.api_key_id.clone());
    let mut labels: Vec<Label> = Vec::new();
    for by in by {
        let columns: &[Label] = match by {
            By::Profile => &[("profile_id", "PROFILE", |row| row.profile_id.clone())],
            By::Key => &[KEY],
            By::Version => &[KEY, ("version", "VERSION", |row| row.version.to_string())],
            By::Provider => &[("provider", "PROVIDER", |row| output::provider(row.provider()).to_owned())],
            By::Model => &[("model", "MODEL", |row| row.model.clone())],
            By::Day => &[("day", "DAY", |row| start(row, "%Y-%m-%d"))],
            By::Hour => &[("hour", "HOUR", |row| start(row, "%Y-%m-%dT%H:00:00Z"))],
            By::Source => &[("source", "SOURCE", |row| output::source(row.source()).replace(' ', "_"))],
        };
        labels.extend(
            columns
                .iter()
                .filter(|(name, ..)| !labels.iter().any(|(there, ..)| there == name))
                .copied()
                .collect::<Vec<_>>(),
        );
    }
    labels
}

fn start(row: &UsageRow, format: &str) -> String {
    let time = row.start_time.and_then(|time| DateTime::from_timestamp(time.seconds, 0));
    time.map(|time| time.format(format).to_string()).unwrap_or_default()
}

/// A gap in words.
fn said(gap: &UsageGap) -> String {
    let UsageGap { reporter_id, principal, dropped_count, .. } = gap;
    let time = gap.last_report_time.map(|time| time.to_string()).unwrap_or_default();
    match gap.kind() {
        Kind::Dropped => format!("incomplete: gateway {reporter_id} ({principal}) dropped {dropped_count} reports"),
        Kind::Lost | Kind::Unspecified => {
            format!("incomplete: gateway {reporter_id} ({principal}) fell silent; calls after {time} may be missing")
        }
    }
}

impl From<By> for UsageDimension {
    fn from(by: By) -> Self {
        match by {
            By::Profile => Self::Profile,
            By::Key => Self::Key,
            By::Version => Self::Version,
            By::Provider => Self::Provider,
            By::Model => Self::Model,
            By::Day => Self::Day,
            By::Hour => Self::Hour,
            By::Source => Self::Source,
        }
    }
}
