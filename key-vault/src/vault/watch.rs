//! The history of changes, as those who follow it see it: in order, without gaps, and
//! ended rather than bent.
//!
//! Every replica asks the database twice a second where the history stands; its own
//! changes it knows at once. A watcher reads the changes themselves from the database.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, timeout_at},
};
use tracing::error;
use uuid::Uuid;

use super::{Error, Vault};
use crate::{
    change::{Change, Position},
    store,
};

/// How many watchers one replica serves: each gateway has one, and each reads the database
/// at every change.
pub(crate) const WATCHERS_MAX: usize = 256;

/// The contract promises one in five seconds.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(4);

/// How old the knowledge of a heartbeat may be. A watcher is not told that nothing changed
/// by a replica that cannot know.
const KNOWLEDGE_AGE_MAX: Duration = Duration::from_secs(5);

/// How many changes are read at once.
const CHANGES_PAGE: u64 = 500;

/// What a watcher is told.
#[derive(Debug)]
pub(crate) enum News {
    Change(Change),
    /// All changes up to the revision were told.
    Heartbeat {
        revision: i64,
        epoch: Uuid,
    },
}

/// Where the history stands, as far as this replica knows.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Nothing before the database was first asked.
    position: Option<Position>,
    /// When that was true.
    at: Option<Instant>,
    /// Raised whenever the history turns out to be another one.
    turn: u64,
    stopping: bool,
}

/// What all watchers of a replica share.
#[derive(Debug, Default)]
pub(super) struct Shared(watch::Sender<Known>);

impl Shared {
    /// Takes up what the database said to a question that was asked at `asked`. Watchers of a
    /// history that was replaced are ended.
    pub(super) fn saw(&self, position: Position, asked: Instant) {
        self.0.send_if_modified(|known| {
            let other = known.position.is_some_and(|before| {
                // An answer may be older than a change that was made meanwhile.
                let older = position.revision < before.revision && known.at.is_some_and(|at| at < asked);
                before.epoch != position.epoch || older
            });
            if other {
                error!(
                    revision = position.revision,
                    "the history went back: was the database restored? watchers start anew"
                );
                known.turn += 1;
            }
            let revision = known.position.filter(|_| !other).map_or(position.revision, |before| before.revision);
            let news = other || known.position.is_none() || position.revision > revision;
            known.position = Some(Position { revision: position.revision.max(revision), ..position });
            known.at = known.at.max(Some(asked));
            news
        });
    }

    /// Takes up a change that this replica made.
    fn committed(&self, revision: i64) {
        self.0.send_if_modified(|known| match &mut known.position {
            Some(position) if revision > position.revision => {
                position.revision = revision;
                known.at = Some(Instant::now());
                true
            }
            Some(_) | None => false,
        });
    }

    /// The last known position.
    pub(super) fn position(&self) -> Option<Position> {
        self.0.borrow().position
    }
}

impl Vault {
    /// Tells watchers of a change that was made here.
    pub(super) fn committed(&self, revision: i64) {
        self.history.committed(revision);
    }

    /// Ends all watchers: the replica stops.
    pub(crate) fn stop_watchers(&self) {
        self.history.0.send_modify(|known| known.stopping = true);
    }

    /// Begins to watch: after `from`, or from now on. `epoch` is the history that the watcher
    /// knows, if any.
    pub(crate) async fn watch(self: &Arc<Self>, from: Option<i64>, epoch: Option<Uuid>) -> Result<Watcher, Error> {
        let permit = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| Error::TooManyWatchers)?;
        let asked = Instant::now();
        let position = self.store.position().await?.ok_or(store::Error::NotSetUp)?;
        self.history.saw(position, asked);
        let known = self.history.0.subscribe();
        let turn = known.borrow().turn;
        let revision = from.unwrap_or(position.revision);
        let kept = position.compacted <= revision && revision <= position.revision;
        if !kept || epoch.is_some_and(|epoch| epoch != position.epoch) {
            return Err(Error::Compacted { revision: position.revision, epoch: position.epoch });
        }
        Ok(Watcher {
            vault: Arc::clone(self),
            known,
            turn,
            epoch: position.epoch,
            revision,
            read: VecDeque::new(),
            heartbeat_at: Instant::now(),
            _permit: permit,
        })
    }
}

/// One who follows the history.
#[derive(Debug)]
pub(crate) struct Watcher {
    vault: Arc<Vault>,
    known: watch::Receiver<Known>,
    turn: u64,
    epoch: Uuid,
    /// The last change that was told.
    revision: i64,
    /// Changes that were read and not told yet.
    read: VecDeque<Change>,
    heartbeat_at: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    /// Waits for what there is to tell next.
    ///
    /// # Errors
    ///
    /// Ends the watch: [`Error::Compacted`] if the history is another one or the watcher is too
    /// slow for it, [`Error::Store`] if the replica cannot know what changed,
    /// [`Error::Stopping`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: what was read and not returned is returned by the next call.
    pub(crate) async fn next(&mut self) -> Result<News, Error> {
        loop {
            if let Some(change) = self.read.pop_front() {
                self.revision = change.revision;
                return Ok(News::Change(change));
            }
            if Instant::now() >= self.heartbeat_at {
                self.heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
                return self.heartbeat();
            }
            let known = *self.known.borrow_and_update();
            if known.stopping {
                return Err(Error::Stopping);
            }
            let latest = known.position.map_or(self.revision, |position| position.revision);
            if known.turn != self.turn {
                return Err(Error::Compacted { revision: latest, epoch: self.epoch });
            }
            if latest > self.revision {
                self.read_on(latest).await?;
            } else {
                // The end of the wait is a heartbeat; an end of the sender cannot be.
                let _ = timeout_at(self.heartbeat_at, self.known.changed()).await;
            }
        }
    }

    async fn read_on(&mut self, latest: i64) -> Result<(), Error> {
        let changes = self.vault.store.changes(self.revision, CHANGES_PAGE).await?;
        let follows = changes.first().is_some_and(|change| change.revision == self.revision + 1);
        if !follows {
            // What should come next was forgotten meanwhile.
            return Err(Error::Compacted { revision: latest, epoch: self.epoch });
        }
        self.read.extend(changes);
        Ok(())
    }

    fn heartbeat(&self) -> Result<News, Error> {
        let at = self.known.borrow().at;
        if at.is_none_or(|at| at.elapsed() > KNOWLEDGE_AGE_MAX) {
            return Err(Error::Store(store::Error::Silent));
        }
        Ok(News::Heartbeat { revision: self.revision, epoch: self.epoch })
    }
}
