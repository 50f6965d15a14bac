//! How this replica is, for probes and for the operator.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

use super::{KekStatus, Vault};
use crate::{change::Position, store::ReplicaRow};

/// What a replica remembers of how it was.
#[derive(Debug)]
pub(super) struct Condition {
    ready: watch::Sender<bool>,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    sealed_because: String,
    manager_problem: Option<String>,
    manager_well: Option<DateTime<Utc>>,
    undecryptable: i64,
}

impl Default for Condition {
    fn default() -> Self {
        let notes = Notes { sealed_because: "the vault is starting".to_owned(), ..Notes::default() };
        Self { ready: watch::Sender::new(false), notes: Mutex::new(notes) }
    }
}

impl Condition {
    /// What was noted. Nothing can panic while it is held.
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sealed_because(&self) -> String {
        self.notes().sealed_because.clone()
    }

    /// Notes why the vault is sealed. True if that is news.
    pub(super) fn sealed(&self, reason: String) -> bool {
        let mut notes = self.notes();
        let news = notes.sealed_because != reason;
        notes.sealed_because = reason;
        news
    }

    pub(super) fn unsealed(&self) {
        self.notes().sealed_because.clear();
        self.ready.send_replace(true);
    }

    /// Notes how the secrets manager is. True if that is news.
    pub(super) fn manager(&self, problem: Option<String>) -> bool {
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
    /// Whether this replica serves, and when that changes.
    pub(crate) fn readiness(&self) -> watch::Receiver<bool> {
        self.condition.ready.subscribe()
    }

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
