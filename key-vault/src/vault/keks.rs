//! Key encryption keys while the vault serves: learned, added, promoted, rewrapped to, and
//! retired.
//!
//! A key seals only after every live replica has said that it knows it, and goes only when
//! no row needs it. What this replica believes about it is never trusted: the transaction
//! that seals reads which key seals, and an unknown one is learned on the spot.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Error, OperationError, Vault,
    audit::{event, record_in},
};
use crate::{
    access::Caller,
    seal::{Binding, CheckedKek, KekError, KekState, Sealer, WRAPS_MAX, secrets_manager::Context},
    store::{ReplicaRow, SealedVersion, StoredKek},
};

/// How long both steps of a rotation wait for the replicas: several times as long as one
/// takes to take up a new key.
const DISTRIBUTION_MAX: Duration = Duration::from_secs(10);
const DISTRIBUTION_POLL: Duration = Duration::from_millis(200);

/// How soon the keys are read again after they were: a row that needs a key which does not
/// exist must not have every call read them.
const LEARN_INTERVAL: Duration = Duration::from_millis(200);

/// How many versions are wrapped in one transaction.
const REWRAP_PAGE: u32 = 100;

/// When the keys were last read; one reader at a time.
#[derive(Debug, Default)]
pub(super) struct Learning(Mutex<Option<Instant>>);

/// A KEK, for the operator.
#[derive(Debug)]
pub(crate) struct KekStatus {
    pub(crate) id: String,
    pub(crate) state: KekState,
    pub(crate) manager: String,
    pub(crate) key_ref: String,
    pub(crate) create_time: DateTime<Utc>,
    pub(crate) wrap_count: i64,
    /// How many stored versions need it.
    pub(crate) versions: i64,
}

/// What a rewrap came to so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RewrapState {
    Done,
    Running,
    /// Only versions that do not open are left.
    Incomplete,
}

/// How far a rewrap is.
#[derive(Debug)]
pub(crate) struct RewrapStatus {
    pub(crate) state: RewrapState,
    pub(crate) kek_id: String,
    pub(crate) total: i64,
    pub(crate) remaining: i64,
    pub(crate) failed: i64,
    pub(crate) start_time: Option<DateTime<Utc>>,
}

impl Vault {
    /// Learns KEKs for a call that met one that this replica does not know, unless it did so
    /// just now.
    pub(super) async fn learn_keks_soon(&self) -> Result<Arc<Sealer>, Error> {
        let asked = Instant::now();
        let learned = *self.learning.0.lock().await;
        if learned.is_some_and(|at| at > asked || at.elapsed() < LEARN_INTERVAL) {
            return self.sealer();
        }
        self.learn_keks().await
    }

    /// Takes up KEKs that other replicas made, and says that it knows them.
    pub(super) async fn learn_keks(&self) -> Result<Arc<Sealer>, Error> {
        let mut learned = self.learning.0.lock().await;
        let sealer = self.sealer()?;
        let mut new = Vec::new();
        for kek in self.store.keks().await? {
            if kek.state != KekState::Retired && !sealer.knows(&kek.record.id) {
                let opened = CheckedKek::open(&kek.record, sealer.vault(), &self.managers).await;
                new.push(opened.map_err(|error| self.manager_failed(error))?);
            }
        }
        *learned = Some(Instant::now());
        if new.is_empty() {
            return Ok(sealer);
        }
        info!(keks = ?new, "key encryption keys learned");
        let sealer = Arc::new(sealer.with(new));
        self.sealer.store(Some(Arc::clone(&sealer)));
        self.report().await?;
        Ok(sealer)
    }

    /// Says that this replica is alive, and which KEKs it knows.
    pub(super) async fn report(&self) -> Result<(), Error> {
        let sealer = self.sealer()?;
        let replica = ReplicaRow {
            id: self.replica,
            seen: Utc::now(),
            kek_ids: sealer.kek_ids().map(str::to_owned).collect(),
            managers: self.managers.kinds().into_iter().map(str::to_owned).collect(),
        };
        Ok(self.store.report(&replica).await?)
    }

    /// Makes a KEK that waits to be promoted, unless there is one.
    pub(crate) async fn add_kek(&self, caller: &Caller) -> Result<KekStatus, Error> {
        let sealer = self.sealer()?;
        if pending(self.store.keks().await?).is_none() {
            let id = format!("kek-{}", Uuid::now_v7().as_hyphenated());
            let made = CheckedKek::create(id, sealer.vault(), self.managers.configured()).await;
            let (_, record) = made.map_err(|error| self.manager_failed(error))?;
            let tx = self.store.begin_keks().await?;
            // Another replica may have been first meanwhile.
            if pending(tx.keks().await?).is_none() {
                tx.add(&record).await?;
                record_in(tx.audit(), sealer.audit_key(), &[event(caller)]).await?;
                tx.commit().await?;
                info!(kek.id = record.id, "a key encryption key was added");
            }
        }
        let pending = pending(self.store.keks().await?).ok_or(OperationError::NoPendingKek)?;
        self.learn_keks().await?;
        self.kek(&pending.record.id).await
    }

    /// Lets the KEK that waits seal, if every live replica knows it.
    pub(crate) async fn promote_kek(&self, caller: &Caller) -> Result<KekStatus, Error> {
        let pending = pending(self.store.keks().await?).ok_or(OperationError::NoPendingKek)?;
        let kek_id = pending.record.id;
        let replicas = self.store.replicas().await?;
        let without: Vec<Uuid> = replicas.iter().filter(|r| !r.kek_ids.contains(&kek_id)).map(|r| r.id).collect();
        if !without.is_empty() {
            return Err(OperationError::KekNotDistributed { kek_id, replicas: without }.into());
        }
        let sealer = self.learn_keks().await?;
        let tx = self.store.begin_keks().await?;
        let still = tx.keks().await?.iter().any(|kek| kek.record.id == kek_id && kek.state == KekState::Pending);
        if !still {
            return Err(OperationError::NoPendingKek.into());
        }
        tx.promote(&kek_id).await?;
        tx.count_wraps(&kek_id, 1).await?;
        let fingerprint_key = tx.fingerprint_key().await?;
        let fingerprint_key = sealer.rewrap_fingerprint_key(&kek_id, &fingerprint_key).map_err(Error::CannotSeal)?;
        tx.replace_fingerprint_key(&fingerprint_key).await?;
        record_in(tx.audit(), sealer.audit_key(), &[event(caller)]).await?;
        tx.commit().await?;
        info!(kek.id = kek_id, "a key encryption key was promoted: data keys are wrapped anew");
        self.metrics.rotated("key_encryption_key");
        self.kek(&kek_id).await
    }

    /// Both steps, with a wait between them for the replicas.
    pub(crate) async fn rotate_kek(&self, caller: &Caller) -> Result<KekStatus, Error> {
        self.add_kek(caller).await?;
        let deadline = Instant::now() + DISTRIBUTION_MAX;
        loop {
            match self.promote_kek(caller).await {
                Err(Error::Operation(OperationError::KekNotDistributed { .. })) if Instant::now() < deadline => {
                    sleep(DISTRIBUTION_POLL).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// All KEKs, oldest first.
    pub(super) async fn kek_statuses(&self) -> Result<Vec<KekStatus>, Error> {
        let references = self.store.kek_references().await?;
        let status = |kek: StoredKek| kek_status(kek, &references);
        Ok(self.store.keks().await?.into_iter().map(status).collect())
    }

    async fn kek(&self, id: &str) -> Result<KekStatus, Error> {
        self.kek_statuses().await?.into_iter().find(|kek| kek.id == id).ok_or(OperationError::NoPendingKek.into())
    }

    /// How far the wrapping with the KEK that seals is.
    pub(crate) async fn rewrap_status(&self) -> Result<RewrapStatus, Error> {
        let kek_id = self.primary_kek().await?;
        let rewrap = self.store.rewrap(&kek_id).await?;
        let state = match rewrap.remaining {
            0 => RewrapState::Done,
            remaining if remaining > rewrap.failed => RewrapState::Running,
            _ => RewrapState::Incomplete,
        };
        Ok(RewrapStatus {
            state,
            kek_id,
            total: rewrap.total,
            remaining: rewrap.remaining,
            failed: rewrap.failed,
            start_time: rewrap.start_time,
        })
    }

    async fn primary_kek(&self) -> Result<String, Error> {
        let keks = self.store.keks().await?;
        let primary = keks.into_iter().enumerate().find(|(_, kek)| kek.state == KekState::Primary);
        let seals = primary.map(|(n, kek)| {
            self.metrics.kek_active_version(i64::try_from(n + 1).unwrap_or(i64::MAX));
            kek.record.id
        });
        seals.ok_or(Error::Store(crate::store::Error::NotSetUp))
    }

    /// Has the configured secrets manager wrap every KEK anew. Returns how many there were to
    /// do, and how many there are.
    pub(crate) async fn rewrap_keks(&self, caller: &Caller) -> Result<(usize, usize), Error> {
        let sealer = self.sealer()?;
        let kind = self.managers.configured().kind();
        let replicas = self.store.replicas().await?;
        let without: Vec<Uuid> =
            replicas.iter().filter(|r| !r.managers.iter().any(|manager| manager == kind)).map(|r| r.id).collect();
        if !without.is_empty() {
            return Err(OperationError::ManagerNotEverywhere { kind, replicas: without }.into());
        }
        let (mut rewrapped, mut total) = (0, 0);
        for kek in self.store.keks().await? {
            if kek.state == KekState::Retired {
                continue;
            }
            total += 1;
            let record = &kek.record;
            let context = Context { vault: sealer.vault(), kek_id: &record.id };
            let failed = |kind: &str, source| OperationError::Manager { kind: kind.to_owned(), source };
            let bits = self.managers.unwrap(&record.wrapped, &context).await;
            let bits = bits.map_err(|source| failed(&record.wrapped.manager, source))?;
            let wrapped = self.managers.configured().wrap(&bits, &context).await;
            let wrapped = wrapped.map_err(|source| failed(kind, source))?;
            if wrapped.manager == record.wrapped.manager && wrapped.key_ref == record.wrapped.key_ref {
                continue;
            }
            // Nothing is replaced by what does not open.
            let moved = crate::seal::KekRecord { wrapped, ..record.clone() };
            let checked = CheckedKek::open(&moved, sealer.vault(), &self.managers).await;
            checked.map_err(|error| self.manager_failed(error))?;
            let tx = self.store.begin_keks().await?;
            tx.replace_wrapped(&record.id, &moved.wrapped).await?;
            record_in(tx.audit(), sealer.audit_key(), &[event(caller)]).await?;
            tx.commit().await?;
            info!(kek.id = record.id, key_ref = moved.wrapped.key_ref, "a key encryption key was wrapped anew");
            rewrapped += 1;
        }
        Ok((rewrapped, total))
    }

    fn manager_failed(&self, error: KekError) -> Error {
        match error {
            KekError::NotUnwrapped { source, .. } => {
                OperationError::Manager { kind: self.managers.configured().kind().to_owned(), source }.into()
            }
            error @ (KekError::WrongBytes { .. } | KekError::WrongCanary { .. } | KekError::NotMade { .. }) => {
                Error::Sealed { reason: error.to_string() }
            }
        }
    }

    /// Wraps what is under older KEKs with the one that seals, as long as no other replica
    /// does, and retires those that nothing needs any more. Returns how many versions do not
    /// open, and stay as they are.
    pub(super) async fn rewrap_all(&self) -> Result<i64, Error> {
        let primary = self.primary_kek().await?;
        let references = self.store.kek_references().await?;
        if references.keys().all(|kek_id| *kek_id == primary) {
            self.metrics.records_on_old_kek(0);
            self.retire_unneeded().await?;
            return Ok(0);
        }
        if !self.store.lease_rewrap(&primary, self.replica).await? {
            return Ok(0);
        }
        let (mut after, mut failed) = (None, 0);
        let pause = Duration::from_secs(u64::from(REWRAP_PAGE)) / self.upkeep.rewrap_rows_per_second.max(1);
        loop {
            let started = Instant::now();
            let page = self.store.sealed_elsewhere(&primary, after, REWRAP_PAGE.into()).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.id, last.version));
            let Some(not_opened) = self.rewrap_page(&primary, &page).await? else { return Ok(0) };
            failed += not_opened;
            self.metrics.records_on_old_kek(self.store.rewrap(&primary).await?.remaining);
            if !self.store.lease_rewrap(&primary, self.replica).await? {
                return Ok(0);
            }
            sleep(pause.saturating_sub(started.elapsed())).await;
        }
        self.store.end_rewrap(&primary, self.replica, failed).await?;
        self.retire_unneeded().await?;
        info!(kek.id = primary, failed, "data keys are wrapped with the current key encryption key");
        Ok(failed)
    }

    /// Wraps some versions in one transaction. Returns how many do not open, or `None` if
    /// `primary` does not seal any more.
    async fn rewrap_page(&self, primary: &str, page: &[SealedVersion]) -> Result<Option<i64>, Error> {
        let mut sealer = self.sealer()?;
        if page.iter().any(|row| !sealer.knows(&row.sealed.kek_id)) || !sealer.knows(primary) {
            sealer = self.learn_keks().await?;
        }
        let mut failed = 0;
        let mut wrapped = Vec::with_capacity(page.len());
        for row in page {
            match sealer.rewrap(primary, &binding(row), &row.sealed) {
                Ok(dek) => wrapped.push((row, dek)),
                Err(error) => {
                    failed += 1;
                    warn!(key.id = %row.id, org.id = %row.organization, %error, "a stored key does not open");
                }
            }
        }
        let tx = self.store.begin_rewrap().await?;
        let wraps = i64::try_from(wrapped.len()).unwrap_or(i64::MAX);
        match tx.count_wraps(primary, wraps).await? {
            Some(count) if count > WRAPS_MAX => return Err(Error::KekUsedUp { kek_id: primary.to_owned() }),
            Some(_) => {}
            None => return Ok(None),
        }
        for (row, dek) in wrapped {
            // Rotated or deleted meanwhile: then there is nothing to do.
            tx.replace_dek(row, &dek, primary).await?;
        }
        tx.commit().await?;
        Ok(Some(failed))
    }

    async fn retire_unneeded(&self) -> Result<(), Error> {
        let references = self.store.kek_references().await?;
        for kek in self.store.keks().await? {
            let id = kek.record.id;
            if kek.state != KekState::DecryptOnly || references.contains_key(&id) {
                continue;
            }
            let tx = self.store.begin_keks().await?;
            if tx.retire(&id).await? {
                tx.commit().await?;
                info!(kek.id = id, "a key encryption key was retired: nothing needs it");
            }
        }
        Ok(())
    }
}

/// What a stored version is bound to.
pub(super) fn binding(row: &SealedVersion) -> Binding<'_> {
    Binding { organization: &row.organization, key: row.id, provider: row.provider, version: row.version }
}

fn pending(keks: Vec<StoredKek>) -> Option<StoredKek> {
    keks.into_iter().find(|kek| kek.state == KekState::Pending)
}

fn kek_status(kek: StoredKek, references: &HashMap<String, i64>) -> KekStatus {
    KekStatus {
        versions: references.get(&kek.record.id).copied().unwrap_or(0),
        id: kek.record.id,
        state: kek.state,
        manager: kek.record.wrapped.manager,
        key_ref: kek.record.wrapped.key_ref,
        create_time: kek.create_time,
        wrap_count: kek.wrap_count,
    }
}
