//! A watcher that holds the stream of changes to its promises: a heartbeat first and then at
//! least every five seconds, revisions in order and without gaps.

use std::time::{Duration, Instant};

use proto::keyvault::{
    Heartbeat, KeyChange, WatchKeyChangesRequest, WatchKeyChangesResponse,
    key_resolution_service_client::KeyResolutionServiceClient, watch_key_changes_response::Event,
};
use tokio::time::timeout;
use tonic::{Streaming, transport::Channel};

use crate::answer::Failure;

/// Five seconds are promised; a busy machine adds some.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(8);

/// One open stream.
#[derive(Debug)]
pub struct Watcher {
    stream: Streaming<WatchKeyChangesResponse>,
    /// The revision up to which everything was seen: where to resume.
    pub position: i64,
    /// The history that revisions count.
    pub epoch: String,
    /// The longest time without a heartbeat, as far as it was read.
    pub silence: Duration,
    heard: Instant,
}

impl Watcher {
    /// Opens a stream from now on, or after a revision of an epoch.
    ///
    /// # Errors
    ///
    /// What the vault or the connection to it said.
    pub async fn open(
        mut vault: KeyResolutionServiceClient<Channel>,
        from_revision: Option<i64>,
        epoch: &str,
    ) -> Result<Self, Failure> {
        let request = WatchKeyChangesRequest { from_revision, epoch: epoch.to_owned() };
        let mut stream = vault.watch_key_changes(request).await?.into_inner();
        let Event::Heartbeat(Heartbeat { revision, epoch }) = next(&mut stream).await? else {
            panic!("a stream begins with a heartbeat");
        };
        assert!(!epoch.is_empty(), "a heartbeat has the epoch");
        if let Some(from) = from_revision {
            assert_eq!(revision, from, "nothing was sent yet, so nothing after the revision of the request");
        }
        Ok(Self { stream, position: revision, epoch, silence: Duration::ZERO, heard: Instant::now() })
    }

    /// The next change, or `None` after a heartbeat.
    ///
    /// # Errors
    ///
    /// How the stream ended.
    pub async fn next(&mut self) -> Result<Option<KeyChange>, Failure> {
        let event = next(&mut self.stream).await?;
        Ok(match event {
            Event::Change(change) => {
                assert_eq!(change.revision, self.position + 1, "revisions have no gap and come once: {change:?}");
                self.position = change.revision;
                self.silence = self.silence.max(self.heard.elapsed());
                Some(change)
            }
            Event::Heartbeat(heartbeat) => {
                assert_eq!(heartbeat.revision, self.position, "a heartbeat says what was sent");
                assert_eq!(heartbeat.epoch, self.epoch, "one stream is of one history");
                self.silence = self.silence.max(self.heard.elapsed());
                self.heard = Instant::now();
                None
            }
        })
    }

    /// All changes up to `revision`.
    ///
    /// # Errors
    ///
    /// How the stream ended before.
    pub async fn up_to(&mut self, revision: i64) -> Result<Vec<KeyChange>, Failure> {
        let mut changes = Vec::new();
        while self.position < revision {
            changes.extend(self.next().await?);
        }
        Ok(changes)
    }
}

async fn next(stream: &mut Streaming<WatchKeyChangesResponse>) -> Result<Event, Failure> {
    let message = timeout(HEARTBEAT_MAX, stream.message()).await.expect("a heartbeat comes in time");
    let response = message?.expect("a stream does not end by itself");
    Ok(response.event.expect("an event is set"))
}
