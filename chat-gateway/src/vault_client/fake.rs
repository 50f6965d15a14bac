//! A vault for tests, that answers as it is told over real connections.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clap::Parser as _;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use proto::{
    keyvault::{
        ErrorReason, ExplainResolutionRequest, ExplainResolutionResponse, Heartbeat, KeyChange, KeyMaterial,
        ReportKeyUseRequest, ReportKeyUseResponse, ResolveKeyRequest, ResolveKeyResponse, WatchKeyChangesRequest,
        WatchKeyChangesResponse,
        key_resolution_service_server::{KeyResolutionService, KeyResolutionServiceServer},
        watch_key_changes_response::Event,
    },
    types,
};
use service_runtime::failure::{Code, Failure};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Server, server::TcpIncoming},
};

use super::VaultClient;
use crate::config::{Cli, Command};

/// Waits for what must come within some seconds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(Duration::from_secs(10), wait).await.is_ok(), "{what}");
}

/// What a vault says when it is asked for a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Say {
    Key { lease: Option<Duration>, revision: i64 },
    Refuse(Code, ErrorReason),
    Nothing,
}

/// A key that may be kept.
pub(crate) const KEY: Say = Say::Key { lease: Some(Duration::from_mins(1)), revision: 10 };

/// A vault that cannot answer.
pub(crate) const AWAY: Say = Say::Refuse(Code::Unavailable, ErrorReason::StoreUnavailable);

/// A running vault. Takes no further connections when it is dropped.
pub(crate) struct FakeVault {
    pub(crate) address: SocketAddr,
    told: Arc<Mutex<Told>>,
    /// A call is answered when it has taken one of these.
    may_answer: Arc<Semaphore>,
    _server: JoinSet<()>,
}

struct Told {
    say: Say,
    asked: usize,
    /// Whether watches are refused, because the history is gone.
    compacted: bool,
    watches: Vec<Watch>,
}

struct Watch {
    request: WatchKeyChangesRequest,
    tell: mpsc::UnboundedSender<Result<WatchKeyChangesResponse, Status>>,
}

impl FakeVault {
    /// A vault at any port that says this.
    pub(crate) fn says(say: Say) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), say)
    }

    /// A vault at this address.
    pub(crate) fn at(address: SocketAddr, say: Say) -> Self {
        let incoming = TcpIncoming::bind(address).unwrap();
        let address = incoming.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Told { say, asked: 0, compacted: false, watches: Vec::new() }));
        let may_answer = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let service = Service { told: Arc::clone(&told), may_answer: Arc::clone(&may_answer) };
        let server = Server::builder().add_service(KeyResolutionServiceServer::new(service));
        let mut running = JoinSet::new();
        running.spawn(async { server.serve_with_incoming(incoming).await.unwrap() });
        Self { address, told, may_answer, _server: running }
    }

    pub(crate) fn client(&self) -> VaultClient {
        client(&[self.address])
    }

    /// Says this from now on.
    pub(crate) fn say(&self, say: Say) {
        self.told().say = say;
    }

    /// Lets calls wait from now on, or no longer.
    pub(crate) fn holds_back(&self, holds: bool) {
        if holds {
            self.may_answer.forget_permits(Semaphore::MAX_PERMITS);
        } else {
            self.may_answer.add_permits(Semaphore::MAX_PERMITS);
        }
    }

    /// How often it was asked for a key.
    pub(crate) fn asked(&self) -> usize {
        self.told().asked
    }

    pub(crate) fn compacts(&self, compacted: bool) {
        self.told().compacted = compacted;
    }

    /// From where each watch was to begin, those that were refused included.
    pub(crate) fn watched_from(&self) -> Vec<(Option<i64>, String)> {
        let told = self.told();
        told.watches.iter().map(|watch| (watch.request.from_revision, watch.request.epoch.clone())).collect()
    }

    pub(crate) fn beats(&self, revision: i64, epoch: &str) {
        self.tells(Event::Heartbeat(Heartbeat { revision, epoch: epoch.to_owned() }));
    }

    pub(crate) fn changes(&self, change: KeyChange) {
        self.tells(Event::Change(change));
    }

    /// Ends the last watch.
    pub(crate) fn loses_the_watch(&self) {
        let told = self.told();
        told.watches.last().unwrap().tell.send(Err(failure(Code::Unavailable, ErrorReason::ShuttingDown))).unwrap();
    }

    fn tells(&self, event: Event) {
        let response = WatchKeyChangesResponse { event: Some(event) };
        self.told().watches.last().unwrap().tell.send(Ok(response)).unwrap();
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client of the vault with these addresses.
pub(crate) fn client(addresses: &[SocketAddr]) -> VaultClient {
    let mut line: Vec<_> = ["chat-gateway", "serve", "--dev", "--vault-url", "http://vault.test:50051"]
        .map(str::to_owned)
        .into_iter()
        .collect();
    for address in addresses {
        line.extend(["--vault-address".to_owned(), address.to_string()]);
    }
    client_of(&line)
}

/// A client with the options of this command line.
pub(crate) fn client_of(line: &[String]) -> VaultClient {
    let Command::Serve(options) = Cli::try_parse_from(line).unwrap().command else { panic!("another command") };
    VaultClient::new(&options).unwrap()
}

fn failure(code: Code, reason: ErrorReason) -> Status {
    Failure::new(code, "test", reason.wire_name()).into()
}

struct Service {
    told: Arc<Mutex<Told>>,
    may_answer: Arc<Semaphore>,
}

#[async_trait]
impl KeyResolutionService for Service {
    type WatchKeyChangesStream = BoxStream<'static, Result<WatchKeyChangesResponse, Status>>;

    async fn resolve_key(&self, _: Request<ResolveKeyRequest>) -> Result<Response<ResolveKeyResponse>, Status> {
        self.told.lock().unwrap().asked += 1;
        let may = self.may_answer.acquire().await;
        let say = self.told.lock().unwrap().say;
        drop(may);
        match say {
            Say::Key { lease, revision } => Ok(Response::new(ResolveKeyResponse {
                material: Some(KeyMaterial { api_key: "sk".to_owned() }),
                api_key_id: "k".to_owned(),
                version: 1,
                source: types::Source::Profile.into(),
                revision,
                lease_duration: lease.map(|lease| lease.try_into().unwrap()),
            })),
            Say::Refuse(code, reason) => Err(failure(code, reason)),
            Say::Nothing => std::future::pending().await,
        }
    }

    async fn watch_key_changes(
        &self,
        request: Request<WatchKeyChangesRequest>,
    ) -> Result<Response<Self::WatchKeyChangesStream>, Status> {
        let (tell, hears) = mpsc::unbounded_channel();
        let mut told = self.told.lock().unwrap();
        told.watches.push(Watch { request: request.into_inner(), tell });
        if told.compacted {
            return Err(failure(Code::OutOfRange, ErrorReason::RevisionCompacted));
        }
        let events = stream::unfold(hears, |mut hears| async { hears.recv().await.map(|event| (event, hears)) });
        Ok(Response::new(events.boxed()))
    }

    async fn explain_resolution(
        &self,
        _: Request<ExplainResolutionRequest>,
    ) -> Result<Response<ExplainResolutionResponse>, Status> {
        Err(failure(Code::Unimplemented, ErrorReason::Unspecified))
    }

    async fn report_key_use(&self, _: Request<ReportKeyUseRequest>) -> Result<Response<ReportKeyUseResponse>, Status> {
        Ok(Response::new(ReportKeyUseResponse::default()))
    }
}
