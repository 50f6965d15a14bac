//! The loop that reports to the vault.

use std::{sync::Arc, time::Duration};

use service_runtime::failure::Chain;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use uuid::Uuid;

use super::{BATCH_MAX, KeyUse, Uses};
use crate::vault_client::{ReportError, VaultClient};

/// How long a use waits to be reported, unless a whole batch waits earlier. What is lost with
/// a gateway that is killed is of this time, and of one call to the vault.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How often the vault hears of a gateway that has nothing to report.
const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_secs(2);

/// The wait before a report is sent again: doubled from the first to the last. The vault
/// takes a gateway for lost that is silent for 10 s.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(250);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(4);

/// How often a vault is asked that does not take reports: one of a version before.
const UNSERVED_WAIT: Duration = Duration::from_secs(30);

/// How long a gateway that ends may take to report what is left.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// What is told to the vault at once.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// Another one at each start.
    pub(crate) reporter: Uuid,
    pub(crate) uses: &'a [KeyUse],
    pub(crate) dropped: u64,
    /// Nothing more comes.
    pub(crate) last: bool,
}

/// Reports uses to the vault. There is one in a process.
#[derive(Debug)]
pub(crate) struct Reporter {
    id: Uuid,
    uses: Arc<Uses>,
    vault: VaultClient,
    /// Taken to be reported, and kept until the vault has taken it.
    batch: Vec<KeyUse>,
    retry_wait: Duration,
    well: bool,
}

impl Reporter {
    pub(crate) fn new(uses: Arc<Uses>, vault: VaultClient) -> Self {
        Self { id: Uuid::new_v4(), uses, vault, batch: Vec::new(), retry_wait: RETRY_WAIT_MIN, well: true }
    }

    /// Reports for as long as it is polled. Never ends by itself.
    ///
    /// # Cancel safety
    ///
    /// A batch that was under way is kept, and sent again by [`Reporter::finish`]: the vault
    /// counts it once.
    pub(crate) async fn run(&mut self) {
        // At once: a gateway that dies in its first second is known too.
        self.report_waiting().await;
        let mut told = Instant::now();
        loop {
            tokio::select! {
                () = sleep(REPORT_INTERVAL) => {}
                () = self.uses.full_batch.notified() => {}
            }
            if self.batch_waits() || told.elapsed() >= SIGN_OF_LIFE_INTERVAL {
                self.report_waiting().await;
                told = Instant::now();
            }
        }
    }

    /// Reports once at least, and then for as long as whole batches wait.
    async fn report_waiting(&mut self) {
        loop {
            match self.report(false).await {
                Ok(_) if self.uses.waiting() < BATCH_MAX => return,
                Ok(_) => {}
                Err(wait) => sleep(wait).await,
            }
        }
    }

    /// Reports what is left, and that nothing more comes.
    pub(crate) async fn finish(mut self) {
        let told = timeout(FINISH_MAX, async {
            loop {
                match self.report(true).await {
                    Ok(false) if self.batch_waits() => {}
                    // It was not the last if a call is open that was cut, and ends with the
                    // process: the vault sees a gap.
                    Ok(_) => return,
                    Err(_) => sleep(RETRY_WAIT_MIN).await,
                }
            }
        });
        if told.await.is_err() {
            let lost = self.batch.len() + self.uses.waiting();
            warn!(lost, "the vault could not be told of all uses of keys, and will see a gap");
        }
    }

    fn batch_waits(&self) -> bool {
        !self.batch.is_empty() || self.uses.waiting() > 0
    }

    /// Sends what waits, a batch of it, or a sign of life. Returns whether it was the last, or
    /// how long to wait before the next.
    async fn report(&mut self, ending: bool) -> Result<bool, Duration> {
        if self.batch.is_empty() {
            self.batch = self.uses.take_batch();
        }
        let last = ending && self.uses.are_over();
        let report = Report { reporter: self.id, uses: &self.batch, dropped: self.uses.dropped(), last };
        match self.vault.report(&report).await {
            Ok(()) => {
                self.batch.clear();
                self.retry_wait = RETRY_WAIT_MIN;
                if !self.well {
                    info!("the vault takes reports of the use of keys again");
                }
                self.well = true;
                Ok(last)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Decides what becomes of the batch. Returns how long to wait.
    fn failed(&mut self, error: &ReportError) -> Duration {
        if self.well {
            warn!(error = %Chain(error), "the vault does not take reports of the use of keys; they wait");
        }
        self.well = false;
        match error {
            ReportError::Unserved => return UNSERVED_WAIT,
            ReportError::Unavailable(_) => {}
            // One use that is refused does not take others with it.
            ReportError::Refused(_) if self.batch.len() > 1 => {
                let rest = self.batch.split_off(self.batch.len() / 2);
                self.uses.put_back(rest);
            }
            ReportError::Refused(_) => {
                warn!(error = %Chain(error), "the vault refuses to count a use of a key; it is dropped");
                self.uses.drop_refused(self.batch.len());
                self.batch.clear();
            }
        }
        let wait = self.retry_wait;
        self.retry_wait = (wait * 2).min(RETRY_WAIT_MAX);
        wait
    }
}

#[cfg(test)]
mod tests;
