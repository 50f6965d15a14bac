//! Messages about what keys were used for.

use std::collections::HashSet;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use proto::{keyvault as pb, types};
use serde::{Deserialize, Serialize};
use service_runtime::fields::{Check, Invalid};
use uuid::Uuid;

use super::{
    Result, key_id, optional_provider, organization, other_token, page_size, page_token, profile_id, required_provider,
    timestamp,
};
use crate::{
    key::{KeyId, ProfileId, Provider, Source},
    usage::{Cell, Dimension, Gap, GapKind, Hour, KeyUse, Labels, Outcome, Report, Row, Tokens, UsageQuery},
};

/// As many uses as one report may have: one transaction of some milliseconds.
const USES_MAX: usize = 500;

/// How late a use may be reported: after any outage that a gateway lives through. What is
/// older comes from a clock that is wrong. The ledger goes back further.
const USE_AGE_MAX: TimeDelta = TimeDelta::days(30);

/// More tokens than any call has, and so few that a sum of them fits its column for ever.
const TOKENS_MAX: i64 = 1_000_000_000;

const MODEL_CHARS_MAX: usize = 256;

const ROWS_DEFAULT: usize = 100;

/// The time that is asked for unless the caller says.
const SPAN_DEFAULT: TimeDelta = TimeDelta::days(30);

/// Reads a report. Times are held against `now`.
pub(in crate::rpc) fn key_use_report(request: pb::ReportKeyUseRequest, now: DateTime<Utc>) -> Result<Report> {
    if request.uses.len() > USES_MAX {
        return Err(Invalid::new("uses", format_args!("may be {USES_MAX} at most")));
    }
    let mut check = Check::default();
    let reporter = check.take(uuid("reporter_id", &request.reporter_id));
    check.number("dropped_count", Some(request.dropped_count), 0, i64::MAX);
    let (Some(reporter), true) = (reporter, check.passed()) else { return Err(check.failed()) };
    let mut uses = Vec::with_capacity(request.uses.len());
    let mut ids = HashSet::new();
    for (n, message) in request.uses.into_iter().enumerate() {
        let call = key_use(&message, now).map_err(|invalid| invalid.within(&format!("uses[{n}].")))?;
        if ids.insert(call.report_id) {
            uses.push(call);
        }
    }
    Ok(Report { reporter, uses, dropped: request.dropped_count, last: request.r#final })
}

fn key_use(message: &pb::KeyUse, now: DateTime<Utc>) -> Result<KeyUse> {
    let mut check = Check::default();
    let report_id = check.take(uuid("report_id", &message.report_id));
    let organization = check.take(organization(message.organization_id.clone()));
    let profile = check.take(match message.profile_id.clone() {
        None => Ok(None),
        Some(text) => profile_id("profile_id".to_owned(), text).map(Some),
    });
    let provider = check.take(required_provider(message.provider));
    let key = check.take(used_key(message));
    let model = check.take(model(&message.model));
    let outcome = check.take(outcome(message.outcome()));
    let tokens = tokens(message, &mut check);
    let time = check.take(use_time(message.use_time, now));
    let (Some(report_id), Some(organization), Some(profile), Some(provider), Some((source, key, version)), true) =
        (report_id, organization, profile, provider, key, check.passed())
    else {
        return Err(check.failed());
    };
    let (Some(model), Some(outcome), Some(time)) = (model, outcome, time) else { return Err(check.failed()) };
    let cell = Cell { organization, hour: Hour::of(time), profile, provider, key, version, source, model };
    Ok(KeyUse { report_id, cell, outcome, tokens, time })
}

/// The key of a use, which only the environment's has not.
fn used_key(message: &pb::KeyUse) -> Result<(Source, Option<KeyId>, i64)> {
    let source = match message.source() {
        types::Source::Profile => Source::Profile,
        types::Source::OrganizationDefault => Source::OrganizationDefault,
        types::Source::Environment => Source::Environment,
        types::Source::Unspecified => {
            let problem = "must be SOURCE_PROFILE, SOURCE_ORGANIZATION_DEFAULT or SOURCE_ENVIRONMENT";
            return Err(Invalid::new("source", problem));
        }
    };
    if source == Source::Environment {
        return match (message.api_key_id.as_str(), message.version) {
            ("", 0) => Ok((source, None, 0)),
            ("", _) => Err(Invalid::new("version", "must be 0 for SOURCE_ENVIRONMENT")),
            _ => Err(Invalid::new("api_key_id", "must be empty for SOURCE_ENVIRONMENT")),
        };
    }
    let mut check = Check::default();
    let key = check.take(key_id("api_key_id", &message.api_key_id));
    check.number("version", Some(message.version), 1, i64::MAX);
    match key {
        Some(key) if check.passed() => Ok((source, Some(key), message.version)),
        _ => Err(check.failed()),
    }
}

fn tokens(message: &pb::KeyUse, check: &mut Check) -> Tokens {
    let mut count = |path, value: Option<i64>| {
        check.number(path, value, 0, TOKENS_MAX);
        value.unwrap_or(0)
    };
    Tokens {
        input: count("input_tokens", message.input_tokens),
        cached_input: count("cached_input_tokens", message.cached_input_tokens),
        cache_write: count("cache_write_tokens", message.cache_write_tokens),
        output: count("output_tokens", message.output_tokens),
        reasoning: count("reasoning_tokens", message.reasoning_tokens),
    }
}

fn outcome(outcome: pb::key_use::Outcome) -> Result<Outcome> {
    match outcome {
        pb::key_use::Outcome::Complete => Ok(Outcome::Complete),
        pb::key_use::Outcome::Partial => Ok(Outcome::Partial),
        pb::key_use::Outcome::Failed => Ok(Outcome::Failed),
        pb::key_use::Outcome::Rejected => Ok(Outcome::Rejected),
        pb::key_use::Outcome::Unspecified => Err(Invalid::new("outcome", "must say how the call ended")),
    }
}

fn use_time(time: Option<prost_types::Timestamp>, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
    let time = point("use_time", time)?.ok_or_else(|| Invalid::new("use_time", "is required"))?.min(now);
    if time < now - USE_AGE_MAX {
        return Err(Invalid::new("use_time", format_args!("must be within {} days", USE_AGE_MAX.num_days())));
    }
    Ok(time.trunc_subsecs(6))
}

fn model(text: &str) -> Result<String> {
    if !(1..=MODEL_CHARS_MAX).contains(&text.chars().count()) || text.chars().any(char::is_control) {
        let problem = format_args!("must have 1 to {MODEL_CHARS_MAX} characters, without control characters");
        return Err(Invalid::new("model", problem));
    }
    Ok(text.to_owned())
}

fn uuid(path: &str, text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| Invalid::new(path, "must be a UUID"))
}

/// A time within those that a `Timestamp` may say.
fn point(path: &str, time: Option<prost_types::Timestamp>) -> Result<Option<DateTime<Utc>>> {
    const SECONDS_MIN: i64 = -62_135_596_800;
    const SECONDS_MAX: i64 = 253_402_300_799;
    let Some(time) = time else { return Ok(None) };
    u32::try_from(time.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000 && (SECONDS_MIN..=SECONDS_MAX).contains(&time.seconds))
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos))
        .map(Some)
        .ok_or_else(|| Invalid::new(path, "must be a time of the years 1 to 9999"))
}

/// A part of an answer about usage that was asked for.
#[derive(Debug)]
pub(in crate::rpc) struct UsageQuestion {
    pub(in crate::rpc) query: UsageQuery,
    pub(in crate::rpc) after: Option<Labels>,
    pub(in crate::rpc) size: usize,
    /// The query as it was asked.
    text: String,
}

/// What a page token says: "now" is the same on all pages.
#[derive(Serialize, Deserialize)]
struct Place {
    start: i64,
    end: i64,
    after: Labels,
}

impl UsageQuestion {
    /// The token of the page after `after`.
    pub(in crate::rpc) fn token(&self, after: Labels) -> String {
        let place = Place { start: self.query.hours.start.0, end: self.query.hours.end.0, after };
        // Plain texts and numbers: this does not fail.
        page_token::write(&self.text, &serde_json::to_vec(&place).unwrap_or_default())
    }
}

/// Reads a query. "Now" is `now`.
pub(in crate::rpc) fn usage_question(request: pb::QueryUsageRequest, now: DateTime<Utc>) -> Result<UsageQuestion> {
    let text = question_text(&request);
    let mut check = Check::default();
    let organization = check.take(organization(request.organization_id));
    let start = check.take(point("start_time", request.start_time));
    let end = check.take(point("end_time", request.end_time));
    let profile = check.take(unless_empty(request.profile_id, |text| profile_id("profile_id".to_owned(), text)));
    let key = check.take(unless_empty(request.api_key_id, |text| key_id("api_key_id", &text)));
    let provider = check.take(optional_provider(request.provider));
    let model = check.take(unless_empty(request.model, |text| model(&text)));
    let dimensions = check.take(dimensions(&request.group_by));
    let size = check.take(page_size(request.page_size, ROWS_DEFAULT));
    let (Some(organization), Some(start), Some(end), Some(dimensions), Some(size)) =
        (organization, start, end, dimensions, size)
    else {
        return Err(check.failed());
    };
    let (Some(profile), Some(key), Some(provider), Some(model)) = (profile, key, provider, model) else {
        return Err(check.failed());
    };
    let end = end.unwrap_or(now);
    let start = start.unwrap_or(end - SPAN_DEFAULT);
    if start >= end {
        return Err(Invalid::new("start_time", "must be before end_time"));
    }
    let hours = Hour::of(start)..Hour::from(end);
    let query = UsageQuery { organization, hours, profile, key, provider, model, dimensions };
    let mut question = UsageQuestion { query, after: None, size, text };
    if !request.page_token.is_empty() {
        let place = page_token::read(&question.text, &request.page_token);
        let place: Option<Place> = place.and_then(|place| serde_json::from_slice(&place).ok());
        let place = place.filter(|place| is_text(&place.after)).ok_or_else(other_token)?;
        question.query.hours = Hour(place.start)..Hour(place.end);
        question.after = Some(place.after);
    }
    Ok(question)
}

/// Whether a database takes the texts of a token that somebody may have written.
fn is_text(labels: &Labels) -> bool {
    let profile = labels.profile.as_ref().map_or("", ProfileId::as_str);
    !labels.model.contains('\0') && !profile.contains('\0')
}

/// What no other query has. Of the texts only the last may have line breaks.
fn question_text(request: &pb::QueryUsageRequest) -> String {
    let pb::QueryUsageRequest { organization_id, profile_id, api_key_id, provider, model, group_by, .. } = request;
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
    let (start, end) = (time(request.start_time), time(request.end_time));
    format!(
        "usage\n{organization_id}\n{start:?}\n{end:?}\n{profile_id}\n{api_key_id}\n{provider}\n{group_by:?}\n{model}"
    )
}

fn unless_empty<T>(text: String, read: impl FnOnce(String) -> Result<T>) -> Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

/// The dimensions that were asked for, each once. A version is one of a key.
fn dimensions(numbers: &[i32]) -> Result<Vec<Dimension>> {
    use pb::UsageDimension as Asked;
    let mut dimensions = Vec::new();
    for (n, number) in numbers.iter().enumerate() {
        let named: &[Dimension] = match Asked::try_from(*number) {
            Ok(Asked::Profile) => &[Dimension::Profile],
            Ok(Asked::Key) => &[Dimension::Key],
            Ok(Asked::Version) => &[Dimension::Key, Dimension::Version],
            Ok(Asked::Provider) => &[Dimension::Provider],
            Ok(Asked::Model) => &[Dimension::Model],
            Ok(Asked::Day) => &[Dimension::Day],
            Ok(Asked::Hour) => &[Dimension::Hour],
            Ok(Asked::Source) => &[Dimension::Source],
            Ok(Asked::Unspecified) | Err(_) => {
                return Err(Invalid::new(format!("group_by[{n}]"), "must be a dimension of usage"));
            }
        };
        for dimension in named {
            if !dimensions.contains(dimension) {
                dimensions.push(*dimension);
            }
        }
    }
    Ok(dimensions)
}

/// A row as it is told, for a query.
pub(in crate::rpc) fn usage_row(query: &UsageQuery, row: Row) -> pb::UsageRow {
    let Row { labels, sums } = row;
    let has = |dimension| query.dimensions.contains(&dimension);
    let start = if has(Dimension::Hour) {
        Some(Hour(labels.hour))
    } else {
        has(Dimension::Day).then(|| Hour::of_day(labels.day))
    };
    pb::UsageRow {
        profile_id: labels.profile.as_ref().map_or("", ProfileId::as_str).to_owned(),
        api_key_id: labels.key.map(|key| key.to_string()).unwrap_or_default(),
        version: labels.version,
        provider: labels.provider.map_or(types::Provider::Unspecified, Provider::into).into(),
        model: labels.model,
        start_time: start.map(|hour| timestamp(hour.start())),
        source: labels.source.map_or(types::Source::Unspecified, Source::into).into(),
        call_count: sums.calls,
        partial_count: sums.partial,
        failed_count: sums.failed,
        rejected_count: sums.rejected,
        input_tokens: sums.tokens.input,
        cached_input_tokens: sums.tokens.cached_input,
        cache_write_tokens: sums.tokens.cache_write,
        output_tokens: sums.tokens.output,
        reasoning_tokens: sums.tokens.reasoning,
        partial_input_tokens: sums.partial_input,
        partial_output_tokens: sums.partial_output,
    }
}

/// A gap as it is told.
pub(in crate::rpc) fn usage_gap(gap: Gap) -> pb::UsageGap {
    let kind = match gap.kind {
        GapKind::Lost => pb::usage_gap::Kind::Lost,
        GapKind::Dropped => pb::usage_gap::Kind::Dropped,
    };
    pb::UsageGap {
        kind: kind.into(),
        reporter_id: gap.reporter.to_string(),
        principal: gap.principal,
        last_report_time: Some(timestamp(gap.complete_until)),
        dropped_count: gap.dropped,
    }
}
