//! The database: queries, transactions, migrations. The only user of `sea_orm`.
//!
//! Takes and returns domain types. Knows nothing of sealing, of who may do what, or of
//! what a resolution means. One set of statements serves SQLite and PostgreSQL.
//!
//! Odd: every write transaction updates the row of `vault_meta` first. That makes
//! writers take turns on both databases and gives each change a revision without gaps,
//! in the order of commits.

mod audit;
mod bounded;
mod cause;
mod changes;
mod connection;
mod entity;
mod keks;
mod migration;
mod policy;
mod row;
mod transfer;
mod usage;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, Condition, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait as _,
    sea_query::{Expr, OnConflict},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    change::{Change, ChangeKind},
    fallback_policy::Policies,
    key::{ApiKey, DisplayName, KeyId, OrganizationId, Previous, ProfileId, Provider, Source, State},
    seal::Sealed,
};
use bounded::Bounded;
use connection::ACQUIRE_MAX;
use entity::{api_key, key_use, organization_default, profile_key, secret, vault_meta};

pub(crate) use audit::AuditRows;
pub(crate) use cause::Cause;
pub(crate) use changes::Remembered;
pub(crate) use connection::{Copy, Place, Pooler};
pub(crate) use keks::{ReplicaRow, StoredKek};
pub use migration::with_next_step;
pub(crate) use transfer::transfer;

/// The longest COMMIT. It waits for a disk, and for the disks of standbys that must have it.
const COMMIT_MAX: Duration = Duration::from_secs(10);

/// The database did not do what it was asked. Unless it says otherwise nothing was written,
/// and it is safe to retry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A statement failed, or no connection was free in time.
    #[error("the database failed")]
    Database(#[source] Cause),
    /// The connection was lost, or silent for too long, while it committed: everything of
    /// the transaction has happened or nothing.
    #[error("the database was lost while it committed")]
    CommitUnknown(#[source] Cause),
    /// A row holds what no version of the vault writes.
    #[error("a row of the database is damaged: {0}")]
    Damaged(&'static str),
    /// It has not answered for a while.
    #[error("the database does not answer")]
    Silent,
    /// Nothing was set up in it yet.
    #[error("the database belongs to no vault yet")]
    NotSetUp,
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(Cause::from(&error))
    }
}

type Result<T> = std::result::Result<T, Error>;

/// The database of one vault.
#[derive(Debug)]
pub(crate) struct Store {
    read: DatabaseConnection,
    write: DatabaseConnection,
    /// What is recorded of resolutions does not wait behind changes that wait for each other.
    audit: DatabaseConnection,
    pooler: Pooler,
    /// Keeps a second process from an SQLite file.
    _owner: Option<std::fs::File>,
}

/// What stands once in the database.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) vault: Uuid,
    pub(crate) fingerprint_key: Vec<u8>,
}

/// What the steps of a resolution find, and the revision that it is of.
#[derive(Debug)]
pub(crate) struct Candidates {
    pub(crate) revision: i64,
    /// The history that the revision counts.
    pub(crate) epoch: Uuid,
    /// What forbids steps.
    pub(crate) policies: Policies,
    /// The profile's first, those of forbidden steps too.
    pub(crate) found: Vec<Candidate>,
}

/// The key that a step of a resolution finds.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) source: Source,
    pub(crate) id: KeyId,
    pub(crate) state: State,
    pub(crate) version: i64,
    /// `None` if the row of the version is gone.
    pub(crate) sealed: Option<Sealed>,
}

/// Which keys a listing shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filter<'a> {
    pub(crate) provider: Option<Provider>,
    pub(crate) profile: Option<&'a ProfileId>,
}

/// A sealed version, for checking that it opens.
#[derive(Debug)]
pub(crate) struct SealedVersion {
    pub(crate) organization: OrganizationId,
    pub(crate) id: KeyId,
    pub(crate) provider: Provider,
    pub(crate) version: i64,
    pub(crate) sealed: Sealed,
}

impl Store {
    /// What stands once in the database, or `None` in a new one.
    pub(crate) async fn meta(&self) -> Result<Option<Meta>> {
        let row = vault_meta::Entity::find_by_id(1).one(&self.reader().await?).await?;
        Ok(row.map(|row| Meta { vault: row.vault_id, fingerprint_key: row.fingerprint_key }))
    }

    /// What the clock of the database's server says. `None` where there is no server.
    pub(crate) async fn clock(&self) -> Result<Option<DateTime<Utc>>> {
        let reader = self.reader().await?;
        let backend = reader.get_database_backend();
        if backend != DbBackend::Postgres {
            return Ok(None);
        }
        let row = reader.query_one_raw(Statement::from_string(backend, "SELECT clock_timestamp() AS now")).await?;
        Ok(row.map(|row| row.try_get("", "now")).transpose()?)
    }

    /// A key with its links.
    pub(crate) async fn key(&self, organization: &OrganizationId, id: KeyId) -> Result<Option<ApiKey>> {
        key(&self.reader().await?, organization, id).await
    }

    /// Keys of an organization in the order of their ids, at most `limit`, after `after`.
    pub(crate) async fn keys(
        &self,
        organization: &OrganizationId,
        filter: Filter<'_>,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<ApiKey>> {
        let mut query = api_key::Entity::find().filter(api_key::Column::OrganizationId.eq(organization.as_str()));
        if let Some(provider) = filter.provider {
            query = query.filter(api_key::Column::Provider.eq(provider.name()));
        }
        if let Some(profile) = filter.profile {
            let assigned = profile_key::Entity::find()
                .select_only()
                .column(profile_key::Column::ApiKeyId)
                .filter(profile_key::Column::OrganizationId.eq(organization.as_str()))
                .filter(profile_key::Column::ProfileId.eq(profile.as_str()));
            query = query.filter(api_key::Column::ApiKeyId.in_subquery(sea_orm::QueryTrait::into_query(assigned)));
        }
        if let Some(after) = after {
            query = query.filter(api_key::Column::ApiKeyId.gt(after.0));
        }
        let reader = self.reader().await?;
        let rows = query.order_by_asc(api_key::Column::ApiKeyId).limit(limit as u64).all(&reader).await?;
        with_links(&reader, organization, rows).await
    }

    /// What the steps of a resolution find in the database, the profile's first.
    pub(crate) async fn candidates(
        &self,
        organization: &OrganizationId,
        profile: Option<&ProfileId>,
        provider: Provider,
    ) -> Result<Candidates> {
        row::candidates(&self.reader().await?, organization, profile, provider).await
    }

    /// Sealed versions in the order of their keys, at most `limit`, after `after`.
    pub(crate) async fn sealed_versions(&self, after: Option<(KeyId, i64)>, limit: u64) -> Result<Vec<SealedVersion>> {
        let rows = versions_after(after).limit(limit).all(&self.reader().await?).await?;
        rows.into_iter().map(row::sealed_version).collect()
    }

    /// Begins the transaction of one change, with a revision of its own. Dropped without
    /// [`Tx::commit`], it leaves no trace.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        let tx = self.transaction().await?;
        let raise = "UPDATE vault_meta SET revision = revision + 1 \
                     RETURNING revision, COALESCE(epoch, vault_id) AS epoch";
        let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), raise)).await?;
        let row = row.ok_or(Error::NotSetUp)?;
        let (revision, epoch) = (row.try_get("", "revision")?, row.try_get("", "epoch")?);
        Ok(Tx { db: tx, now: row::now(), revision, epoch, touched: BTreeSet::new() })
    }

    async fn transaction(&self) -> Result<Bounded<'static>> {
        let tx = begin_write(&self.write).await?;
        self.begun(&tx).await?;
        Ok(tx)
    }

    async fn audit_transaction(&self) -> Result<Bounded<'static>> {
        let tx = begin_write(&self.audit).await?;
        self.begun_audit(&tx).await?;
        Ok(tx)
    }
}

/// The transaction of one change. Sees its own writes.
#[derive(Debug)]
pub(crate) struct Tx {
    db: Bounded<'static>,
    now: DateTime<Utc>,
    revision: i64,
    epoch: Uuid,
    /// The keys of which a field changed.
    touched: BTreeSet<Uuid>,
}

impl Tx {
    /// Records the change, and makes everything since [`Store::begin`] permanent.
    /// Returns the revision.
    ///
    /// # Errors
    ///
    /// [`Error::CommitUnknown`] if it may be permanent all the same.
    pub(crate) async fn commit(
        self,
        organization: &OrganizationId,
        kind: ChangeKind,
        providers: &[Provider],
    ) -> Result<i64> {
        let change = Change {
            revision: self.revision,
            organization: organization.clone(),
            kind,
            providers: providers.to_vec(),
            keys: self.touched.iter().copied().map(KeyId).collect(),
        };
        changes::insert(&self.db, &change, self.now).await?;
        commit(self.db).await?;
        Ok(change.revision)
    }

    /// A key with its links.
    pub(crate) async fn key(&self, organization: &OrganizationId, id: KeyId) -> Result<Option<ApiKey>> {
        key(&self.db, organization, id).await
    }

    /// The revision of this transaction.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// The history that the revision counts.
    pub(crate) fn epoch(&self) -> Uuid {
        self.epoch
    }

    /// The time of this transaction.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Adds a key without links, and its first version.
    pub(crate) async fn insert_key(&mut self, key: &ApiKey, sealed: &Sealed) -> Result<()> {
        api_key::Entity::insert(row::new_key(key)).exec_without_returning(&self.db).await?;
        self.touched.insert(key.id.0);
        self.insert_version(key, key.version, sealed).await
    }

    /// Adds a version and makes it the current one. Of the others only the one that was
    /// current is kept, until `keep_until`, or none.
    pub(crate) async fn replace_version(
        &mut self,
        key: &ApiKey,
        sealed: &Sealed,
        hint: &str,
        fingerprint: &str,
        keep_until: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let mut gone = secret::Entity::delete_many().filter(secret::Column::ApiKeyId.eq(key.id.0));
        if let Some(keep_until) = keep_until {
            gone = gone.filter(secret::Column::Version.ne(key.version));
            secret::Entity::update_many()
                .col_expr(secret::Column::KeepUntil, Expr::value(keep_until))
                .filter(secret::Column::ApiKeyId.eq(key.id.0))
                .filter(secret::Column::Version.eq(key.version))
                .exec(&self.db)
                .await?;
        }
        gone.exec(&self.db).await?;
        let version = key.version + 1;
        self.insert_version(key, version, sealed).await?;
        let changes = api_key::ActiveModel {
            version: Set(version),
            hint: Set(hint.to_owned()),
            fingerprint: Set(fingerprint.to_owned()),
            ..Default::default()
        };
        self.update(key.id, changes).await
    }

    /// A sealed version of a key.
    pub(crate) async fn sealed(&self, id: KeyId, version: i64) -> Result<Option<Sealed>> {
        let row = secret::Entity::find_by_id((id.0, version)).one(&self.db).await?;
        Ok(row.map(|row| Sealed { payload: row.payload, dek: row.dek, kek_id: row.kek_id }))
    }

    /// Destroys the kept previous version of a key if its time is over. False if there is
    /// none.
    pub(crate) async fn destroy_expired(&mut self, id: KeyId) -> Result<bool> {
        let gone = secret::Entity::delete_many()
            .filter(secret::Column::ApiKeyId.eq(id.0))
            .filter(secret::Column::KeepUntil.lt(self.now))
            .exec(&self.db)
            .await?;
        self.touch([id.0]).await?;
        Ok(gone.rows_affected > 0)
    }

    async fn insert_version(&self, key: &ApiKey, version: i64, sealed: &Sealed) -> Result<()> {
        secret::Entity::insert(row::new_secret(key, version, sealed, self.now))
            .exec_without_returning(&self.db)
            .await?;
        Ok(())
    }

    /// Changes what people call a key, and whether it may be used.
    pub(crate) async fn update_key(
        &mut self,
        id: KeyId,
        name: Option<&DisplayName>,
        state: Option<State>,
    ) -> Result<()> {
        let mut changes = api_key::ActiveModel::default();
        if let Some(name) = name {
            changes.display_name = Set(name.as_str().to_owned());
        }
        if let Some(state) = state {
            changes.state = Set(state.name().to_owned());
        }
        self.update(id, changes).await
    }

    /// Removes a key, its versions and its links.
    pub(crate) async fn delete_key(&mut self, key: &ApiKey) -> Result<()> {
        let id = key.id.0;
        secret::Entity::delete_many().filter(secret::Column::ApiKeyId.eq(id)).exec(&self.db).await?;
        key_use::Entity::delete_by_id(id).exec(&self.db).await?;
        profile_key::Entity::delete_many().filter(profile_key::Column::ApiKeyId.eq(id)).exec(&self.db).await?;
        organization_default::Entity::delete_many()
            .filter(organization_default::Column::ApiKeyId.eq(id))
            .exec(&self.db)
            .await?;
        api_key::Entity::delete_many().filter(api_key::Column::ApiKeyId.eq(id)).exec(&self.db).await?;
        self.touched.insert(id);
        Ok(())
    }

    /// Makes a key the default of its organization and provider, in place of another.
    pub(crate) async fn set_default(&mut self, key: &ApiKey) -> Result<()> {
        use organization_default::{ActiveModel, Column, Entity};
        if let Some(before) = self.default(&key.organization, key.provider).await? {
            self.touch([before.0]).await?;
        }
        let row = ActiveModel {
            organization_id: Set(key.organization.as_str().to_owned()),
            provider: Set(key.provider.name().to_owned()),
            api_key_id: Set(key.id.0),
        };
        Entity::insert(row)
            .on_conflict(
                OnConflict::columns([Column::OrganizationId, Column::Provider])
                    .update_column(Column::ApiKeyId)
                    .to_owned(),
            )
            .exec_without_returning(&self.db)
            .await?;
        self.touch([key.id.0]).await
    }

    /// Leaves an organization without a default of a provider. Returns which key it was.
    pub(crate) async fn clear_default(
        &mut self,
        organization: &OrganizationId,
        provider: Provider,
    ) -> Result<Option<KeyId>> {
        let Some(before) = self.default(organization, provider).await? else { return Ok(None) };
        organization_default::Entity::delete_by_id((organization.as_str().to_owned(), provider.name().to_owned()))
            .exec(&self.db)
            .await?;
        self.touch([before.0]).await?;
        Ok(Some(before))
    }

    async fn default(&self, organization: &OrganizationId, provider: Provider) -> Result<Option<KeyId>> {
        let id = (organization.as_str().to_owned(), provider.name().to_owned());
        let row = organization_default::Entity::find_by_id(id).one(&self.db).await?;
        Ok(row.map(|row| KeyId(row.api_key_id)))
    }

    /// Gives a key to profiles, in place of the key that each had of its provider.
    pub(crate) async fn assign(&mut self, key: &ApiKey, profiles: &[ProfileId]) -> Result<()> {
        use profile_key::{ActiveModel, Column, Entity};
        if profiles.is_empty() {
            return Ok(());
        }
        let before: Vec<Uuid> = Entity::find()
            .select_only()
            .column(Column::ApiKeyId)
            .distinct()
            .filter(of_profiles(&key.organization, key.provider, profiles))
            .into_tuple()
            .all(&self.db)
            .await?;
        self.touch(before).await?;
        let rows = profiles.iter().map(|profile| ActiveModel {
            organization_id: Set(key.organization.as_str().to_owned()),
            profile_id: Set(profile.as_str().to_owned()),
            provider: Set(key.provider.name().to_owned()),
            api_key_id: Set(key.id.0),
        });
        Entity::insert_many(rows)
            .on_conflict(
                OnConflict::columns([Column::OrganizationId, Column::ProfileId, Column::Provider])
                    .update_column(Column::ApiKeyId)
                    .to_owned(),
            )
            .exec_without_returning(&self.db)
            .await?;
        self.touch([key.id.0]).await
    }

    /// Takes a key away from profiles. Those that do not have it are passed over.
    pub(crate) async fn unassign(&mut self, key: &ApiKey, profiles: &[ProfileId]) -> Result<()> {
        profile_key::Entity::delete_many()
            .filter(of_profiles(&key.organization, key.provider, profiles))
            .filter(profile_key::Column::ApiKeyId.eq(key.id.0))
            .exec(&self.db)
            .await?;
        self.touch([key.id.0]).await
    }

    async fn touch(&mut self, ids: impl IntoIterator<Item = Uuid>) -> Result<()> {
        let ids: Vec<Uuid> = ids.into_iter().collect();
        api_key::Entity::update_many()
            .col_expr(api_key::Column::UpdateTime, Expr::value(self.now))
            .col_expr(api_key::Column::Revision, Expr::value(self.revision))
            .filter(api_key::Column::ApiKeyId.is_in(ids.iter().copied()))
            .exec(&self.db)
            .await?;
        self.touched.extend(ids);
        Ok(())
    }

    async fn update(&mut self, id: KeyId, changes: api_key::ActiveModel) -> Result<()> {
        api_key::Entity::update_many().set(changes).filter(api_key::Column::ApiKeyId.eq(id.0)).exec(&self.db).await?;
        self.touch([id.0]).await
    }
}

async fn begin_write(pool: &DatabaseConnection) -> Result<Bounded<'static>> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    Ok(Bounded::from(pool.begin_with_options(options).await?))
}

async fn commit(tx: Bounded<'static>) -> Result<()> {
    let Some(tx) = tx.into_transaction() else {
        return Err(Error::CommitUnknown(Cause::new("there is no transaction")));
    };
    match timeout(COMMIT_MAX, tx.commit()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if cause::leaves_outcome_unknown(&error) => Err(Error::CommitUnknown(Cause::from(&error))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Error::CommitUnknown(Cause::new(format!("no answer within {} s", COMMIT_MAX.as_secs())))),
    }
}

fn versions_after(after: Option<(KeyId, i64)>) -> Select<secret::Entity> {
    let mut query = secret::Entity::find();
    if let Some((id, version)) = after {
        let same_key = Condition::all().add(secret::Column::ApiKeyId.eq(id.0)).add(secret::Column::Version.gt(version));
        query = query.filter(Condition::any().add(secret::Column::ApiKeyId.gt(id.0)).add(same_key));
    }
    query.order_by_asc(secret::Column::ApiKeyId).order_by_asc(secret::Column::Version)
}

fn of_profiles(organization: &OrganizationId, provider: Provider, profiles: &[ProfileId]) -> Condition {
    Condition::all()
        .add(profile_key::Column::OrganizationId.eq(organization.as_str()))
        .add(profile_key::Column::Provider.eq(provider.name()))
        .add(profile_key::Column::ProfileId.is_in(profiles.iter().map(ProfileId::as_str)))
}

async fn key<C: ConnectionTrait>(db: &C, organization: &OrganizationId, id: KeyId) -> Result<Option<ApiKey>> {
    let row = api_key::Entity::find_by_id(id.0)
        .filter(api_key::Column::OrganizationId.eq(organization.as_str()))
        .all(db)
        .await?;
    Ok(with_links(db, organization, row).await?.pop())
}

/// Adds to each key whether it is a default, its profiles, and when it was used.
async fn with_links<C: ConnectionTrait>(
    db: &C,
    organization: &OrganizationId,
    rows: Vec<api_key::Model>,
) -> Result<Vec<ApiKey>> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.api_key_id).collect();
    let defaults: Vec<Uuid> = organization_default::Entity::find()
        .select_only()
        .column(organization_default::Column::ApiKeyId)
        .filter(organization_default::Column::OrganizationId.eq(organization.as_str()))
        .into_tuple()
        .all(db)
        .await?;
    let kept: Vec<(Uuid, i64, DateTime<Utc>)> = secret::Entity::find()
        .select_only()
        .columns([secret::Column::ApiKeyId, secret::Column::Version, secret::Column::KeepUntil])
        .filter(secret::Column::ApiKeyId.is_in(ids.iter().copied()))
        .filter(secret::Column::KeepUntil.is_not_null())
        .into_tuple()
        .all(db)
        .await?;
    let mut previous: HashMap<Uuid, Previous> =
        kept.into_iter().map(|(id, version, keep_until)| (id, Previous { version, keep_until })).collect();
    let used = key_use::Entity::find().filter(key_use::Column::ApiKeyId.is_in(ids.iter().copied())).all(db).await?;
    let mut used: HashMap<Uuid, key_use::Model> = used.into_iter().map(|row| (row.api_key_id, row)).collect();
    let mut profiles: HashMap<Uuid, Vec<ProfileId>> = HashMap::new();
    let assigned = profile_key::Entity::find()
        .filter(profile_key::Column::ApiKeyId.is_in(ids))
        .order_by_asc(profile_key::Column::ProfileId)
        .all(db)
        .await?;
    for row in assigned {
        let profile = ProfileId::try_from(row.profile_id).map_err(|_| Error::Damaged("a profile's id"))?;
        profiles.entry(row.api_key_id).or_default().push(profile);
    }
    rows.into_iter()
        .map(|row| {
            let is_default = defaults.contains(&row.api_key_id);
            let previous = previous.remove(&row.api_key_id);
            let mut profiles = profiles.remove(&row.api_key_id).unwrap_or_default();
            // Databases order text by their own collation; the contract says bytes.
            profiles.sort();
            let used = used.remove(&row.api_key_id);
            row::api_key(row, is_default, profiles, previous, used)
        })
        .collect()
}
