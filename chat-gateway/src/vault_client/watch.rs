//! What the vault tells of changes, as plain values.

use std::{error::Error as StdError, time::Duration};

use proto::{
    keyvault::{
        ErrorReason, KeyChange, WatchKeyChangesRequest, WatchKeyChangesResponse, key_change::Kind,
        key_resolution_service_client::KeyResolutionServiceClient, watch_key_changes_response::Event as Message,
    },
    types,
};
use service_runtime::client::Wire;
use tokio::time::timeout;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{VaultClient, cause, replicas::Failed};
use crate::message::{Label, Provider};

/// The longest wait for a watch to begin.
const BEGIN_MAX: Duration = Duration::from_secs(5);

/// The longest silence. The vault says something every five seconds at least.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Why a watch did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// It goes on elsewhere, or later.
    #[error("the watch of the key-vault broke off")]
    Lost(#[source] Box<dyn StdError + Send + Sync>),
    /// The vault cannot say what changed since.
    #[error("the key-vault does not know any more what changed")]
    Compacted,
}

/// Up to where changes are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) revision: i64,
    /// The history that revisions count.
    pub(crate) epoch: String,
}

/// What the vault tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Resolutions of an organization may differ now.
    Changed {
        revision: i64,
        /// `None` of all: it is not known which.
        organization: Option<Label>,
        /// Of these providers. `None` of all: it is not known which.
        providers: Option<Vec<Provider>>,
    },
    /// Nothing else has changed.
    UpTo(Position),
}

/// What the vault tells as it happens.
pub(crate) struct Changes {
    stream: Streaming<WatchKeyChangesResponse>,
    /// The connection lives as long as the watch.
    _client: KeyResolutionServiceClient<Wire>,
}

impl VaultClient {
    /// Watches what changes after `from`, or from now on. Each turn asks another address, over
    /// a connection of its own: one that is not read fast enough must not hold up resolutions.
    pub(crate) async fn watch(&self, turn: usize, from: Option<&Position>) -> Result<Changes, WatchError> {
        let mut request = WatchKeyChangesRequest::default();
        if let Some(Position { revision, epoch }) = from {
            request.from_revision = Some(*revision);
            request.epoch.clone_from(epoch);
        }
        let begin = async {
            let mut client = KeyResolutionServiceClient::new(self.replicas.apart(turn).await?);
            let stream = client.watch_key_changes(Request::new(request)).await.map_err(Failed::Status)?.into_inner();
            Ok(Changes { stream, _client: client })
        };
        match timeout(BEGIN_MAX, begin).await {
            Ok(Ok(changes)) => Ok(changes),
            Ok(Err(Failed::Status(status))) => Err(ended(&status)),
            Ok(Err(failed)) => Err(WatchError::Lost(failed.cause())),
            Err(_) => Err(WatchError::Lost(Failed::Late(BEGIN_MAX).cause())),
        }
    }
}

impl Changes {
    /// Waits for the vault to tell something.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped.
    pub(crate) async fn next(&mut self) -> Result<Told, WatchError> {
        loop {
            match timeout(SILENCE_MAX, self.stream.message()).await {
                Ok(Ok(Some(response))) => {
                    if let Some(told) = told(response) {
                        return Ok(told);
                    }
                }
                Ok(Ok(None)) => return Err(WatchError::Lost("it ended".into())),
                Ok(Err(status)) => return Err(ended(&status)),
                Err(_) => return Err(WatchError::Lost(format!("silent for {} s", SILENCE_MAX.as_secs()).into())),
            }
        }
    }
}

fn ended(status: &Status) -> WatchError {
    let reason = status.get_details_error_info().map(|info| info.reason);
    if status.code() == Code::OutOfRange || reason.is_some_and(|is| is == ErrorReason::RevisionCompacted.wire_name()) {
        WatchError::Compacted
    } else {
        WatchError::Lost(cause(status))
    }
}

/// `None` for what is not known here.
fn told(response: WatchKeyChangesResponse) -> Option<Told> {
    Some(match response.event? {
        Message::Heartbeat(beat) => Told::UpTo(Position { revision: beat.revision, epoch: beat.epoch }),
        Message::Change(change) => {
            let providers = providers(&change);
            Told::Changed { revision: change.revision, organization: Label::new(change.organization_id), providers }
        }
    })
}

/// Of which providers resolutions may differ. `None` if the change is of a later version than
/// this gateway, or names none.
fn providers(change: &KeyChange) -> Option<Vec<Provider>> {
    let known = Kind::try_from(change.kind).is_ok_and(|kind| kind != Kind::Unspecified);
    let named: Option<Vec<_>> = change.providers.iter().map(|number| provider(*number)).collect();
    named.filter(|named| known && !named.is_empty())
}

fn provider(number: i32) -> Option<Provider> {
    let named = types::Provider::try_from(number).ok()?;
    Provider::ALL.into_iter().find(|provider| types::Provider::from(*provider) == named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_is_not_understood_is_of_all_providers() {
        let openai = i32::from(types::Provider::from(Provider::OpenAi));
        let created = i32::from(Kind::Created);
        for (kind, named, expected) in [
            (created, vec![openai], Some(vec![Provider::OpenAi])),
            (created, vec![], None),
            (created, vec![openai, 999], None),
            (created, vec![0], None),
            (0, vec![openai], None),
            (999, vec![openai], None),
        ] {
            let change = KeyChange { kind, providers: named.clone(), ..KeyChange::default() };
            assert_eq!(providers(&change), expected, "{kind} {named:?}");
        }
    }
}
