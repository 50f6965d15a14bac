//! The audit log of this replica: who did what, and was refused what.
//!
//! A change is recorded in its own transaction. Resolutions and refusals queue for one writer,
//! which writes what has gathered in one transaction: at once when it is idle, and while a
//! commit runs the next batch gathers. Nobody is answered before their record is permanent;
//! whoever waits for too long is refused, and nothing is released.
//!
//! A batch whose commit has an unknown outcome may be in the log although its callers were
//! refused. There are more records than receipts then, and never fewer.

mod refusals;
mod verify;
mod writer;

use std::{sync::Mutex, time::Duration};

use chrono::{DateTime, SubsecRound as _, Utc};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::{Ask, Error, ResolvedKey, Vault};
use crate::{
    access::Caller,
    audit::{self, Chain, Decision, Event, Filter, Order, Record},
    key::OrganizationId,
    seal::AuditKey,
    store::{self, AuditRows},
};
use refusals::Refusals;

pub(crate) use verify::{Cursor, Place, Problem, ProblemKind, Verified};

/// How long a caller waits for its record: a healthy database takes milliseconds.
const RECORD_MAX: Duration = Duration::from_secs(2);

/// How many records wait for the writer. More than are written in the time that each waits.
const QUEUE_MAX: usize = 8_192;

/// A page of a listing ends at about this size, as all listings do.
const PAGE_BYTES_MAX: usize = super::PAGE_BYTES_MAX;

/// How many events are read at once for a page.
const PAGE_STEP: usize = 100;

/// How many events one step of the cleaning removes, so that it holds a lock for milliseconds.
const PURGED_AT_ONCE: i64 = 10_000;

/// How many steps one round of the cleaning takes: far more than a replica writes in that time.
const PURGE_STEPS: usize = 20;

/// An event that waits for the writer.
#[derive(Debug)]
struct Pending {
    event: Event,
    /// Told whether it is permanent.
    recorded: oneshot::Sender<bool>,
}

/// What of the audit log is in memory.
#[derive(Debug)]
pub(super) struct AuditLog {
    queue: mpsc::Sender<Pending>,
    /// Taken by the writer.
    waiting: Mutex<Option<mpsc::Receiver<Pending>>>,
    refusals: Refusals,
}

impl Default for AuditLog {
    fn default() -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        Self { queue, waiting: Mutex::new(Some(waiting)), refusals: Refusals::default() }
    }
}

impl AuditLog {
    /// Waits until an event is permanent.
    ///
    /// # Errors
    ///
    /// [`Error::NotRecorded`], at the latest after [`RECORD_MAX`].
    async fn record(&self, event: Event) -> Result<(), Error> {
        let (recorded, outcome) = oneshot::channel();
        let queued = self.queue.try_send(Pending { event, recorded });
        queued.map_err(|_| Error::NotRecorded { cause: "too many records wait to be written" })?;
        match timeout(RECORD_MAX, outcome).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false) | Err(_)) => Err(Error::NotRecorded { cause: "the database did not take the record" }),
            Err(_) => Err(Error::NotRecorded { cause: "the database did not take the record in time" }),
        }
    }
}

/// A part of a listing of events.
#[derive(Debug)]
pub(crate) struct EventPage {
    pub(crate) events: Vec<Record>,
    /// The last event of the page, if others follow.
    pub(crate) next_after: Option<Uuid>,
}

impl Vault {
    /// Records what came of a resolution, before it is answered. Nothing if the operator wants none.
    pub(super) async fn record_resolution(
        &self,
        caller: &Caller,
        ask: &Ask,
        at: (Uuid, i64),
        result: &Result<ResolvedKey, Error>,
    ) -> Result<(), Error> {
        if !self.upkeep.records_resolutions {
            return Ok(());
        }
        let event = Event {
            organization: ask.organization.as_str().to_owned(),
            profile: ask.profile.as_ref().map(|profile| profile.as_str().to_owned()).unwrap_or_default(),
            provider: ask.provider.name().into(),
            epoch: Some(at.0),
            revision: at.1,
            ..event(caller)
        };
        let event = match result {
            Ok(key) => Event { key: key.id, key_version: key.version, source: key.source.name().into(), ..event },
            Err(error) => {
                // What is not about the keys has released nothing and decided nothing.
                let Some(reason) = error.decided() else { return Ok(()) };
                let failed = Event { decision: Decision::Failed.name().into(), reason: reason.into(), ..event };
                match error {
                    Error::Unusable { id, source_step, .. } => {
                        Event { key: Some(*id), source: source_step.name().into(), ..failed }
                    }
                    _ => failed,
                }
            }
        };
        self.audit.record(event).await
    }

    /// Records that a caller was refused. Of equal refusals the first of each second is recorded
    /// at once, and the others are counted.
    ///
    /// `organization` is what the caller wrote; what is no organization's id is not kept.
    ///
    /// # Errors
    ///
    /// [`Error::NotRecorded`]. The call is refused all the same.
    pub(crate) async fn record_refusal(
        &self,
        caller: &Caller,
        organization: Option<&str>,
        reason: &'static str,
    ) -> Result<(), Error> {
        if self.sealer.load().is_none() {
            // There is no key yet to write the log with, and no key to be had either.
            info!(principal = %caller.principal, method = caller.method, reason, "a caller was refused");
            return Ok(());
        }
        let organization = organization.and_then(|text| OrganizationId::try_from(text.to_owned()).ok());
        let event = Event {
            organization: organization.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            decision: Decision::Denied.name().into(),
            reason: reason.into(),
            ..event(caller)
        };
        match self.audit.refusals.add(event) {
            Some(first) => {
                let recorded = self.audit.record(first.clone()).await;
                if recorded.is_err() {
                    self.audit.refusals.put_back(first);
                }
                recorded
            }
            None => Ok(()),
        }
    }

    /// Counts a call of a caller that is not known, to be recorded within a second: as many of
    /// them as there may be cost one record.
    pub(crate) fn note_unknown(&self, caller: &Caller, reason: &'static str) {
        let event = Event { decision: Decision::Denied.name().into(), reason: reason.into(), ..event(caller) };
        if let Some(first) = self.audit.refusals.add(event) {
            self.audit.refusals.put_back(first);
        }
    }

    /// Events in the order of their ids, at most `size`, after `after`.
    pub(crate) async fn audit_events(
        &self,
        filter: &Filter,
        order: Order,
        mut after: Option<Uuid>,
        size: usize,
    ) -> Result<EventPage, Error> {
        let mut events: Vec<Record> = Vec::new();
        let mut bytes = 0;
        loop {
            // One more than is wanted, to see whether any follows.
            let wanted = PAGE_STEP.min(size - events.len());
            let step = self.store.audit_events(filter, order, after, wanted + 1).await?;
            let more = step.len() > wanted;
            let taken = step.len().min(wanted);
            for (n, record) in step.into_iter().take(taken).enumerate() {
                bytes += size_in_listing(&record.event);
                after = Some(record.event.id);
                events.push(record);
                if events.len() >= size || bytes >= PAGE_BYTES_MAX {
                    let next_after = (more || n + 1 < taken).then_some(after).flatten();
                    return Ok(EventPage { events, next_after });
                }
            }
            if !more {
                return Ok(EventPage { events, next_after: None });
            }
        }
    }

    /// Begins the log of a vault that has none.
    pub(super) async fn begin_audit_log(&self, key: &AuditKey) -> Result<(), store::Error> {
        if self.store.audit_chain(key.vault()).await?.is_some() {
            return Ok(());
        }
        let tx = self.store.begin_audit().await?;
        let rows = tx.audit();
        // First, so that replicas that start together take turns.
        let is_first = rows.begin_log().await?;
        if rows.lock_chain(key.vault()).await?.is_some() {
            return Ok(());
        }
        let chain = Chain::new(key.vault(), 0);
        if is_first {
            rows.insert_chain(&chain.sealed(key)).await?;
        } else {
            error!("the audit log was cut: what is said of its first chain is gone; VerifyAuditLog says more");
            rows.insert_chain(&chain).await?;
        }
        tx.commit().await
    }

    /// Removes what has been kept for long enough, as much as one round may. What is left can
    /// still be verified.
    pub(super) async fn purge_audit(&self) -> Result<(), Error> {
        let Some(kept_for) = self.upkeep.audit_kept_for else { return Ok(()) };
        let sealer = self.sealer()?;
        let key = sealer.audit_key();
        let before = Utc::now() - kept_for;
        for _ in 0..PURGE_STEPS {
            let Some(id) = self.store.audit_oldest(before).await? else { break };
            let Some(chain) = self.store.audit_chain(id).await? else { break };
            let Place { sequence: last, mac } = self.outlived(key, &chain, before).await?;
            if last == chain.floor_sequence {
                // Somebody gave an event an old id, or those before it are hardly younger.
                warn!(chain.id = %id, "an event of the audit log looks old, and nothing before it may go: all is kept");
                break;
            }
            let tx = self.store.begin_audit().await?;
            let Some(now) = tx.audit().lock_chain(id).await? else { break };
            // Another replica may have been here. Without the note of where the chain begins now,
            // what is left could not be verified.
            if now.floor_sequence != chain.floor_sequence
                || !tx.audit().replace_chain(&now, &now.without(key, last, mac)).await?
            {
                continue;
            }
            tx.audit().purge(id, last).await?;
            tx.commit().await?;
            debug!(chain.id = %id, last, "events of the audit log were removed: they are older than is kept");
        }
        Ok(())
    }

    /// How far the events of a chain are from before a time, and as they were written. Only such
    /// are removed: whoever can write to the database must not have the vault remove its own log.
    async fn outlived(&self, key: &AuditKey, chain: &Chain, before: DateTime<Utc>) -> Result<Place, Error> {
        let mut place = Place { sequence: chain.floor_sequence, mac: chain.floor_mac.clone() };
        if !chain.is_sealed(key) {
            return Ok(place);
        }
        let last = chain.sequence.min(place.sequence.saturating_add(PURGED_AT_ONCE));
        while place.sequence < last {
            let step = self.store.audit_records(chain.id, place.sequence, last, verify::STEP).await?;
            if step.is_empty() {
                return Ok(place);
            }
            for record in step {
                match record {
                    Ok(record)
                        if record.sequence == place.sequence + 1
                            && record.event.time < before
                            && record.follows(key, &place.mac) =>
                    {
                        place = Place { sequence: record.sequence, mac: record.mac };
                    }
                    Ok(_) | Err(_) => return Ok(place),
                }
            }
        }
        Ok(place)
    }
}

/// Records changes in their own transaction, in the chain of all mutations.
///
/// # Errors
///
/// Whatever fails, the transaction must not be committed.
pub(super) async fn record_in(rows: AuditRows<'_>, key: &AuditKey, events: &[Event]) -> Result<(), Error> {
    let lost = Error::NotRecorded { cause: "what is said of the chain of all mutations is gone" };
    let before = rows.lock_chain(key.vault()).await?.ok_or(lost)?;
    let (after, macs) = before.extended(key, events);
    rows.replace_chain(&before, &after).await?;
    Ok(rows.insert(&before, events, macs).await?)
}

/// A call that was done, now.
pub(super) fn event(caller: &Caller) -> Event {
    // As both databases can keep it: to the microsecond.
    let now = Utc::now().trunc_subsecs(6);
    audit::Event::of(caller, Uuid::now_v7(), now, caller.since.elapsed())
}

/// About how many bytes an event takes in a listing.
fn size_in_listing(event: &Event) -> usize {
    const FIXED_FIELDS: usize = 384;
    FIXED_FIELDS + event.organization.len() + event.profile.len() + event.profiles.len() * 2
}

#[cfg(test)]
mod tests;
