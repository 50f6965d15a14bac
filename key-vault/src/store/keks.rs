//! Key encryption keys, their rotation, and the replicas that must know them.

use std::collections::HashMap;

use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, Condition, DbErr, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use uuid::Uuid;

use super::{
    AuditRows, Bounded, Error, Meta, Result, SealedVersion, Store, Tx, commit,
    entity::{kek, replica, rewrap, secret, vault_meta},
    row,
};
use crate::{
    key::KeyId,
    seal::{KekRecord, KekState, secrets_manager::WrappedKek},
};

/// How long a replica counts as alive after it was last heard of: five times as long as it
/// lets pass between two reports.
const ALIVE_FOR: Duration = Duration::seconds(15);

/// How long a replica that is gone is remembered.
const GONE_FOR: Duration = Duration::hours(1);

/// How long one replica has the rewrap to itself without a sign of life.
const REWRAP_LEASE: Duration = Duration::seconds(5);

/// A stored KEK.
#[derive(Debug)]
pub(crate) struct StoredKek {
    pub(crate) record: KekRecord,
    pub(crate) state: KekState,
    pub(crate) wrap_count: i64,
    pub(crate) create_time: DateTime<Utc>,
}

/// A process that serves this vault.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaRow {
    pub(crate) id: Uuid,
    pub(crate) seen: DateTime<Utc>,
    pub(crate) kek_ids: Vec<String>,
    pub(crate) managers: Vec<String>,
}

/// How far the wrapping of data keys with a new KEK is.
#[derive(Debug)]
pub(crate) struct Rewrap {
    pub(crate) total: i64,
    pub(crate) remaining: i64,
    pub(crate) failed: i64,
    pub(crate) start_time: Option<DateTime<Utc>>,
}

impl Store {
    /// All KEKs, oldest first.
    pub(crate) async fn keks(&self) -> Result<Vec<StoredKek>> {
        let rows = kek::Entity::find().order_by_asc(kek::Column::CreateTime).all(&self.reader().await?).await?;
        Ok(rows.into_iter().map(stored_kek).collect())
    }

    /// The KEKs that sealed versions need, and how many need each.
    pub(crate) async fn kek_references(&self) -> Result<HashMap<String, i64>> {
        let rows: Vec<(String, i64)> = secret::Entity::find()
            .select_only()
            .column(secret::Column::KekId)
            .column_as(secret::Column::ApiKeyId.count(), "needed")
            .group_by(secret::Column::KekId)
            .into_tuple()
            .all(&self.reader().await?)
            .await?;
        Ok(rows.into_iter().collect())
    }

    /// Reports that a replica is alive, and what it knows.
    pub(crate) async fn report(&self, replica: &ReplicaRow) -> Result<()> {
        use replica::{ActiveModel, Column, Entity};
        let row = ActiveModel {
            replica_id: Set(replica.id),
            seen_time: Set(replica.seen),
            kek_ids: Set(replica.kek_ids.join(" ")),
            managers: Set(replica.managers.join(" ")),
        };
        let tx = self.transaction().await?;
        Entity::insert(row)
            .on_conflict(
                OnConflict::column(Column::ReplicaId)
                    .update_columns([Column::SeenTime, Column::KekIds, Column::Managers])
                    .to_owned(),
            )
            .exec_without_returning(&tx)
            .await?;
        commit(tx).await
    }

    /// Takes a replica out: it stops.
    pub(crate) async fn sign_off(&self, id: Uuid) -> Result<()> {
        let tx = self.transaction().await?;
        replica::Entity::delete_by_id(id).exec(&tx).await?;
        commit(tx).await
    }

    /// The replicas that are alive.
    pub(crate) async fn replicas(&self) -> Result<Vec<ReplicaRow>> {
        let rows = replica::Entity::find()
            .filter(replica::Column::SeenTime.gte(row::now() - ALIVE_FOR))
            .order_by_asc(replica::Column::ReplicaId)
            .all(&self.reader().await?)
            .await?;
        Ok(rows.iter().map(stored_replica).collect())
    }

    /// Forgets replicas that have been gone for long.
    pub(crate) async fn forget_replicas(&self) -> Result<()> {
        let tx = self.transaction().await?;
        replica::Entity::delete_many().filter(replica::Column::SeenTime.lt(row::now() - GONE_FOR)).exec(&tx).await?;
        commit(tx).await
    }

    /// How far the wrapping with `primary` is.
    pub(crate) async fn rewrap(&self, primary: &str) -> Result<Rewrap> {
        let row = rewrap::Entity::find_by_id(primary).one(&self.reader().await?).await?;
        let total = secret::Entity::find().count(&self.reader().await?).await?;
        let remaining =
            secret::Entity::find().filter(secret::Column::KekId.ne(primary)).count(&self.reader().await?).await?;
        Ok(Rewrap {
            total: i64::try_from(total).unwrap_or(i64::MAX),
            remaining: i64::try_from(remaining).unwrap_or(i64::MAX),
            failed: row.as_ref().map_or(0, |row| row.failed_count),
            start_time: row.map(|row| row.start_time),
        })
    }

    /// Takes the rewrap to `primary` for a replica, or keeps it. False if another one has it.
    pub(crate) async fn lease_rewrap(&self, primary: &str, worker: Uuid) -> Result<bool> {
        use rewrap::Column;
        let now = row::now();
        let free = Condition::any()
            .add(Column::Worker.is_null())
            .add(Column::Worker.eq(worker))
            .add(Column::LeaseUntil.lt(now));
        let tx = self.transaction().await?;
        let taken = rewrap::Entity::update_many()
            .col_expr(Column::Worker, Expr::value(worker))
            .col_expr(Column::LeaseUntil, Expr::value(now + REWRAP_LEASE))
            .filter(Column::KekId.eq(primary))
            .filter(free)
            .exec(&tx)
            .await?;
        commit(tx).await?;
        Ok(taken.rows_affected == 1)
    }

    /// Ends a replica's turn, and says how many versions it could not open.
    pub(crate) async fn end_rewrap(&self, primary: &str, worker: Uuid, failed: i64) -> Result<()> {
        use rewrap::Column;
        let tx = self.transaction().await?;
        rewrap::Entity::update_many()
            .col_expr(Column::Worker, Expr::value(None::<Uuid>))
            .col_expr(Column::FailedCount, Expr::value(failed))
            .filter(Column::KekId.eq(primary))
            .filter(Column::Worker.eq(worker))
            .exec(&tx)
            .await?;
        commit(tx).await
    }

    /// Sealed versions under other KEKs than `primary`, in the order of their keys, at most
    /// `limit`, after `after`.
    pub(crate) async fn sealed_elsewhere(
        &self,
        primary: &str,
        after: Option<(KeyId, i64)>,
        limit: u64,
    ) -> Result<Vec<SealedVersion>> {
        let mut query = super::versions_after(after).filter(secret::Column::KekId.ne(primary));
        query = query.limit(limit);
        query.all(&self.reader().await?).await?.into_iter().map(row::sealed_version).collect()
    }

    /// Begins a transaction over the KEKs. No other one, and no change of keys, runs beside
    /// it; it raises no revision. Dropped without [`KekTx::commit`], it leaves no trace.
    pub(crate) async fn begin_keks(&self) -> Result<KekTx> {
        let tx = self.transaction().await?;
        vault_meta::Entity::update_many()
            .col_expr(vault_meta::Column::KekRevision, Expr::col(vault_meta::Column::KekRevision).add(1))
            .exec(&tx)
            .await?;
        Ok(KekTx { db: tx, now: row::now() })
    }

    /// Begins a transaction that wraps data keys anew. It changes no KEK, and changes of keys
    /// run beside it.
    pub(crate) async fn begin_rewrap(&self) -> Result<KekTx> {
        Ok(KekTx { db: self.transaction().await?, now: row::now() })
    }
}

/// A transaction over the KEKs, or over what they wrap.
#[derive(Debug)]
pub(crate) struct KekTx {
    db: Bounded<'static>,
    now: DateTime<Utc>,
}

impl KekTx {
    /// Makes everything permanent.
    pub(crate) async fn commit(self) -> Result<()> {
        commit(self.db).await
    }

    /// What can be done to the audit log in it.
    pub(crate) fn audit(&self) -> AuditRows<'_> {
        AuditRows(&self.db)
    }

    /// Writes what stands once in the database. False if another replica was first.
    pub(crate) async fn initialize(&self, meta: &Meta, first: &KekRecord) -> Result<bool> {
        let row = vault_meta::ActiveModel {
            id: Set(1),
            vault_id: Set(meta.vault),
            revision: Set(0),
            fingerprint_key: Set(meta.fingerprint_key.clone()),
            create_time: Set(self.now),
            epoch: Set(None),
            compacted_revision: Set(0),
            kek_revision: Set(1),
            audit_log: Set(false),
        };
        let inserted = vault_meta::Entity::insert(row)
            .on_conflict(OnConflict::column(vault_meta::Column::Id).do_nothing().to_owned())
            .exec_without_returning(&self.db)
            .await;
        if matches!(inserted, Ok(0) | Err(DbErr::RecordNotInserted)) {
            return Ok(false);
        }
        inserted?;
        let kek = kek::ActiveModel { state: Set(PRIMARY.to_owned()), ..new_kek(first, self.now) };
        kek::Entity::insert(kek).exec_without_returning(&self.db).await?;
        Ok(true)
    }

    /// All KEKs, oldest first.
    pub(crate) async fn keks(&self) -> Result<Vec<StoredKek>> {
        let rows = kek::Entity::find().order_by_asc(kek::Column::CreateTime).all(&self.db).await?;
        Ok(rows.into_iter().map(stored_kek).collect())
    }

    /// Adds a KEK that waits to be promoted.
    pub(crate) async fn add(&self, record: &KekRecord) -> Result<()> {
        kek::Entity::insert(new_kek(record, self.now)).exec_without_returning(&self.db).await?;
        Ok(())
    }

    /// Lets a KEK seal in place of the one that did.
    pub(crate) async fn promote(&self, kek_id: &str) -> Result<()> {
        kek::Entity::update_many()
            .col_expr(kek::Column::State, Expr::value(DECRYPT_ONLY))
            // The first one was never promoted, and must not look as if it waits to be.
            .col_expr(kek::Column::PromoteTime, Expr::col(kek::Column::CreateTime))
            .filter(kek::Column::State.eq(PRIMARY))
            .exec(&self.db)
            .await?;
        kek::Entity::update_many()
            .col_expr(kek::Column::State, Expr::value(PRIMARY))
            .col_expr(kek::Column::PromoteTime, Expr::value(self.now))
            .filter(kek::Column::KekId.eq(kek_id))
            .exec(&self.db)
            .await?;
        let row = rewrap::ActiveModel {
            kek_id: Set(kek_id.to_owned()),
            start_time: Set(self.now),
            failed_count: Set(0),
            worker: Set(None),
            lease_until: Set(None),
        };
        rewrap::Entity::insert(row).exec_without_returning(&self.db).await?;
        Ok(())
    }

    /// Retires a KEK that nothing needs. False if something does: then drop the transaction.
    pub(crate) async fn retire(&self, kek_id: &str) -> Result<bool> {
        // The row first: whoever wraps with it now ends before the count.
        kek::Entity::update_many()
            .col_expr(kek::Column::RetireTime, Expr::value(self.now))
            .filter(kek::Column::KekId.eq(kek_id))
            .filter(kek::Column::State.eq(DECRYPT_ONLY))
            .exec(&self.db)
            .await?;
        let needed = secret::Entity::find().filter(secret::Column::KekId.eq(kek_id)).count(&self.db).await?;
        Ok(needed == 0)
    }

    /// Replaces what a secrets manager made of a KEK.
    pub(crate) async fn replace_wrapped(&self, kek_id: &str, wrapped: &WrappedKek) -> Result<()> {
        kek::Entity::update_many()
            .col_expr(kek::Column::Manager, Expr::value(wrapped.manager.clone()))
            .col_expr(kek::Column::KeyRef, Expr::value(wrapped.key_ref.clone()))
            .col_expr(kek::Column::Wrapped, Expr::value(wrapped.blob.clone()))
            .filter(kek::Column::KekId.eq(kek_id))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// The key of the fingerprints, wrapped.
    pub(crate) async fn fingerprint_key(&self) -> Result<Vec<u8>> {
        let row = vault_meta::Entity::find_by_id(1).one(&self.db).await?;
        row.map(|row| row.fingerprint_key).ok_or(Error::NotSetUp)
    }

    /// Replaces the wrapped key of the fingerprints.
    pub(crate) async fn replace_fingerprint_key(&self, wrapped: &[u8]) -> Result<()> {
        vault_meta::Entity::update_many()
            .col_expr(vault_meta::Column::FingerprintKey, Expr::value(wrapped))
            .exec(&self.db)
            .await?;
        Ok(())
    }

    /// Counts wraps of the KEK that seals, and returns how many it has done. `None` if it
    /// does not seal any more.
    pub(crate) async fn count_wraps(&self, kek_id: &str, wraps: i64) -> Result<Option<i64>> {
        count_wraps(&self.db, kek_id, wraps).await?;
        let row = kek::Entity::find_by_id(kek_id).filter(kek::Column::State.eq(PRIMARY)).one(&self.db).await?;
        Ok(row.map(|row| row.wrap_count))
    }

    /// Replaces the wrapped data key of a version, if it is still the one that was read.
    pub(crate) async fn replace_dek(&self, read: &SealedVersion, dek: &[u8], kek_id: &str) -> Result<bool> {
        let replaced = secret::Entity::update_many()
            .col_expr(secret::Column::Dek, Expr::value(dek))
            .col_expr(secret::Column::KekId, Expr::value(kek_id))
            .filter(secret::Column::ApiKeyId.eq(read.id.0))
            .filter(secret::Column::Version.eq(read.version))
            .filter(secret::Column::Dek.eq(read.sealed.dek.clone()))
            .exec(&self.db)
            .await?;
        Ok(replaced.rows_affected == 1)
    }
}

impl Tx {
    /// The KEK that seals now, with one more wrap of it counted.
    pub(crate) async fn primary_kek(&self) -> Result<(String, i64)> {
        let primary = kek::Entity::find().filter(kek::Column::State.eq(PRIMARY)).one(&self.db).await?;
        let primary = primary.ok_or(Error::Damaged("no primary key encryption key"))?;
        count_wraps(&self.db, &primary.kek_id, 1).await?;
        Ok((primary.kek_id, primary.wrap_count + 1))
    }
}

async fn count_wraps(tx: &Bounded<'static>, kek_id: &str, wraps: i64) -> Result<()> {
    kek::Entity::update_many()
        .col_expr(kek::Column::WrapCount, Expr::col(kek::Column::WrapCount).add(wraps))
        .filter(kek::Column::KekId.eq(kek_id))
        .exec(tx)
        .await?;
    Ok(())
}

/// What stands in `kek.state`. Two times tell the other two states from these: one that was
/// never promoted waits to be, one that was retired is.
const PRIMARY: &str = "primary";
const DECRYPT_ONLY: &str = "decrypt_only";

fn new_kek(record: &KekRecord, now: DateTime<Utc>) -> kek::ActiveModel {
    kek::ActiveModel {
        kek_id: Set(record.id.clone()),
        manager: Set(record.wrapped.manager.clone()),
        key_ref: Set(record.wrapped.key_ref.clone()),
        wrapped: Set(record.wrapped.blob.clone()),
        check_value: Set(record.check_value.clone()),
        canary: Set(record.canary.clone()),
        state: Set(DECRYPT_ONLY.to_owned()),
        wrap_count: Set(0),
        create_time: Set(now),
        promote_time: Set(None),
        retire_time: Set(None),
    }
}

fn stored_kek(row: kek::Model) -> StoredKek {
    let state = match (row.state.as_str(), row.promote_time, row.retire_time) {
        (PRIMARY, _, _) => KekState::Primary,
        (_, _, Some(_)) => KekState::Retired,
        (_, None, None) => KekState::Pending,
        (_, Some(_), None) => KekState::DecryptOnly,
    };
    StoredKek {
        state,
        wrap_count: row.wrap_count,
        create_time: row.create_time,
        record: KekRecord {
            id: row.kek_id,
            wrapped: WrappedKek { manager: row.manager, key_ref: row.key_ref, blob: row.wrapped },
            check_value: row.check_value,
            canary: row.canary,
        },
    }
}

fn stored_replica(row: &replica::Model) -> ReplicaRow {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    ReplicaRow { id: row.replica_id, seen: row.seen_time, kek_ids: words(&row.kek_ids), managers: words(&row.managers) }
}
