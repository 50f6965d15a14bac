//! The ledger of what keys were used for.
//!
//! Odd: a report does not raise the revision, so reports do not take turns with changes of
//! keys, nor with each other. Those that meet in a row wait for it: rows are written in one
//! order everywhere, so that no two wait for each other.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, Condition, ConnectionTrait as _, EntityTrait as _, Iden as _, Iterable as _, QueryFilter as _,
    QueryOrder as _, QueryResult, QuerySelect as _, QueryTrait as _,
    sea_query::{Expr, ExprTrait as _, OnConflict, Order, Query},
};
use uuid::Uuid;

use super::{
    Bounded, Error, Result, Store, commit,
    entity::{api_key, key_use, usage_hour, usage_report, usage_reporter},
    row,
};
use crate::{
    key::{KeyId, ProfileId, Source},
    usage::{
        Cell, Dimension, Hour, KeyUse, Labels, Report, Reporter, Row, Sums, Tokens, UsageQuery, last_uses, summed,
    },
};

/// How long the id of a report is remembered.
const REMEMBERED_FOR: Duration = Duration::hours(24);

/// How many ids one statement deletes, so that it holds a lock for milliseconds.
const DELETED_AT_ONCE: u64 = 10_000;

/// The sums of a row.
const COUNTS: [usage_hour::Column; 11] = {
    use usage_hour::Column;
    [
        Column::CallCount,
        Column::PartialCount,
        Column::FailedCount,
        Column::RejectedCount,
        Column::InputTokens,
        Column::CachedInputTokens,
        Column::CacheWriteTokens,
        Column::OutputTokens,
        Column::ReasoningTokens,
        Column::PartialInputTokens,
        Column::PartialOutputTokens,
    ]
};

impl Store {
    /// Counts the uses of a report that were not counted before, all or none, and notes that
    /// the reporter is alive. Returns how many were counted.
    pub(crate) async fn count_uses(&self, principal: &str, report: &Report) -> Result<usize> {
        let tx = self.transaction().await?;
        let new = remember(&tx, &report.uses).await?;
        let uses: Vec<&KeyUse> = report.uses.iter().filter(|call| new.contains(&call.report_id)).collect();
        add(&tx, summed(uses.iter().copied())).await?;
        note_keys(&tx, &uses).await?;
        note_reporter(&tx, principal, report).await?;
        commit(tx).await?;
        Ok(uses.len())
    }

    /// Rows of an answer in their order, at most `limit`, after `after`.
    pub(crate) async fn usage(&self, query: &UsageQuery, after: Option<&Labels>, limit: usize) -> Result<Vec<Row>> {
        let mut select = Query::select();
        select.from(usage_hour::Entity).cond_where(matching(query));
        for dimension in &query.dimensions {
            let value = || expression(*dimension);
            select.expr_as(value(), name(*dimension)).add_group_by([value()]).order_by_expr(value(), Order::Asc);
        }
        for count in COUNTS {
            // A sum of PostgreSQL is not an integer, and one of nothing is NULL.
            let count = count.to_string();
            select.expr_as(Expr::cust(format!("CAST(COALESCE(SUM({count}), 0) AS BIGINT)")), count);
        }
        if let Some(after) = after {
            let columns = query.dimensions.iter().map(|dimension| expression(*dimension));
            let values = query.dimensions.iter().map(|dimension| value(*dimension, after));
            select.and_where(Expr::tuple(columns).gt(Expr::tuple(values)));
        }
        let rows = self.reader().await?.query_all(select.limit(limit as u64)).await?;
        rows.iter().map(|row| stored(row, &query.dimensions)).collect()
    }

    /// Reporters of whose uses some may be missing from a time, at most `limit`: those that did
    /// not end, and were last heard of before `silent_since` but have told nothing later than
    /// the time, from `lost_from` on, and those that dropped some in it.
    pub(crate) async fn reporters_with_gaps(
        &self,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        silent_since: DateTime<Utc>,
        lost_from: DateTime<Utc>,
        limit: u64,
    ) -> Result<Vec<Reporter>> {
        use usage_reporter::Column;
        let lost = Condition::all()
            .add(Column::Ended.eq(false))
            .add(Column::SeenTime.lt(silent_since))
            .add(Column::CompleteUntil.gte(lost_from))
            .add(Column::CompleteUntil.lt(end));
        let dropped = Condition::all().add(Column::DroppedFrom.lt(end)).add(Column::DroppedUntil.gte(start));
        let rows = usage_reporter::Entity::find()
            .filter(Condition::any().add(lost).add(dropped))
            .order_by_desc(Column::SeenTime)
            .limit(limit)
            .all(&self.reader().await?)
            .await?;
        Ok(rows.into_iter().map(reporter).collect())
    }

    /// Forgets the ids of reports that nobody may repeat any more, a limited number of them.
    pub(crate) async fn forget_reports(&self) -> Result<()> {
        use usage_report::Column;
        let tx = self.transaction().await?;
        let old = usage_report::Entity::find()
            .select_only()
            .column(Column::ReportId)
            .filter(Column::CreateTime.lt(row::now() - REMEMBERED_FOR))
            .order_by_asc(Column::CreateTime)
            .limit(DELETED_AT_ONCE)
            .into_query();
        usage_report::Entity::delete_many().filter(Column::ReportId.in_subquery(old)).exec(&tx).await?;
        commit(tx).await
    }

    /// Forgets what was used before a time: one hour of it, and reporters.
    pub(crate) async fn forget_usage(&self, before: DateTime<Utc>) -> Result<()> {
        use usage_hour::Column;
        let oldest: Option<Option<i64>> = usage_hour::Entity::find()
            .select_only()
            .column_as(Column::Hour.min(), "oldest")
            .into_tuple()
            .one(&self.reader().await?)
            .await?;
        let tx = self.transaction().await?;
        if let Some(oldest) = oldest.flatten().filter(|oldest| Hour(*oldest) < Hour::of(before)) {
            usage_hour::Entity::delete_many().filter(Column::Hour.eq(oldest)).exec(&tx).await?;
        }
        usage_reporter::Entity::delete_many().filter(usage_reporter::Column::SeenTime.lt(before)).exec(&tx).await?;
        commit(tx).await
    }
}

/// Remembers the ids of uses. Returns those that were not known.
async fn remember(tx: &Bounded<'_>, uses: &[KeyUse]) -> Result<HashSet<Uuid>> {
    use usage_report::{ActiveModel, Column, Entity};
    if uses.is_empty() {
        return Ok(HashSet::new());
    }
    let mut ids: Vec<Uuid> = uses.iter().map(|call| call.report_id).collect();
    ids.sort_unstable();
    let now = row::now();
    let rows = ids.into_iter().map(|id| ActiveModel { report_id: Set(id), create_time: Set(now) });
    let mut insert = Entity::insert_many(rows)
        .on_conflict(OnConflict::column(Column::ReportId).do_nothing().to_owned())
        .into_query();
    let new = tx.query_all(insert.returning_col(Column::ReportId)).await?;
    Ok(new.iter().map(|row| row.try_get("", "report_id")).collect::<std::result::Result<_, _>>()?)
}

/// Adds sums to those that are there.
async fn add(tx: &Bounded<'_>, sums: BTreeMap<Cell, Sums>) -> Result<()> {
    if sums.is_empty() {
        return Ok(());
    }
    let mut conflict = OnConflict::columns(usage_hour::PrimaryKey::iter());
    for count in COUNTS {
        let name = count.to_string();
        conflict.value(count, Expr::cust(format!("usage_hour.{name} + excluded.{name}")));
    }
    let rows = sums.into_iter().map(|(cell, sums)| new_row(cell, &sums));
    usage_hour::Entity::insert_many(rows).on_conflict(conflict).exec_without_returning(tx).await?;
    Ok(())
}

fn new_row(cell: Cell, sums: &Sums) -> usage_hour::ActiveModel {
    usage_hour::ActiveModel {
        organization_id: Set(cell.organization.as_str().to_owned()),
        hour: Set(cell.hour.0),
        profile_id: Set(profile_text(cell.profile.as_ref())),
        provider: Set(cell.provider.name().to_owned()),
        api_key_id: Set(key_uuid(cell.key)),
        version: Set(cell.version),
        source: Set(cell.source.name().to_owned()),
        asked_for: Set(cell.model),
        call_count: Set(sums.calls),
        partial_count: Set(sums.partial),
        failed_count: Set(sums.failed),
        rejected_count: Set(sums.rejected),
        input_tokens: Set(sums.tokens.input),
        cached_input_tokens: Set(sums.tokens.cached_input),
        cache_write_tokens: Set(sums.tokens.cache_write),
        output_tokens: Set(sums.tokens.output),
        reasoning_tokens: Set(sums.tokens.reasoning),
        partial_input_tokens: Set(sums.partial_input),
        partial_output_tokens: Set(sums.partial_output),
    }
}

/// Notes when keys were used and refused. Keys that the organization does not have are passed
/// over: they were deleted, or are another's, of which nobody else may say anything.
async fn note_keys(tx: &Bounded<'_>, uses: &[&KeyUse]) -> Result<()> {
    use key_use::{ActiveModel, Column, Entity};
    let last = last_uses(uses.iter().copied());
    let owners: Vec<(Uuid, String)> = api_key::Entity::find()
        .select_only()
        .columns([api_key::Column::ApiKeyId, api_key::Column::OrganizationId])
        .filter(api_key::Column::ApiKeyId.is_in(last.keys().map(|(key, _)| key.0)))
        .into_tuple()
        .all(tx)
        .await?;
    let owners: HashMap<Uuid, String> = owners.into_iter().collect();
    let rows: Vec<ActiveModel> = last
        .into_iter()
        .filter(|((key, organization), _)| owners.get(&key.0).is_some_and(|owner| owner == organization.as_str()))
        .map(|((key, _), last)| ActiveModel {
            api_key_id: Set(key.0),
            last_used_time: Set(Some(last.used)),
            last_rejected_time: Set(last.rejected),
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let conflict = OnConflict::column(Column::ApiKeyId)
        .value(Column::LastUsedTime, later("key_use", "last_used_time"))
        .value(Column::LastRejectedTime, later("key_use", "last_rejected_time"))
        .to_owned();
    Entity::insert_many(rows).on_conflict(conflict).exec_without_returning(tx).await?;
    Ok(())
}

/// Notes that a reporter is alive, and how far it has reported.
async fn note_reporter(tx: &Bounded<'_>, principal: &str, report: &Report) -> Result<()> {
    use usage_reporter::{ActiveModel, Column, Entity};
    let now = row::now();
    let times = || report.uses.iter().map(|call| call.time);
    let dropped = report.dropped > 0;
    let row = ActiveModel {
        principal: Set(principal.to_owned()),
        reporter_id: Set(report.reporter),
        seen_time: Set(now),
        // Uses come oldest first: what ended after the last of them may still be on its way.
        complete_until: Set(times().max().unwrap_or(now)),
        ended: Set(report.last),
        dropped_count: Set(report.dropped),
        // What is dropped is younger than what waits.
        dropped_from: Set(dropped.then(|| times().min().unwrap_or(now))),
        dropped_until: Set(dropped.then_some(now)),
    };
    let if_more_dropped = |column: &str, then: &str| {
        Expr::cust(format!(
            "CASE WHEN excluded.dropped_count > usage_reporter.dropped_count THEN {then} \
             ELSE usage_reporter.{column} END"
        ))
    };
    let conflict = OnConflict::columns([Column::Principal, Column::ReporterId])
        .value(Column::SeenTime, later("usage_reporter", "seen_time"))
        .value(Column::CompleteUntil, later("usage_reporter", "complete_until"))
        // A report that comes late, after the last one, takes nothing back.
        .value(Column::Ended, Expr::cust("usage_reporter.ended OR excluded.ended"))
        .value(
            Column::DroppedFrom,
            if_more_dropped("dropped_from", "COALESCE(usage_reporter.dropped_from, excluded.dropped_from)"),
        )
        .value(Column::DroppedUntil, if_more_dropped("dropped_until", "excluded.dropped_until"))
        .value(Column::DroppedCount, if_more_dropped("dropped_count", "excluded.dropped_count"))
        .to_owned();
    Entity::insert(row).on_conflict(conflict).exec_without_returning(tx).await?;
    Ok(())
}

/// The later of the time that is there, if any, and the one that comes, if any.
fn later(table: &str, column: &str) -> Expr {
    Expr::cust(format!(
        "CASE WHEN {table}.{column} IS NULL OR excluded.{column} > {table}.{column} THEN excluded.{column} \
         ELSE {table}.{column} END"
    ))
}

fn matching(query: &UsageQuery) -> Condition {
    use usage_hour::Column;
    Condition::all()
        .add(Column::OrganizationId.eq(query.organization.as_str()))
        .add(Column::Hour.gte(query.hours.start.0))
        .add(Column::Hour.lt(query.hours.end.0))
        .add_option(query.profile.as_ref().map(|profile| Column::ProfileId.eq(profile.as_str())))
        .add_option(query.key.map(|key| Column::ApiKeyId.eq(key.0)))
        .add_option(query.provider.map(|provider| Column::Provider.eq(provider.name())))
        .add_option(query.model.as_ref().map(|model| Column::AskedFor.eq(model)))
}

/// A dimension, as statements compute it.
fn expression(dimension: Dimension) -> Expr {
    match dimension {
        Dimension::Day => Expr::cust("hour / 24"),
        _ => Expr::col(name(dimension)),
    }
}

/// A dimension's name: its column, but for the day.
fn name(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Profile => "profile_id",
        Dimension::Key => "api_key_id",
        Dimension::Version => "version",
        Dimension::Provider => "provider",
        Dimension::Source => "source",
        Dimension::Model => "model",
        Dimension::Day => "day",
        Dimension::Hour => "hour",
    }
}

/// What a row says of a dimension, as statements compare it.
fn value(dimension: Dimension, labels: &Labels) -> Expr {
    match dimension {
        Dimension::Profile => Expr::value(profile_text(labels.profile.as_ref())),
        Dimension::Key => Expr::value(key_uuid(labels.key)),
        Dimension::Version => Expr::value(labels.version),
        Dimension::Provider => Expr::value(labels.provider.map_or("", |provider| provider.name())),
        Dimension::Source => Expr::value(labels.source.map_or("", Source::name)),
        Dimension::Model => Expr::value(labels.model.as_str()),
        Dimension::Day => Expr::value(labels.day),
        Dimension::Hour => Expr::value(labels.hour),
    }
}

fn stored(row: &QueryResult, dimensions: &[Dimension]) -> Result<Row> {
    let mut labels = Labels::default();
    for dimension in dimensions {
        let name = name(*dimension);
        match dimension {
            Dimension::Profile => labels.profile = profile(row.try_get("", name)?)?,
            Dimension::Key => labels.key = Some(row.try_get("", name)?).filter(|id: &Uuid| !id.is_nil()).map(KeyId),
            Dimension::Version => labels.version = row.try_get("", name)?,
            Dimension::Provider => labels.provider = Some(row::provider(&row.try_get::<String>("", name)?)?),
            Dimension::Source => labels.source = Some(source(&row.try_get::<String>("", name)?)?),
            Dimension::Model => labels.model = row.try_get("", name)?,
            Dimension::Day => labels.day = row.try_get("", name)?,
            Dimension::Hour => labels.hour = row.try_get("", name)?,
        }
    }
    let count = |column: usage_hour::Column| row.try_get("", &column.to_string());
    let [
        calls,
        partial,
        failed,
        rejected,
        input,
        cached_input,
        cache_write,
        output,
        reasoning,
        partial_input,
        partial_output,
    ] = COUNTS.map(count);
    Ok(Row {
        labels,
        sums: Sums {
            calls: calls?,
            partial: partial?,
            failed: failed?,
            rejected: rejected?,
            tokens: Tokens {
                input: input?,
                cached_input: cached_input?,
                cache_write: cache_write?,
                output: output?,
                reasoning: reasoning?,
            },
            partial_input: partial_input?,
            partial_output: partial_output?,
        },
    })
}

fn reporter(row: usage_reporter::Model) -> Reporter {
    Reporter {
        id: row.reporter_id,
        principal: row.principal,
        seen: row.seen_time,
        complete_until: row.complete_until,
        ended: row.ended,
        dropped: row.dropped_count,
        dropped_between: row.dropped_from.zip(row.dropped_until),
    }
}

/// A column takes no NULL in a primary key: no profile has an empty id.
fn profile_text(profile: Option<&ProfileId>) -> String {
    profile.map_or("", ProfileId::as_str).to_owned()
}

/// The same for keys: none has the nil id.
fn key_uuid(key: Option<KeyId>) -> Uuid {
    key.map_or(Uuid::nil(), |key| key.0)
}

fn profile(text: String) -> Result<Option<ProfileId>> {
    if text.is_empty() {
        return Ok(None);
    }
    ProfileId::try_from(text).map(Some).map_err(|_| Error::Damaged("a profile's id"))
}

fn source(text: &str) -> Result<Source> {
    Source::from_name(text).ok_or(Error::Damaged("a source"))
}
