//! Keys of chats, kept for their lease.
//!
//! A kept key is used without asking the vault until its lease ends or the vault tells of a
//! change. Past its lease the vault is asked; only if it cannot answer is the kept key used, for
//! the grace at most. Any answer of the vault counts at once.
//!
//! Calls that need the same key at the same time ask once for it. Whoever of them waits drives
//! that question: nothing is spawned, and it ends when the last of them leaves.
//!
//! Knows no transport.

mod cache;
mod contact;
mod flights;
mod watch;

use std::{num::NonZeroUsize, ops::Deref, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use service_runtime::failure::Chain;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::{
    message::{Label, Provider},
    vault_client::{KeyError, RESOLVE_MAX, ResolvedKey, VaultClient},
};
use cache::{Cache, Find};
pub(crate) use contact::{Contact, VAULT};
use flights::Flights;

/// The longest wait for the vault while a kept key is at hand.
const REFRESH_MAX: Duration = Duration::from_millis(500);

/// However long the vault says that a key may be used.
const LEASE_MAX: Duration = Duration::from_mins(10);

/// How often keys that are past all use are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// How keys are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyOptions {
    /// How many.
    pub(crate) entries: NonZeroUsize,
    /// How long past their lease they may be used while the vault cannot answer.
    pub(crate) grace: Duration,
}

/// For whom a key is, and of which provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Of {
    organization: Label,
    profile: Option<Label>,
    provider: Provider,
}

/// Keys of chats.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    vault: VaultClient,
    contact: Contact,
    cache: Cache,
    flights: Arc<Flights<Of, Outcome>>,
}

type Outcome = Result<Held, Arc<KeyError>>;

/// A key, and how it was found.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: Arc<ResolvedKey>,
    pub(crate) found: Found,
}

/// How a key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was kept.
    Kept,
    /// The vault gave it.
    Resolved,
    /// It was kept, and the vault cannot say whether it still holds.
    PastLease,
}

impl Found {
    /// In logs and measurements.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kept => "hit",
            Self::Resolved => "miss",
            Self::PastLease => "stale",
        }
    }
}

impl Deref for Held {
    type Target = ResolvedKey;

    fn deref(&self) -> &ResolvedKey {
        &self.key
    }
}

impl Keys {
    /// Keeps what `vault` gives, and notes in `contact` whether it answers.
    pub(crate) fn new(vault: VaultClient, contact: Contact, options: &KeyOptions) -> Self {
        let cache = Cache::new(options.entries, options.grace);
        Self { shared: Arc::new(Shared { vault, contact, cache, flights: Arc::default() }) }
    }

    /// The key of a call: the kept one, or the vault's answer.
    ///
    /// # Errors
    ///
    /// [`KeyError::Deadline`] if there is none by then; what is asked goes on for those who
    /// still wait.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the question to the others who wait for it.
    pub(crate) async fn get(
        &self,
        organization: &Label,
        profile: Option<&Label>,
        provider: Provider,
        deadline: Instant,
    ) -> Outcome {
        let of = Of { organization: organization.clone(), profile: profile.cloned(), provider };
        match self.shared.cache.find(&of, Instant::now()) {
            Find::Fresh(key) => return Ok(Held { key, found: Found::Kept }),
            Find::Resting(key) => return Ok(Held { key, found: Found::PastLease }),
            Find::Old | Find::Nothing => {}
        }
        let changes = self.shared.cache.changes();
        let of = Arc::new(of);
        let ask = || Shared::ask(Arc::clone(&self.shared), Arc::clone(&of), changes).boxed();
        let asked = self.shared.flights.join(&of, changes, ask);
        timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(Arc::new(KeyError::Deadline)))
    }

    /// Forgets this key wherever it is kept: the provider refused it. The next
    /// [`get`](Self::get) asks the vault.
    pub(crate) fn forget(&self, refused: &Held) {
        self.shared.cache.forget(refused);
    }

    /// Follows the changes at the vault. Never ends.
    pub(crate) async fn follow(&self) {
        let sweep = async {
            loop {
                sleep(SWEEP_INTERVAL).await;
                self.shared.cache.sweep(Instant::now());
            }
        };
        let Shared { vault, contact, cache, .. } = &*self.shared;
        tokio::join!(watch::follow(vault, contact, cache), sweep);
    }
}

impl Shared {
    /// Asks the vault. `changes` is how many had been told of before.
    async fn ask(self: Arc<Self>, of: Arc<Of>, changes: u64) -> Outcome {
        let asked = Instant::now();
        // Another one may have landed since it was looked for.
        let limit = match self.cache.find(&of, asked) {
            Find::Fresh(key) => return Ok(Held { key, found: Found::Kept }),
            Find::Resting(key) => return Ok(Held { key, found: Found::PastLease }),
            Find::Old => REFRESH_MAX,
            Find::Nothing => RESOLVE_MAX,
        };
        let Of { organization, profile, provider } = &*of;
        let answer = self.vault.resolve(organization, profile.as_ref(), *provider, limit).await;
        self.contact.asked(&answer);
        match answer {
            Ok(leased) => {
                let (revision, lease) = (leased.revision, leased.lease);
                let key = Arc::new(leased.key);
                self.cache.keep(&of, &key, revision, asked + lease.min(LEASE_MAX), changes);
                Ok(Held { key, found: Found::Resolved })
            }
            Err(error) if error.vault_could_not_answer() => match self.cache.rest(&of, Instant::now()) {
                Some(key) => {
                    // Once a second for each key; that the vault is lost is said elsewhere.
                    debug!(
                        error = %Chain(&error),
                        org.id = %organization,
                        keyvault.key.id = %key.api_key_id,
                        "the key-vault cannot answer; a key is used past its lease"
                    );
                    Ok(Held { key, found: Found::PastLease })
                }
                None => Err(Arc::new(error)),
            },
            Err(error) => {
                self.cache.drop_one(&of);
                Err(Arc::new(error))
            }
        }
    }
}

#[cfg(test)]
mod tests;
