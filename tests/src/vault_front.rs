//! Stands before a vault, speaks its protocol, and changes what a test is about: how long keys
//! may be kept, and whether changes are told.
//!
//! A gateway has one connection for its watch and others for its questions, and nothing in the
//! bytes of a connection says which is which. Here each call has its name.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use proto::keyvault::{
    ExplainResolutionRequest, ExplainResolutionResponse, ReportKeyUseRequest, ReportKeyUseResponse, ResolveKeyRequest,
    ResolveKeyResponse, WatchKeyChangesRequest, WatchKeyChangesResponse,
    key_resolution_service_client::KeyResolutionServiceClient,
    key_resolution_service_server::{KeyResolutionService, KeyResolutionServiceServer},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

/// What becomes of watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watches {
    /// They are told of every change.
    Told,
    /// They end, and new ones are refused.
    Refused,
    /// They stay open, and nothing comes.
    Silent,
}

/// A front of one vault. Takes no new connections once dropped.
#[derive(Debug)]
pub struct VaultFront {
    url: String,
    watches: watch::Sender<Watches>,
    server: JoinHandle<()>,
}

impl VaultFront {
    /// Starts one before the vault at `url`, where keys may be kept for `lease` instead of what
    /// the vault says.
    pub async fn start(url: &str, lease: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let channel = Endpoint::from_shared(url.to_owned()).expect("a URL").connect_lazy();
        let watches = watch::Sender::new(Watches::Told);
        let vault = KeyResolutionServiceClient::new(channel);
        let front = Front { vault, lease, watches: watches.subscribe() };
        let server = Server::builder().add_service(KeyResolutionServiceServer::new(front));
        let server = tokio::spawn(async move {
            // It ends with the test.
            let _ = server.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Self { url: format!("http://{address}"), watches, server }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Treats watches so from now on, open ones too.
    pub fn set(&self, watches: Watches) {
        self.watches.send_replace(watches);
    }
}

impl Drop for VaultFront {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Front {
    vault: KeyResolutionServiceClient<Channel>,
    lease: Option<Duration>,
    watches: watch::Receiver<Watches>,
}

#[tonic::async_trait]
impl KeyResolutionService for Front {
    type WatchKeyChangesStream = BoxStream<'static, Result<WatchKeyChangesResponse, Status>>;

    async fn resolve_key(&self, request: Request<ResolveKeyRequest>) -> Result<Response<ResolveKeyResponse>, Status> {
        let mut response = self.vault.clone().resolve_key(request).await?;
        if let Some(lease) = self.lease {
            let lease = prost_types::Duration::try_from(lease).expect("a short time");
            response.get_mut().lease_duration = Some(lease);
        }
        Ok(response)
    }

    async fn explain_resolution(
        &self,
        request: Request<ExplainResolutionRequest>,
    ) -> Result<Response<ExplainResolutionResponse>, Status> {
        self.vault.clone().explain_resolution(request).await
    }

    async fn watch_key_changes(
        &self,
        request: Request<WatchKeyChangesRequest>,
    ) -> Result<Response<Self::WatchKeyChangesStream>, Status> {
        if *self.watches.borrow() == Watches::Refused {
            return Err(refused());
        }
        let told = self.vault.clone().watch_key_changes(request).await?;
        Ok(told.map(|told| passed_on(told, self.watches.clone()).boxed()))
    }

    async fn report_key_use(
        &self,
        request: Request<ReportKeyUseRequest>,
    ) -> Result<Response<ReportKeyUseResponse>, Status> {
        self.vault.clone().report_key_use(request).await
    }
}

fn refused() -> Status {
    Status::unavailable("watches are cut")
}

fn passed_on(
    told: Streaming<WatchKeyChangesResponse>,
    watches: watch::Receiver<Watches>,
) -> impl Stream<Item = Result<WatchKeyChangesResponse, Status>> {
    stream::unfold((told, watches), |(mut told, mut watches)| async move {
        loop {
            let now = *watches.borrow_and_update();
            match now {
                Watches::Refused => return Some((Err(refused()), (told, watches))),
                Watches::Silent => watches.changed().await.ok()?,
                Watches::Told => tokio::select! {
                    message = told.message() => {
                        return message.transpose().map(|message| (message, (told, watches)));
                    }
                    changed = watches.changed() => changed.ok()?,
                },
            }
        }
    })
}
