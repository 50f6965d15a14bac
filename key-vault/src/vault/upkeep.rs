//! What a replica does without being asked: unseals, follows the history, says that it is
//! alive, looks after its secrets manager, wraps data keys anew, and cleans up.
//!
//! Each is a loop that never gives up and never ends; together they are one future, which
//! the server drops when it stops. None is needed for a call that is running.

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use tokio::{
    join,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};
use uuid::Uuid;

use service_runtime::failure::Chain;

use super::{
    Error, Mutation, Vault,
    mutation::{Affected, Begun},
};
use crate::{access::Caller, change::ChangeKind, seal::KekState};

/// How often the database is asked where the history stands. A change of another replica
/// is told to watchers after this at the latest.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// How often a replica says that it is alive.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);

/// How long one question to the database may take before it is asked anew.
const QUESTION_MAX: Duration = Duration::from_secs(5);

/// How many reports in a row must fail before the database counts as one that takes no writes:
/// one may have waited behind others.
const WRITE_FAILURES_MIN: u32 = 2;

const CLEANING_INTERVAL: Duration = Duration::from_secs(10);
const REWRAP_INTERVAL: Duration = Duration::from_secs(1);

/// How long versions that did not open are left alone before they are tried again.
const REWRAP_FAILED_INTERVAL: Duration = Duration::from_mins(10);

/// How often every stored version is opened, to see that it does.
const SCRUB_INTERVAL: Duration = Duration::from_hours(24);

/// The wait between two attempts to unseal: doubled from the first to the last.
const UNSEAL_WAIT_MIN: Duration = Duration::from_millis(500);
const UNSEAL_WAIT_MAX: Duration = Duration::from_secs(4);

/// How many expired versions one round destroys.
const EXPIRED_AT_ONCE: u64 = 100;

/// What the operator chooses about upkeep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upkeep {
    /// How many changes are kept for watchers to resume from.
    pub(crate) changes_kept: i64,
    /// How fast data keys are wrapped anew, at most.
    pub(crate) rewrap_rows_per_second: u32,
    /// How long it is remembered what keys were used for.
    pub(crate) usage_retention: TimeDelta,
    /// How long events of the audit log are kept. For ever, unless given.
    pub(crate) audit_kept_for: Option<Duration>,
    /// Whether a key is released only with a record of it.
    pub(crate) records_resolutions: bool,
}

impl Vault {
    /// Does all of it. Never ends by itself.
    ///
    /// # Cancel safety
    ///
    /// Every step is one transaction, so dropping it leaves nothing half done.
    pub(crate) async fn look_after(self: &Arc<Self>) {
        let serving = async {
            self.unseal_at_last().await;
            join!(self.recording(), self.reporting(), self.rewrapping(), self.scrubbing());
        };
        join!(serving, self.following(), self.cleaning(), self.tending());
    }

    /// Writes down what is only in memory, and takes this replica out of those that are alive.
    pub(crate) async fn sign_off(&self) {
        self.record_last_refusals().await;
        if !matches!(timeout(QUESTION_MAX, self.store.sign_off(self.replica)).await, Ok(Ok(()))) {
            debug!("the replica could not sign off; it counts as alive for some seconds");
        }
    }

    async fn unseal_at_last(&self) {
        let mut wait = UNSEAL_WAIT_MIN;
        loop {
            match self.unseal().await {
                Ok(()) => return,
                Err(error) => {
                    let reason = Chain(&error).to_string();
                    self.metrics.sealed(true);
                    if self.condition.sealed(reason.clone()) {
                        warn!(reason, "the vault is sealed: it waits, and serves no keys");
                    }
                }
            }
            sleep(jittered(wait)).await;
            wait = (wait * 2).min(UNSEAL_WAIT_MAX);
        }
    }

    async fn following(&self) {
        let mut kek_revision = None;
        let mut well = true;
        loop {
            let asked = Instant::now();
            match timeout(QUESTION_MAX, self.store.position()).await {
                Ok(Ok(Some(position))) => {
                    self.history.saw(position, asked);
                    self.metrics.revision(position.revision);
                    if kek_revision != Some(position.kek_revision) && self.learn_keks().await.is_ok() {
                        kek_revision = Some(position.kek_revision);
                    }
                    self.read(&mut well, None);
                }
                Ok(Ok(None)) => self.read(&mut well, None),
                Ok(Err(error)) => self.read(&mut well, Some(Chain(&error).to_string())),
                Err(_) => self.read(&mut well, Some(unanswered())),
            }
            sleep(jittered(FOLLOW_INTERVAL)).await;
        }
    }

    /// Notes whether the database answered, and says once that it went away, and that it is back.
    fn read(&self, well: &mut bool, problem: Option<String>) {
        match (*well, &problem) {
            (true, Some(problem)) => warn!(problem, "the database does not answer"),
            (false, None) => info!("the database answers again"),
            (true, None) | (false, Some(_)) => {}
        }
        *well = problem.is_none();
        self.condition.reads(problem);
    }

    async fn reporting(&self) {
        let mut failures = 0;
        loop {
            let problem = match timeout(QUESTION_MAX, self.report()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Chain(&error).to_string()),
                Err(_) => Some(unanswered()),
            };
            failures = if problem.is_some() { failures + 1 } else { 0 };
            if let Some(problem) = &problem {
                debug!(problem, "the replica could not report");
            }
            self.condition.writes(problem.filter(|_| failures >= WRITE_FAILURES_MIN));
            sleep(REPORT_INTERVAL).await;
        }
    }

    async fn rewrapping(&self) {
        loop {
            let wait = match self.rewrap_all().await {
                Ok(0) => REWRAP_INTERVAL,
                Ok(_) => REWRAP_FAILED_INTERVAL,
                Err(error) => {
                    debug!(error = %Chain(&error), "data keys could not be wrapped anew; tried again");
                    REWRAP_INTERVAL
                }
            };
            // Another key may be promoted while those of before are left alone.
            let kek_revision = self.history.position().map(|position| position.kek_revision);
            let until = Instant::now() + wait;
            while Instant::now() < until {
                sleep(jittered(REWRAP_INTERVAL)).await;
                if self.history.position().map(|position| position.kek_revision) != kek_revision {
                    break;
                }
            }
        }
    }

    async fn scrubbing(&self) {
        loop {
            sleep(jittered(SCRUB_INTERVAL)).await;
            if let Err(error) = self.check_versions(None).await {
                warn!(error = %Chain(&error), "stored keys could not be checked");
            }
        }
    }

    async fn cleaning(&self) {
        loop {
            sleep(jittered(CLEANING_INTERVAL)).await;
            if let Err(error) = self.clean().await {
                debug!(error = %Chain(&error), "cleaning up failed; tried again");
            }
        }
    }

    async fn clean(&self) -> Result<(), Error> {
        self.store.forget_requests().await?;
        self.store.forget_replicas().await?;
        self.store.compact(self.upkeep.changes_kept).await?;
        self.store.forget_reports().await?;
        self.store.forget_usage(Utc::now() - self.upkeep.usage_retention).await?;
        self.purge_audit().await?;
        let mutation = Mutation { caller: Caller::upkeep("DestroyPrevious"), request: None, etag: None };
        for (organization, provider, id) in self.store.expired(EXPIRED_AT_ONCE).await? {
            let Begun::Now(mut work) = self.begin(&mutation).await? else { continue };
            if work.tx.destroy_expired(id).await? {
                let destroyed = Affected { key: Some(id), ..Affected::provider(provider) };
                work.finish_silent(&organization, ChangeKind::PreviousDestroyed, &destroyed).await?;
                info!(key.id = %id, org.id = %organization, "the previous version of a key was destroyed");
            }
        }
        Ok(())
    }

    /// Looks after the secrets managers.
    async fn tending(&self) {
        loop {
            let after = self.tend().await;
            sleep(jittered(after)).await;
        }
    }

    async fn tend(&self) -> Duration {
        let Ok(keks) = self.store.keks().await else { return REPORT_INTERVAL };
        let mut after = CLEANING_INTERVAL;
        for manager in self.managers.all() {
            let kind = manager.kind();
            let needed: Vec<_> = keks
                .iter()
                // Nothing opens a retired key, and its root key may go to where backups are kept.
                .filter(|kek| kek.record.wrapped.manager == kind && kek.state != KekState::Retired)
                .map(|kek| kek.record.wrapped.key_ref.clone())
                .collect();
            let problem = manager.check(&needed).await.err().map(|error| Chain(&error).to_string());
            self.metrics.manager_healthy(kind, problem.is_none());
            after = after.min(manager.check_after());
            if kind == self.managers.configured().kind() && self.condition.manager(problem.clone()) {
                if let Some(problem) = problem {
                    warn!(manager = kind, problem, "the secrets manager is not well; open keys serve on");
                } else {
                    info!(manager = kind, "the secrets manager is well");
                }
            }
        }
        after
    }
}

fn unanswered() -> String {
    format!("the database did not answer within {} s", QUESTION_MAX.as_secs())
}

/// A duration up to a fifth shorter or longer, so that replicas do not do things in step.
fn jittered(duration: Duration) -> Duration {
    // The last bytes of a random id are as good as any other random number.
    let random = Uuid::new_v4().as_bytes()[15];
    duration.mul_f64(0.8 + 0.4 * f64::from(random) / 255.0)
}
