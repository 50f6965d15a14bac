//! A server that stands for a provider: it answers what it was told to, byte by byte if
//! asked, and remembers what it was sent, when, and who hung up.
//!
//! In the clear it speaks HTTP/1.1 and HTTP/2; over TLS only the one that it is told to, as
//! ALPN agrees on it. What it simulates takes time, so it sleeps where no test may.

mod answer;
mod record;
mod server;

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::certs::{Authority, Issued};
pub use answer::{Answer, End};
pub use record::Received;
use record::{Choice, Shared};

/// A provider on a port of the system's choice. Stops when dropped.
#[derive(Debug)]
pub struct FakeProvider {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

impl Http {
    /// Both.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    /// Its version, as a request says it.
    pub fn version(self) -> http::Version {
        match self {
            Self::One => http::Version::HTTP_11,
            Self::Two => http::Version::HTTP_2,
        }
    }

    fn alpn(self) -> Vec<u8> {
        match self {
            Self::One => b"http/1.1".to_vec(),
            Self::Two => b"h2".to_vec(),
        }
    }
}

impl FakeProvider {
    /// Starts it. It speaks HTTP/1.1 and HTTP/2 in the clear.
    ///
    /// # Errors
    ///
    /// Fails if no port is free.
    pub async fn start() -> Result<Self> {
        Self::with(Ipv4Addr::LOCALHOST, "http", None).await
    }

    /// Starts it over TLS, where it speaks one version of HTTP. `authority` vouches for it.
    ///
    /// # Errors
    ///
    /// Fails if no port is free.
    pub async fn over_tls(authority: &Authority, http: Http) -> Result<Self> {
        Self::at(Ipv4Addr::LOCALHOST, &authority.server(), http).await
    }

    /// Starts it over TLS at an address of this machine that others reach too.
    ///
    /// # Errors
    ///
    /// Fails if no port is free.
    pub async fn at(address: Ipv4Addr, issued: &Issued, http: Http) -> Result<Self> {
        let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("a certificate")?;
        config.alpn_protocols = vec![http.alpn()];
        Self::with(address, "https", Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn with(address: Ipv4Addr, scheme: &'static str, tls: Option<TlsAcceptor>) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let server = tokio::spawn(server::serve(listener, tls, Arc::clone(&shared)));
        Ok(Self { address, scheme, shared, server })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Answers the next request so. Answers are used in order; the last one stays.
    pub fn answers(&self, answer: Answer) {
        self.shared.answers.lock().expect("no panic while answering").push_back(answer);
    }

    /// Answers every request from now on so.
    pub fn always_answers(&self, answer: Answer) {
        *self.shared.answers.lock().expect("no panic while answering") = VecDeque::from([answer]);
    }

    /// Answers every request from now on as `choose` says, which sees it first.
    pub fn answers_by(&self, choose: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        *self.shared.chooses.lock().expect("no panic while answering") = Some(Choice(Box::new(choose)));
    }

    /// Whether it lets requests wait for their answers, from now on.
    pub fn holds_back(&self, holds_back: bool) {
        self.shared.holds_back.send_replace(holds_back);
    }

    /// Resolves once it has received a whole request for the `count`th time.
    pub async fn has_received(&self, count: usize) {
        self.shared.asked.subscribe().wait_for(|asked| *asked >= count).await.expect("the provider runs");
    }

    /// Forgets all requests so far, for tests whose requests are large.
    pub fn forgets(&self) {
        self.shared.received.lock().expect("no panic while answering").clear();
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("no panic while answering").clone()
    }

    /// The last request.
    pub fn last(&self) -> Received {
        self.received().pop().expect("a request was received")
    }

    /// Resolves once something of an answer was sent for the `count`th time.
    pub async fn has_begun(&self, count: usize) {
        self.shared.begun.subscribe().wait_for(|begun| *begun >= count).await.expect("the provider runs");
    }

    /// How many answers have begun: something of their bodies was sent.
    pub fn begun(&self) -> usize {
        *self.shared.begun.borrow()
    }

    /// How many callers have left before their answer was whole.
    pub fn hung_up(&self) -> usize {
        *self.shared.hung_up.borrow()
    }

    /// When the caller of a request left before its answer was whole: closed the connection or
    /// reset the stream. `None` if it did not.
    pub fn left(&self, number: usize) -> Option<Instant> {
        self.shared.left.lock().expect("no panic while answering").get(&number).copied()
    }

    /// Resolves once `count` callers have left before their answer was whole.
    ///
    /// # Errors
    ///
    /// Fails if they do not leave within `limit`.
    pub async fn sees_hang_ups(&self, count: usize, limit: Duration) -> Result<()> {
        until(&self.shared.hung_up, limit, |callers| callers >= count).await
    }

    /// Resolves once no request is open: each has its whole answer, or its caller left.
    ///
    /// # Errors
    ///
    /// Fails if it takes longer than `limit`.
    pub async fn is_idle(&self, limit: Duration) -> Result<()> {
        until(&self.shared.open, limit, |open| open == 0).await
    }

    /// How many requests have no whole answer yet, and callers who wait for it.
    pub fn open_requests(&self) -> usize {
        *self.shared.open.borrow()
    }

    /// How many connections were ever made.
    pub fn connected(&self) -> usize {
        *self.shared.connected.borrow()
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        *self.shared.connections.borrow()
    }
}

async fn until(count: &watch::Sender<usize>, limit: Duration, is: impl Fn(usize) -> bool) -> Result<()> {
    tokio::time::timeout(limit, count.subscribe().wait_for(|count| is(*count))).await??;
    Ok(())
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.server.abort();
    }
}
