//! Drops what the vault tells to be wrong, as it happens.
//!
//! While the watch is lost, kept keys live as long as their lease. It is taken up again where it
//! broke off, so that nothing is missed; if that cannot be, everything is dropped.

use std::{convert::Infallible, time::Duration};

use service_runtime::failure::Chain;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{cache::Cache, contact::Contact};
use crate::vault_client::{Position, Told, VaultClient, WatchError};

/// How long to wait before a watch is begun again. Doubled with each further failure.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Keeps `cache` right, and notes in `contact` whether the vault tells anything. Never ends.
pub(super) async fn follow(vault: &VaultClient, contact: &Contact, cache: &Cache) {
    let mut watcher = Watcher::new(cache);
    // Gateways that start together do not all watch the same replica.
    let mut turn = fastrand::usize(..1_000);
    loop {
        let Err(error) = watch(vault, contact, turn, &mut watcher).await;
        if matches!(error, WatchError::Lost(_)) {
            contact.is_lost(&error);
        }
        let wait = watcher.lost(&error);
        // Not all at once when a replica goes away.
        sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        turn = turn.wrapping_add(1);
    }
}

async fn watch(
    vault: &VaultClient,
    contact: &Contact,
    turn: usize,
    watcher: &mut Watcher<'_>,
) -> Result<Infallible, WatchError> {
    let mut changes = vault.watch(turn, watcher.position.as_ref()).await?;
    loop {
        watcher.told(changes.next().await?);
        contact.is_there();
    }
}

/// What is known, and what is made of it.
struct Watcher<'a> {
    cache: &'a Cache,
    /// Where to take the watch up again. `None` if nothing is known.
    position: Option<Position>,
    well: bool,
    wait: Duration,
}

impl<'a> Watcher<'a> {
    fn new(cache: &'a Cache) -> Self {
        Self { cache, position: None, well: true, wait: WAIT_MIN }
    }

    fn told(&mut self, told: Told) {
        if !self.well {
            info!("changes of keys are told again");
        }
        self.well = true;
        self.wait = WAIT_MIN;
        match told {
            Told::Changed { revision, organization, providers } => {
                self.cache.changed(revision, organization.as_ref(), providers.as_deref());
                if let Some(position) = &mut self.position {
                    position.revision = position.revision.max(revision);
                }
            }
            Told::UpTo(now) => match &mut self.position {
                Some(position) if position.epoch == now.epoch => {
                    position.revision = position.revision.max(now.revision);
                    self.cache.told_of(now.revision);
                }
                // What is kept may be of before what this watch tells, or of another history.
                _ => {
                    self.cache.begin_anew(now.revision);
                    self.position = Some(now);
                }
            },
        }
    }

    /// Returns how long to wait.
    fn lost(&mut self, error: &WatchError) -> Duration {
        if matches!(error, WatchError::Compacted) {
            self.position = None;
            self.cache.clear();
        }
        if self.well {
            warn!(error = %Chain(error), "changes of keys are not told; kept keys live as long as their lease");
        }
        self.well = false;
        let wait = self.wait;
        self.wait = (wait * 2).min(WAIT_MAX);
        wait
    }
}

#[cfg(test)]
mod tests;
