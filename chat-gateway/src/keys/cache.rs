//! The keys that are kept. No IO happens here, and no clock is read.
//!
//! The lock is held for a look into a table, or for a walk through it when something changed.
//! Material is wiped when the last call that uses it ends.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;
use tokio::time::Instant;

use super::Of;
use crate::{
    message::{Label, Provider},
    vault_client::ResolvedKey,
};

/// How long a key is used past its lease before the vault is asked again.
const REST: Duration = Duration::from_secs(1);

/// Kept keys.
#[derive(Debug)]
pub(super) struct Cache {
    grace: Duration,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    kept: LruCache<Arc<Of>, Kept>,
    /// Raised by whatever takes keys away. An answer that was asked for before is not kept.
    changes: u64,
    /// The highest revision that the vault has told of. Answers of before are not kept.
    revision: i64,
}

#[derive(Debug)]
struct Kept {
    key: Arc<ResolvedKey>,
    lease_end: Instant,
    /// The vault could not answer, and is not asked before.
    rest_end: Option<Instant>,
}

/// What is kept.
#[derive(Debug)]
pub(super) enum Find {
    /// Within its lease.
    Fresh(Arc<ResolvedKey>),
    /// Past its lease, and the vault could not answer a moment ago.
    Resting(Arc<ResolvedKey>),
    /// Past its lease: ask the vault.
    Old,
    Nothing,
}

impl Cache {
    /// Keeps at most so many, and so long past their lease.
    pub(super) fn new(entries: NonZeroUsize, grace: Duration) -> Self {
        let table = Table { kept: LruCache::sparse(entries), changes: 0, revision: 0 };
        Self { grace, table: Mutex::new(table) }
    }

    /// How often keys were taken away. To be asked for before the vault is.
    pub(super) fn changes(&self) -> u64 {
        self.table().changes
    }

    /// Looks for a key.
    pub(super) fn find(&self, of: &Of, now: Instant) -> Find {
        let mut table = self.table();
        let Some(kept) = table.kept.get(of) else { return Find::Nothing };
        if now < kept.lease_end {
            Find::Fresh(Arc::clone(&kept.key))
        } else if now >= kept.lease_end + self.grace {
            table.kept.pop(of);
            Find::Nothing
        } else if kept.rest_end.is_some_and(|end| now < end) {
            Find::Resting(Arc::clone(&kept.key))
        } else {
            Find::Old
        }
    }

    /// Keeps what the vault answered as of `revision`, in place of what was kept, unless it may
    /// be of before a change: `changes` is how many there were before it was asked.
    pub(super) fn keep(&self, of: &Arc<Of>, key: &Arc<ResolvedKey>, revision: i64, lease_end: Instant, changes: u64) {
        let mut table = self.table();
        // Even if this one is not kept, what was is no longer the vault's answer.
        table.kept.pop(of);
        if table.changes == changes && revision >= table.revision {
            let kept = Kept { key: Arc::clone(key), lease_end, rest_end: None };
            table.kept.put(Arc::clone(of), kept);
        }
    }

    /// The key to use past its lease now that the vault cannot answer, if there is one.
    pub(super) fn rest(&self, of: &Of, now: Instant) -> Option<Arc<ResolvedKey>> {
        let mut table = self.table();
        let kept = table.kept.get_mut(of).filter(|kept| now < kept.lease_end + self.grace)?;
        kept.rest_end = Some(now + REST);
        Some(Arc::clone(&kept.key))
    }

    /// Drops a key: the vault refuses it.
    pub(super) fn drop_one(&self, of: &Of) {
        self.table().kept.pop(of);
    }

    /// Drops this key wherever it is kept. That is no change at the vault: what is being asked
    /// of it meanwhile is as good as before.
    pub(super) fn forget(&self, refused: &ResolvedKey) {
        self.table().kept.retain(|_, kept| {
            kept.key.api_key_id != refused.api_key_id
                || kept.key.version != refused.version
                // The environment's keys have no id.
                || kept.key.material.expose() != refused.material.expose()
        });
    }

    /// Drops what a change may have made wrong: keys of this organization and these providers.
    /// `None` are all.
    pub(super) fn changed(&self, revision: i64, organization: Option<&Label>, providers: Option<&[Provider]>) {
        let mut table = self.table();
        table.revision = table.revision.max(revision);
        table.drop_where(|of, _| {
            organization.is_none_or(|organization| of.organization == *organization)
                && providers.is_none_or(|providers| providers.contains(&of.provider))
        });
    }

    /// Drops everything.
    pub(super) fn clear(&self) {
        self.table().drop_where(|_, _| true);
    }

    /// Drops everything, and begins with this revision: another history has its own count.
    pub(super) fn begin_anew(&self, revision: i64) {
        let mut table = self.table();
        table.revision = revision;
        table.drop_where(|_, _| true);
    }

    /// Notes how far the vault has told of changes.
    pub(super) fn told_of(&self, revision: i64) {
        let mut table = self.table();
        table.revision = table.revision.max(revision);
    }

    /// Drops what is past all use.
    pub(super) fn sweep(&self, now: Instant) {
        self.table().kept.retain(|_, kept| now < kept.lease_end + self.grace);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that holds the lock panics, and a lost key is asked for again.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn drop_where(&mut self, wrong: impl Fn(&Of, &ResolvedKey) -> bool) {
        self.changes += 1;
        self.kept.retain(|of, kept| !wrong(of, &kept.key));
    }
}

#[cfg(test)]
mod tests;
