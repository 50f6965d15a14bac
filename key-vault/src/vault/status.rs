//! How this replica is, for probes and for the operator.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use service_runtime::readiness::{Component, Readiness};
use uuid::Uuid;

use super::{KekStatus, Vault};
use crate::{change::Position, store::ReplicaRow};

/// The database: what every call needs.
pub(crate) const STORE: &str = "store";

/// The key encryption keys: what keys are opened and sealed with.
pub(crate) const KEYRING: &str = "keyring";

/// The records without which no key is released.
pub(crate) const AUDIT: &str = "audit";

/// The configured secrets manager. Keys that are open serve on without it.
const SECRETS_MANAGER: &str = "secrets_manager";

/// How long the database may fail before the replica is not ready: a failover, or one question
/// that was lost, is shorter.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// The same of records. Whoever cannot be recorded is refused meanwhile, and may try again.
const AUDIT_PATIENCE: Duration = Duration::from_secs(2);

/// Shorter than the time between two checks: the second failure in a row counts.
const SECRETS_MANAGER_PATIENCE: Duration = Duration::from_secs(1);

/// What a replica remembers of how it was.
#[derive(Debug)]
pub(crate) struct Condition {
    store: Component,
    keyring: Component,
    secrets_manager: Component,
    audit: Component,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    /// Why the database takes no writes, if it does not.
    not_written: Option<String>,
    sealed_because: String,
    manager_problem: Option<String>,
    manager_well: Option<DateTime<Utc>>,
    undecryptable: i64,
}

impl Condition {
    /// That of a replica that starts.
    pub(crate) fn new(readiness: &Readiness) -> Self {
        let notes = Notes { sealed_because: "the vault is starting".to_owned(), ..Notes::default() };
        let condition = Self {
            store: readiness.component(STORE, STORE_PATIENCE),
            keyring: readiness.component(KEYRING, Duration::ZERO),
            secrets_manager: readiness.component(SECRETS_MANAGER, SECRETS_MANAGER_PATIENCE),
            audit: readiness.component(AUDIT, AUDIT_PATIENCE),
            notes: Mutex::new(notes),
        };
        // Nothing waits for it: a vault that is unsealed has had its answers.
        condition.secrets_manager.impaired("it was not asked yet");
        condition
    }

    /// What was noted. Nothing can panic while it is held.
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sealed_because(&self) -> String {
        self.notes().sealed_because.clone()
    }

    /// Notes why the vault is sealed. True if that is news.
    pub(super) fn sealed(&self, reason: String) -> bool {
        self.keyring.unwell(&reason);
        let mut notes = self.notes();
        let news = notes.sealed_because != reason;
        notes.sealed_because = reason;
        news
    }

    pub(super) fn unsealed(&self) {
        self.notes().sealed_because.clear();
        self.keyring.well();
        // Nothing was recorded yet, and nothing failed.
        self.audit.well();
    }

    /// Notes whether the database can be read, or why not.
    pub(super) fn reads(&self, problem: Option<String>) {
        match problem.or_else(|| self.notes().not_written.clone()) {
            None => self.store.well(),
            Some(problem) => {
                self.store.unwell(&format!("{problem}; see that the database runs and what --database-url says"));
            }
        }
    }

    /// Notes whether the database takes writes, or why not. Counts when it is read next.
    pub(super) fn writes(&self, problem: Option<String>) {
        self.notes().not_written = problem.map(|problem| format!("the database takes no writes: {problem}"));
    }

    /// Notes whether calls can be recorded, or why not.
    pub(super) fn records(&self, problem: Option<&str>) {
        match problem {
            None => self.audit.well(),
            Some(problem) => {
                self.audit.unwell(&format!(
                    "no call can be recorded, so no key is released: {problem}; see that the database takes writes"
                ));
            }
        }
    }

    /// Notes how the secrets manager is. True if that is news.
    pub(super) fn manager(&self, problem: Option<String>) -> bool {
        match &problem {
            None => self.secrets_manager.well(),
            Some(problem) => self.secrets_manager.impaired(problem),
        }
        let mut notes = self.notes();
        if problem.is_none() {
            notes.manager_well = Some(Utc::now());
        }
        let news = notes.manager_problem != problem;
        notes.manager_problem = problem;
        news
    }

    pub(super) fn undecryptable(&self, count: i64) {
        self.notes().undecryptable = count;
    }
}

/// How a replica is. What the database did not tell is left out.
#[derive(Debug)]
pub(crate) struct SealStatus {
    /// Why it is sealed, if it is.
    pub(crate) sealed: Option<String>,
    pub(crate) vault: Option<Uuid>,
    pub(crate) position: Option<Position>,
    pub(crate) manager_kind: &'static str,
    pub(crate) manager_problem: Option<String>,
    pub(crate) manager_well: Option<DateTime<Utc>>,
    pub(crate) keks: Vec<KekStatus>,
    pub(crate) replicas: Vec<ReplicaRow>,
    pub(crate) replica: Uuid,
    pub(crate) undecryptable: i64,
}

impl Vault {
    /// How this replica is.
    pub(crate) async fn seal_status(&self) -> SealStatus {
        let keks = self.kek_statuses().await.unwrap_or_default();
        let replicas = self.store.replicas().await.unwrap_or_default();
        let vault = self.store.meta().await.ok().flatten().map(|meta| meta.vault);
        let position = self.store.position().await.ok().flatten().or_else(|| self.history.position());
        let notes = self.condition.notes();
        let sealed = self.sealer.load().is_none();
        SealStatus {
            sealed: sealed.then(|| notes.sealed_because.clone()),
            vault,
            position,
            manager_kind: self.managers.configured().kind(),
            manager_problem: notes.manager_problem.clone(),
            manager_well: notes.manager_well,
            keks,
            replicas,
            replica: self.replica,
            undecryptable: notes.undecryptable,
        }
    }
}
