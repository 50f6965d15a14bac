//! The audit log: events in chains, and where each chain begins and ends.
//!
//! Nothing here knows the key of the MACs. What stands in a row is returned as it is; whether
//! that is as it was written, others find out.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, FromQueryResult as _, QueryFilter as _,
    QueryOrder as _, QueryResult, QuerySelect as _, QueryTrait as _, Select, Statement,
    sea_query::{Expr, ExprTrait as _, Func},
};
use uuid::{NoContext, Timestamp, Uuid};

use super::{
    Bounded, Error, Result, Store, Tx, commit,
    entity::{audit_chain, audit_event, vault_meta},
};
use crate::{
    audit::{Chain, Decision, Event, Filter, Order, Record},
    key::{KeyId, OrganizationId, Provider, Source},
};

/// How far the clock of an id may be from the time that stands beside it.
const CLOCK_STEP_MAX: Duration = Duration::minutes(10);

/// A row that holds what no version of the vault writes.
#[derive(Debug)]
pub(crate) struct Unreadable;

/// How many chains there are, and how many there are said to be.
#[derive(Debug)]
pub(crate) struct ChainCounts {
    /// Those beside the chain of all mutations.
    pub(crate) found: i64,
    /// What the chain of all mutations says. `None` if that is gone.
    pub(crate) recorded: Option<i64>,
}

impl Store {
    /// Begins a transaction that only records. Dropped without [`AuditTx::commit`], it leaves
    /// no trace.
    pub(crate) async fn begin_audit(&self) -> Result<AuditTx> {
        Ok(AuditTx { db: self.audit_transaction().await? })
    }

    /// Events in the order of their ids, at most `limit`, after `after`.
    pub(crate) async fn audit_events(
        &self,
        filter: &Filter,
        order: Order,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        use audit_event::Column;
        let mut query = filtered(filter);
        query = match (order, after) {
            (Order::OldestFirst, Some(after)) => query.filter(Column::EventId.gt(after)),
            (Order::NewestFirst, Some(after)) => query.filter(Column::EventId.lt(after)),
            (_, None) => query,
        };
        query = match order {
            Order::OldestFirst => query.order_by_asc(Column::EventId),
            Order::NewestFirst => query.order_by_desc(Column::EventId),
        };
        let rows = query.limit(limit as u64).all(&self.reader().await?).await?;
        Ok(rows.into_iter().map(stored).collect())
    }

    /// A chain, as its row says.
    pub(crate) async fn audit_chain(&self, id: Uuid) -> Result<Option<Chain>> {
        let row = audit_chain::Entity::find_by_id(id).one(&self.reader().await?).await?;
        Ok(row.map(stored_chain))
    }

    /// The first chain after `after` that has a row, an event, or both.
    pub(crate) async fn audit_chain_after(&self, after: Option<Uuid>) -> Result<Option<Uuid>> {
        let reader = self.reader().await?;
        let mut of_rows = audit_chain::Entity::find().select_only().column(audit_chain::Column::ChainId);
        let mut of_events = audit_event::Entity::find().select_only().column(audit_event::Column::ChainId);
        if let Some(after) = after {
            of_rows = of_rows.filter(audit_chain::Column::ChainId.gt(after));
            of_events = of_events.filter(audit_event::Column::ChainId.gt(after));
        }
        let of_rows: Option<Uuid> =
            of_rows.order_by_asc(audit_chain::Column::ChainId).into_tuple().one(&reader).await?;
        let of_events: Option<Uuid> =
            of_events.order_by_asc(audit_event::Column::ChainId).into_tuple().one(&reader).await?;
        Ok(of_rows.into_iter().chain(of_events).min())
    }

    /// The place of the last event of a chain, or 0.
    pub(crate) async fn audit_last_sequence(&self, chain: Uuid) -> Result<i64> {
        let last: Option<i64> = audit_event::Entity::find()
            .select_only()
            .column(audit_event::Column::Sequence)
            .filter(audit_event::Column::ChainId.eq(chain))
            .order_by_desc(audit_event::Column::Sequence)
            .into_tuple()
            .one(&self.reader().await?)
            .await?;
        Ok(last.unwrap_or(0))
    }

    /// The events of a chain after one place and up to another, at most `limit`.
    pub(crate) async fn audit_records(
        &self,
        chain: Uuid,
        after: i64,
        last: i64,
        limit: u64,
    ) -> Result<Vec<std::result::Result<Record, Unreadable>>> {
        use audit_event::Column;
        let reader = self.reader().await?;
        let query = audit_event::Entity::find()
            .filter(Column::ChainId.eq(chain))
            .filter(Column::Sequence.gt(after))
            .filter(Column::Sequence.lte(last))
            .order_by_asc(Column::Sequence)
            .limit(limit)
            .build(reader.get_database_backend());
        let rows = reader.query_all_raw(query).await?;
        Ok(rows.iter().map(readable).collect())
    }

    /// How many chains there are, at one moment.
    pub(crate) async fn audit_chain_counts(&self, mutations: Uuid) -> Result<ChainCounts> {
        let reader = self.reader().await?;
        let query = "SELECT (SELECT COUNT(*) FROM audit_chain WHERE chain_id <> $1) AS found, \
                     (SELECT chain_count FROM audit_chain WHERE chain_id = $1) AS recorded";
        let query = Statement::from_sql_and_values(reader.get_database_backend(), query, [mutations.into()]);
        let row = reader.query_one_raw(query).await?.ok_or(Error::NotSetUp)?;
        Ok(ChainCounts { found: row.try_get("", "found")?, recorded: row.try_get("", "recorded")? })
    }

    /// The chain of the oldest event before a time, by the ids of events.
    pub(crate) async fn audit_oldest(&self, before: DateTime<Utc>) -> Result<Option<Uuid>> {
        use audit_event::Column;
        let reader = self.reader().await?;
        let with_row = audit_chain::Entity::find().select_only().column(audit_chain::Column::ChainId).into_query();
        let oldest: Option<Uuid> = audit_event::Entity::find()
            .select_only()
            .column(Column::ChainId)
            .filter(Column::EventId.lt(first_id_of(before)))
            .filter(Column::ChainId.in_subquery(with_row))
            .order_by_asc(Column::EventId)
            .into_tuple()
            .one(&reader)
            .await?;
        Ok(oldest)
    }
}

/// A transaction that only records.
#[derive(Debug)]
pub(crate) struct AuditTx {
    db: Bounded<'static>,
}

impl AuditTx {
    /// What can be done to the log in it.
    pub(crate) fn audit(&self) -> AuditRows<'_> {
        AuditRows(&self.db)
    }

    /// Makes everything permanent.
    pub(crate) async fn commit(self) -> Result<()> {
        commit(self.db).await
    }
}

impl Tx {
    /// What can be done to the log in it.
    pub(crate) fn audit(&self) -> AuditRows<'_> {
        AuditRows(&self.db)
    }
}

/// The audit log inside of a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuditRows<'a>(pub(super) &'a Bounded<'static>);

impl AuditRows<'_> {
    /// A chain, which nobody else changes until the transaction ends.
    pub(crate) async fn lock_chain(&self, id: Uuid) -> Result<Option<Chain>> {
        let lock = "UPDATE audit_chain SET sequence = sequence WHERE chain_id = $1 RETURNING *";
        let lock = Statement::from_sql_and_values(self.0.get_database_backend(), lock, [id.into()]);
        let row = self.0.query_one_raw(lock).await?;
        Ok(row.map(|row| audit_chain::Model::from_query_result(&row, "")).transpose()?.map(stored_chain))
    }

    /// Notes that there is an audit log from now on. True if there never was one, and nothing
    /// of one is there.
    pub(crate) async fn begin_log(&self) -> Result<bool> {
        let marked = vault_meta::Entity::update_many()
            .col_expr(vault_meta::Column::AuditLog, Expr::value(true))
            .filter(vault_meta::Column::AuditLog.eq(false))
            .exec(self.0)
            .await?;
        let chain = audit_chain::Entity::find().one(self.0).await?;
        let event = audit_event::Entity::find().one(self.0).await?;
        Ok(marked.rows_affected == 1 && chain.is_none() && event.is_none())
    }

    /// Adds a chain.
    pub(crate) async fn insert_chain(&self, chain: &Chain) -> Result<()> {
        let row = audit_chain::ActiveModel {
            chain_id: Set(chain.id),
            ordinal: Set(chain.ordinal),
            sequence: Set(chain.sequence),
            mac: Set(chain.mac.clone()),
            floor_sequence: Set(chain.floor_sequence),
            floor_mac: Set(chain.floor_mac.clone()),
            chain_count: Set(chain.others),
            seal: Set(chain.seal.clone()),
        };
        audit_chain::Entity::insert(row).exec_without_returning(self.0).await?;
        Ok(())
    }

    /// Replaces what is said of a chain, if it still says `before`.
    pub(crate) async fn replace_chain(&self, before: &Chain, after: &Chain) -> Result<bool> {
        use audit_chain::Column;
        let replaced = audit_chain::Entity::update_many()
            .col_expr(Column::Sequence, Expr::value(after.sequence))
            .col_expr(Column::Mac, Expr::value(after.mac.clone()))
            .col_expr(Column::FloorSequence, Expr::value(after.floor_sequence))
            .col_expr(Column::FloorMac, Expr::value(after.floor_mac.clone()))
            .col_expr(Column::ChainCount, Expr::value(after.others))
            .col_expr(Column::Seal, Expr::value(after.seal.clone()))
            .filter(Column::ChainId.eq(before.id))
            .filter(Column::Sequence.eq(before.sequence))
            .filter(Column::Mac.eq(before.mac.clone()))
            .filter(Column::Seal.eq(before.seal.clone()))
            .exec(self.0)
            .await?;
        Ok(replaced.rows_affected == 1)
    }

    /// Adds the events that come next in a chain, each with its MAC.
    pub(crate) async fn insert(&self, chain: &Chain, events: &[Event], macs: Vec<Vec<u8>>) -> Result<()> {
        let places = chain.sequence + 1..;
        let rows = events.iter().zip(macs).zip(places).map(|((event, mac), n)| new_row(chain.id, n, event, mac));
        audit_event::Entity::insert_many(rows).exec_without_returning(self.0).await?;
        Ok(())
    }

    /// Removes the events of a chain up to a place.
    pub(crate) async fn purge(&self, chain: Uuid, last: i64) -> Result<()> {
        audit_event::Entity::delete_many()
            .filter(audit_event::Column::ChainId.eq(chain))
            .filter(audit_event::Column::Sequence.lte(last))
            .exec(self.0)
            .await?;
        Ok(())
    }
}

fn filtered(filter: &Filter) -> Select<audit_event::Entity> {
    use audit_event::Column;
    let mut query = audit_event::Entity::find();
    let texts = [
        (Column::OrganizationId, filter.organization.as_ref().map(OrganizationId::as_str)),
        (Column::Principal, filter.principal.as_deref()),
        (Column::Action, filter.action.as_deref()),
        (Column::Provider, filter.provider.map(Provider::name)),
        (Column::Source, filter.source.map(Source::name)),
        (Column::Decision, filter.decision.map(Decision::name)),
        (Column::TraceId, filter.trace_id.as_deref()),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            query = query.filter(column.eq(text));
        }
    }
    if let Some(key) = filter.key {
        query = query.filter(Column::ApiKeyId.eq(key.0));
    }
    if let Some(profile) = &filter.profile {
        // A search by LIKE would not mind the case, nor an underscore.
        let all = || Expr::col(Column::ProfileIds);
        let without = Func::cust("replace").args([all(), Expr::value(format!(" {profile} ")), Expr::value("")]);
        query = query.filter(Column::ProfileId.eq(profile.as_str()).or(Expr::expr(without).ne(all())));
    }
    // The id says about when it was, and there is an index of ids.
    if let Some(start) = filter.start {
        query = query.filter(Column::EventTime.gte(start));
        query = query.filter(Column::EventId.gte(first_id_of(start - CLOCK_STEP_MAX)));
    }
    if let Some(end) = filter.end {
        query = query.filter(Column::EventTime.lt(end));
        query = query.filter(Column::EventId.lt(first_id_of(end + CLOCK_STEP_MAX)));
    }
    query
}

/// The least id that an event of a time can have.
fn first_id_of(time: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    let id = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, time.timestamp_subsec_nanos()));
    let mut bytes = id.into_bytes();
    // The first six are the time. The rest is random, but for the version.
    bytes[6..].fill(0);
    Uuid::from_bytes(bytes)
}

fn new_row(chain: Uuid, sequence: i64, event: &Event, mac: Vec<u8>) -> audit_event::ActiveModel {
    audit_event::ActiveModel {
        chain_id: Set(chain),
        sequence: Set(sequence),
        event_id: Set(event.id),
        event_time: Set(event.time),
        principal: Set(event.principal.as_ref().to_owned()),
        authentication: Set(event.authentication.clone()),
        peer_address: Set(event.address.clone()),
        action: Set(event.action.clone().into_owned()),
        organization_id: Set(event.organization.clone()),
        profile_id: Set(event.profile.clone()),
        provider: Set(event.provider.clone().into_owned()),
        api_key_id: Set(event.key.map(|key| key.0)),
        key_version: Set(event.key_version),
        source: Set(event.source.clone().into_owned()),
        decision: Set(event.decision.clone().into_owned()),
        reason: Set(event.reason.clone().into_owned()),
        epoch: Set(event.epoch),
        revision: Set(event.revision),
        request_id: Set(event.request),
        trace_id: Set(event.trace_id.clone()),
        latency_us: Set(event.latency_us),
        count: Set(event.count),
        profile_ids: Set(event.profiles.clone()),
        mac: Set(mac),
    }
}

fn readable(row: &QueryResult) -> std::result::Result<Record, Unreadable> {
    let row: std::result::Result<_, DbErr> = audit_event::Model::from_query_result(row, "");
    row.map(stored).map_err(|_| Unreadable)
}

fn stored(row: audit_event::Model) -> Record {
    Record {
        chain: row.chain_id,
        sequence: row.sequence,
        mac: row.mac,
        event: Event {
            id: row.event_id,
            time: row.event_time,
            principal: Arc::from(row.principal),
            authentication: row.authentication,
            address: row.peer_address,
            action: row.action.into(),
            organization: row.organization_id,
            profile: row.profile_id,
            provider: row.provider.into(),
            key: row.api_key_id.map(KeyId),
            key_version: row.key_version,
            source: row.source.into(),
            decision: row.decision.into(),
            reason: row.reason.into(),
            epoch: row.epoch,
            revision: row.revision,
            request: row.request_id,
            trace_id: row.trace_id,
            latency_us: row.latency_us,
            count: row.count,
            profiles: row.profile_ids,
        },
    }
}

fn stored_chain(row: audit_chain::Model) -> Chain {
    Chain {
        id: row.chain_id,
        ordinal: row.ordinal,
        sequence: row.sequence,
        mac: row.mac,
        floor_sequence: row.floor_sequence,
        floor_mac: row.floor_mac,
        others: row.chain_count,
        seal: row.seal,
    }
}
