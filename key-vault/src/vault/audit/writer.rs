//! The one writer of this replica's chain.

use std::{sync::PoisonError, time::Duration};

use service_runtime::failure::Chain as Causes;
use tokio::{
    select,
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{error, info};
use uuid::Uuid;

use super::{Pending, event, refusals::WINDOW};
use crate::{
    access::Caller,
    audit::{Chain, Event},
    seal::AuditKey,
    store::{self, AuditRows, Store},
    vault::Vault,
};

/// How many events one transaction takes. Each has 24 values, and SQLite takes 32,766 in one
/// statement.
const BATCH_MAX: usize = 256;

/// How long a batch may take, with its second attempt. No caller waits for longer.
const WRITE_MAX: Duration = Duration::from_secs(2);

/// How often a batch is tried. The second time is for what another connection cures.
const ATTEMPTS: usize = 2;

/// How many rehearsals in a row stand for a record. One alone says less than a record would: what
/// is taken back needs no room on a disk.
const REHEARSALS_MIN: u32 = 5;

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Somebody else changed what is said of the chain, as the cleaning does.
    #[error("the chain is not where it was")]
    Moved,
    #[error("what is said of the chain of all mutations is gone")]
    NoLog,
    #[error("no answer within {} s", WRITE_MAX.as_secs())]
    TooSlow,
}

impl Vault {
    /// Writes what waits to be recorded. Never ends.
    pub(in crate::vault) async fn recording(&self) {
        let waiting = self.audit.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut waiting) = waiting else { return };
        let mut writer = Writer::new(self.replica);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut tick = interval(WINDOW);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                _ = waiting.recv_many(&mut batch, BATCH_MAX) => self.write_batch(&mut writer, &mut batch).await,
                _ = tick.tick() => {
                    self.write_refusals(&mut writer).await;
                    self.look_again(&mut writer).await;
                }
            }
        }
    }

    /// Writes what was counted of refusals and is not written yet: the replica stops.
    pub(in crate::vault) async fn record_last_refusals(&self) {
        // A chain of its own, since the writer's is gone.
        self.write_refusals(&mut Writer::new(self.replica)).await;
    }

    async fn write_batch(&self, writer: &mut Writer, batch: &mut Vec<Pending>) {
        // Whoever has left was answered with nothing.
        batch.retain(|pending| !pending.recorded.is_closed());
        let (events, callers): (Vec<Event>, Vec<oneshot::Sender<bool>>) =
            batch.drain(..).map(|pending| (pending.event, pending.recorded)).unzip();
        let recorded = self.write(writer, &events).await;
        if !recorded {
            self.metrics.audit_failed(events.len());
        }
        for caller in callers {
            // It may have left meanwhile.
            let _ = caller.send(recorded);
        }
    }

    async fn write_refusals(&self, writer: &mut Writer) {
        let mut counted = self.audit.refusals.take();
        while !counted.is_empty() {
            let rest = counted.split_off(counted.len().min(BATCH_MAX));
            if !self.write(writer, &counted).await {
                counted.into_iter().chain(rest).for_each(|event| self.audit.refusals.put_back(event));
                return;
            }
            counted = rest;
        }
    }

    /// Writes events in one transaction. Says whether they are permanent.
    async fn write(&self, writer: &mut Writer, events: &[Event]) -> bool {
        let Some(sealer) = self.sealer.load_full().filter(|_| !events.is_empty()) else { return events.is_empty() };
        let writing = writer.write(&self.store, sealer.audit_key(), events);
        let begun = Instant::now();
        let outcome = timeout(WRITE_MAX, writing).await.unwrap_or(Err(Failed::TooSlow));
        if outcome.is_ok() {
            self.metrics.audit_batch(events.len(), begun.elapsed());
        }
        self.note_written(writer, &outcome);
        outcome.is_ok()
    }

    /// After a failure: finds out whether a record could be written again. A replica that is not
    /// ready gets no calls, and with them none that would tell.
    async fn look_again(&self, writer: &mut Writer) {
        let Some(sealer) = self.sealer.load_full().filter(|_| !writer.well) else { return };
        let rehearsal = writer.rehearse(&self.store, sealer.audit_key());
        let outcome = timeout(WRITE_MAX, rehearsal).await.unwrap_or(Err(Failed::TooSlow));
        writer.rehearsed += 1;
        if outcome.is_err() || writer.rehearsed >= REHEARSALS_MIN {
            self.note_written(writer, &outcome);
        }
    }

    fn note_written(&self, writer: &mut Writer, outcome: &Result<(), Failed>) {
        let problem = outcome.as_ref().err().map(|error| Causes(error).to_string());
        match (writer.well, &problem) {
            (false, None) => info!("the audit log is written again"),
            (true, Some(problem)) => error!(error = problem, "the audit log cannot be written: no key is released"),
            (true, None) | (false, Some(_)) => {}
        }
        writer.well = problem.is_none();
        writer.rehearsed = 0;
        self.condition.records(problem.as_deref());
    }
}

/// What the writer knows of its chain.
struct Writer {
    id: Uuid,
    /// Whether the chain has been seen in the database.
    began: bool,
    /// Nothing at first, and after every failure: then the database says where it ends.
    chain: Option<Chain>,
    /// Whether the last write went well, or enough rehearsals since.
    well: bool,
    /// How many rehearsals went well since a write or a rehearsal last failed.
    rehearsed: u32,
}

impl Writer {
    fn new(id: Uuid) -> Self {
        Self { id, began: false, chain: None, well: true, rehearsed: 0 }
    }

    /// # Cancel safety
    ///
    /// Dropped, it may have written everything or nothing, and reads what it was before it
    /// writes again.
    async fn write(&mut self, store: &Store, key: &AuditKey, events: &[Event]) -> Result<(), Failed> {
        let mut intended = None;
        let mut attempt = 1;
        loop {
            match self.attempt(store, key, events, &mut intended).await {
                Ok(()) => return Ok(()),
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the events. `intended` is where the chain ends if a commit succeeds whose outcome
    /// is not known.
    async fn attempt(
        &mut self,
        store: &Store,
        key: &AuditKey,
        events: &[Event],
        intended: &mut Option<Vec<u8>>,
    ) -> Result<(), Failed> {
        let tx = store.begin_audit().await?;
        let before = match self.chain.take() {
            Some(chain) => chain,
            None => self.found(tx.audit(), key).await?,
        };
        if intended.as_ref() == Some(&before.mac) {
            self.chain = Some(before);
            return Ok(());
        }
        let (after, macs) = before.extended(key, events);
        if !tx.audit().replace_chain(&before, &after).await? {
            drop(tx);
            self.look_back(store, &before).await;
            return Err(Failed::Moved);
        }
        tx.audit().insert(&before, events, macs).await?;
        *intended = Some(after.mac.clone());
        tx.commit().await?;
        self.began = true;
        self.chain = Some(after);
        Ok(())
    }

    /// Does all that a record takes, and leaves none.
    ///
    /// # Cancel safety
    ///
    /// As of a write.
    async fn rehearse(&mut self, store: &Store, key: &AuditKey) -> Result<(), Failed> {
        let tx = store.begin_audit().await?;
        let before = self.found(tx.audit(), key).await?;
        let events = [event(&Caller::upkeep("Rehearse"))];
        let (after, macs) = before.extended(key, &events);
        if !tx.audit().replace_chain(&before, &after).await? {
            return Err(Failed::Moved);
        }
        tx.audit().insert(&before, &events, macs).await?;
        drop(tx);
        // Nothing was permanent so far, and a full disk is noticed by what is to be.
        let tx = store.begin_audit().await?;
        tx.audit().lock_chain(key.vault()).await?.ok_or(Failed::NoLog)?;
        Ok(tx.commit().await?)
    }

    /// Says it if what is said of the chain went back: an older copy was put in its place, and a
    /// verification alone cannot tell it from the chain as it was then.
    async fn look_back(&self, store: &Store, before: &Chain) {
        if let Ok(Some(now)) = store.audit_chain(before.id).await
            && now.sequence < before.sequence
        {
            let (is, was) = (now.sequence, before.sequence);
            error!(chain.id = %before.id, is, was, "events were cut from the audit log: it was put back");
        }
    }

    /// The chain as the database has it, or a new one.
    async fn found(&mut self, rows: AuditRows<'_>, key: &AuditKey) -> Result<Chain, Failed> {
        if let Some(chain) = rows.lock_chain(self.id).await? {
            self.began = true;
            return Ok(chain);
        }
        if self.began {
            // Somebody removed what is said of it. What is left of it stays as they left it.
            self.id = Uuid::now_v7();
            self.began = false;
        }
        let log = rows.lock_chain(key.vault()).await?.ok_or(Failed::NoLog)?;
        let grown = log.with_another(key);
        let chain = Chain::new(self.id, grown.others).sealed(key);
        rows.replace_chain(&log, &grown).await?;
        rows.insert_chain(&chain).await?;
        Ok(chain)
    }
}
