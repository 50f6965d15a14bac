//! Connections as they come in: TCP, then the handshake where there is TLS.
//!
//! Handshakes run side by side, each with a timer, and none holds up another. What fails
//! in one ends only that connection.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;
use tracing::debug;

use crate::{
    reload::Reloading,
    tls::{ClientCertificate, ServerTls},
};

/// How long a handshake may take. A round trip or two, unless somebody holds it open.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Handshakes at once, each of some 20 KiB. Further connections wait in the system's queue: the
/// limit is beyond what one host opens in the time of a handshake without being noticed.
const HANDSHAKES_MAX: usize = 2_048;

/// The wait after the system refused a connection, for want of file descriptors mostly.
const ACCEPT_WAIT: Duration = Duration::from_millis(100);

/// What is known of a connection, in each of its requests' extensions.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Where it comes from.
    pub address: Option<SocketAddr>,
    /// What the caller presented.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// The connections of a listener.
pub(crate) struct Incoming {
    listener: TcpListener,
    tls: Option<Arc<Reloading<ServerTls>>>,
    handshakes: FuturesUnordered<BoxFuture<'static, Option<Io>>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(crate) fn new(listener: TcpListener, tls: Option<Arc<Reloading<ServerTls>>>) -> Self {
        Self { listener, tls, handshakes: FuturesUnordered::new(), pause: None }
    }

    fn begin(&self, stream: TcpStream, address: SocketAddr) {
        // A connection works without it, only slower.
        let _ = stream.set_nodelay(true);
        let tls = self.tls.as_ref().map(|tls| Arc::clone(&tls.load().value.config));
        self.handshakes.push(Box::pin(async move {
            let Some(config) = tls else {
                return Some(Io { stream: Wire::Plain(stream), connection: plain(address) });
            };
            match timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(stream)) => Some(Io::encrypted(stream, address)),
                Ok(Err(error)) => {
                    debug!(%address, %error, "a handshake failed");
                    None
                }
                Err(_) => None,
            }
        }));
    }

    /// Accepts what waits. Ready never: connections come out of their handshakes.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if self.handshakes.len() >= HANDSHAKES_MAX {
                return Poll::Pending;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, address)) => self.begin(stream, address),
                Err(error) => {
                    debug!(%error, "a connection could not be accepted");
                    self.pause = Some(Box::pin(sleep(ACCEPT_WAIT)));
                }
            }
        }
    }
}

fn plain(address: SocketAddr) -> Connection {
    Connection { address: Some(address), certificate: None }
}

impl Stream for Incoming {
    type Item = io::Result<Io>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Io>>> {
        loop {
            let _ = self.poll_accept(cx);
            match self.handshakes.poll_next_unpin(cx) {
                Poll::Ready(Some(Some(io))) => return Poll::Ready(Some(Ok(io))),
                // One is out of the way, so another may be accepted.
                Poll::Ready(Some(None)) => {}
                // An empty set is woken by what is accepted next.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The connections of a listener, for servers that take them one after another: none of those
/// that are half made is lost between them.
#[derive(Clone)]
pub(crate) struct InTurn(Arc<Mutex<Incoming>>);

impl InTurn {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self(Arc::new(Mutex::new(incoming)))
    }
}

impl Stream for InTurn {
    type Item = io::Result<Io>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Io>>> {
        // What panicked in another's hands is as good as before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(cx)
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Io {
    stream: Wire,
    connection: Connection,
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Io {
    fn encrypted(stream: TlsStream<TcpStream>, address: SocketAddr) -> Self {
        let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        let certificate = chain.map(|chain| Arc::new(ClientCertificate::new(chain)));
        let connection = Connection { address: Some(address), certificate };
        Self { stream: Wire::Encrypted(Box::new(stream)), connection }
    }
}

impl Connected for Io {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Wire::Encrypted(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Wire::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Wire::Encrypted(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
