//! The history of changes, and what was answered to whom.

use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use uuid::Uuid;

use super::{
    Bounded, Error, Result, Store, Tx, commit,
    entity::{change, request, secret, vault_meta},
    row,
};
use crate::{
    change::{Change, ChangeKind, Position},
    key::{KeyId, OrganizationId, Provider},
};

/// How long a request is remembered.
const REMEMBERED_FOR: Duration = Duration::hours(24);

/// How many records one statement deletes, so that it holds a lock for milliseconds.
const DELETED_AT_ONCE: i64 = 10_000;

/// What was answered to a request.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// What tells the request from another one of the same id.
    pub(crate) digest: Vec<u8>,
    /// The answer, as `vault` wrote it.
    pub(crate) answer: String,
}

impl Store {
    /// Where the history stands, or `None` in a new database.
    pub(crate) async fn position(&self) -> Result<Option<Position>> {
        let row = vault_meta::Entity::find_by_id(1).one(&self.reader().await?).await?;
        Ok(row.map(|row| Position {
            epoch: row.epoch.unwrap_or(row.vault_id),
            revision: row.revision,
            compacted: row.compacted_revision,
            kek_revision: row.kek_revision,
        }))
    }

    /// The changes after a revision in their order, at most `limit`.
    pub(crate) async fn changes(&self, after: i64, limit: u64) -> Result<Vec<Change>> {
        let rows = change::Entity::find()
            .filter(change::Column::Revision.gt(after))
            .order_by_asc(change::Column::Revision)
            .limit(limit)
            .all(&self.reader().await?)
            .await?;
        rows.into_iter().map(stored).collect()
    }

    /// Forgets the oldest changes, a limited number of them, until `kept` are left.
    pub(crate) async fn compact(&self, kept: i64) -> Result<()> {
        let Some(position) = self.position().await? else { return Ok(()) };
        let Position { revision, compacted, .. } = position;
        let floor = Ord::clamp(revision - kept, compacted, compacted + DELETED_AT_ONCE);
        if floor == compacted {
            return Ok(());
        }
        let tx = self.transaction().await?;
        vault_meta::Entity::update_many()
            .col_expr(vault_meta::Column::CompactedRevision, Expr::value(floor))
            .filter(vault_meta::Column::CompactedRevision.lt(floor))
            .exec(&tx)
            .await?;
        change::Entity::delete_many().filter(change::Column::Revision.lte(floor)).exec(&tx).await?;
        commit(tx).await
    }

    /// Begins a new history after the database was restored: nobody can resume from what
    /// they saw before.
    pub(crate) async fn begin_epoch(&self, epoch: Uuid) -> Result<()> {
        let tx = self.transaction().await?;
        Self::begin_epoch_in(&tx, epoch).await?;
        commit(tx).await
    }

    /// The same, as a part of a change.
    pub(super) async fn begin_epoch_in(tx: &Bounded<'_>, epoch: Uuid) -> Result<()> {
        let changed = vault_meta::Entity::update_many()
            .col_expr(vault_meta::Column::Epoch, Expr::value(epoch))
            .col_expr(vault_meta::Column::Revision, Expr::col(vault_meta::Column::Revision).add(1))
            .col_expr(vault_meta::Column::CompactedRevision, Expr::col(vault_meta::Column::Revision).add(1))
            .col_expr(vault_meta::Column::KekRevision, Expr::col(vault_meta::Column::KekRevision).add(1))
            .exec(tx)
            .await?;
        if changed.rows_affected == 1 { Ok(()) } else { Err(Error::NotSetUp) }
    }

    /// Forgets requests that nobody may repeat any more.
    pub(crate) async fn forget_requests(&self) -> Result<()> {
        let tx = self.transaction().await?;
        request::Entity::delete_many()
            .filter(request::Column::CreateTime.lt(row::now() - REMEMBERED_FOR))
            .exec(&tx)
            .await?;
        commit(tx).await
    }

    /// Keys whose kept previous version has had its time, at most `limit`.
    pub(crate) async fn expired(&self, limit: u64) -> Result<Vec<(OrganizationId, Provider, KeyId)>> {
        let rows: Vec<(String, String, Uuid)> = secret::Entity::find()
            .select_only()
            .columns([secret::Column::OrganizationId, secret::Column::Provider, secret::Column::ApiKeyId])
            .filter(secret::Column::KeepUntil.lt(row::now()))
            .limit(limit)
            .into_tuple()
            .all(&self.reader().await?)
            .await?;
        let parsed = |(organization, provider, id): (String, String, Uuid)| {
            Ok((row::organization(organization)?, row::provider(&provider)?, KeyId(id)))
        };
        rows.into_iter().map(parsed).collect()
    }
}

impl Tx {
    /// What was answered to a request of a principal within the last day.
    pub(crate) async fn remembered(&self, principal: &str, request_id: Uuid) -> Result<Option<Remembered>> {
        let row = request::Entity::find_by_id((principal.to_owned(), request_id))
            .filter(request::Column::CreateTime.gte(self.now - REMEMBERED_FOR))
            .one(&self.db)
            .await?;
        Ok(row.map(|row| Remembered { digest: row.digest, answer: row.answer }))
    }

    /// Remembers what is answered to a request.
    pub(crate) async fn remember(&self, principal: &str, request_id: Uuid, remembered: Remembered) -> Result<()> {
        use request::Column;
        let row = request::ActiveModel {
            principal: Set(principal.to_owned()),
            request_id: Set(request_id),
            digest: Set(remembered.digest),
            answer: Set(remembered.answer),
            create_time: Set(self.now),
        };
        request::Entity::insert(row)
            .on_conflict(
                // One that is too old to count, and was not deleted yet.
                OnConflict::columns([Column::Principal, Column::RequestId])
                    .update_columns([Column::Digest, Column::Answer, Column::CreateTime])
                    .to_owned(),
            )
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }
}

pub(super) async fn insert<C: ConnectionTrait>(db: &C, change: &Change, now: DateTime<Utc>) -> Result<()> {
    let providers: Vec<_> = change.providers.iter().map(|provider| provider.name()).collect();
    let keys: Vec<_> = change.keys.iter().map(ToString::to_string).collect();
    let row = change::ActiveModel {
        revision: Set(change.revision),
        organization_id: Set(change.organization.as_str().to_owned()),
        kind: Set(change.kind.name().to_owned()),
        providers: Set(providers.join(" ")),
        api_key_ids: Set(keys.join(" ")),
        create_time: Set(now),
    };
    change::Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}

fn stored(row: change::Model) -> Result<Change> {
    let key = |text: &str| KeyId::try_from(text).map_err(|_| Error::Damaged("a changed key's id"));
    Ok(Change {
        revision: row.revision,
        organization: row::organization(row.organization_id)?,
        kind: ChangeKind::from_name(&row.kind).ok_or(Error::Damaged("a change's kind"))?,
        providers: row.providers.split_whitespace().map(row::provider).collect::<Result<_>>()?,
        keys: row.api_key_ids.split_whitespace().map(key).collect::<Result<_>>()?,
    })
}
