//! A way to a server that can be cut, fall silent, become slow, or lead to another server.
//!
//! It forwards bytes and knows no protocol. What is to happen to some calls only needs
//! [`VaultFront`](crate::vault_front::VaultFront).

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

const PIECE_BYTES: usize = 16 * 1024;

/// What may be under way in one direction of a connection. A sender waits for the rest.
const PIECES_MAX: usize = 256;

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They are forwarded.
    Open,
    /// Those to the server are forwarded so much later.
    Slow(Duration),
    /// They wait, and connections stay open.
    Silent,
    /// Connections are reset, new ones too.
    Cut,
}

/// A proxy on a port of the system's choice. Takes no new connections once dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    target: Mutex<String>,
    way: watch::Sender<Way>,
}

impl FaultProxy {
    /// Starts one that leads to the server at `url`. The scheme is not looked at.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State { target: Mutex::new(host(url)), way: watch::Sender::new(Way::Open) });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, accepting }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens, for a server without TLS.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Treats all connections so from now on, open ones too.
    pub fn set(&self, way: Way) {
        self.state.way.send_replace(way);
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, url: &str) {
        *self.state.target.lock().expect("no panic before") = host(url);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn host(url: &str) -> String {
    url.split_once("://").map_or(url, |(_, host)| host).to_owned()
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(serve(client, Arc::clone(&state)));
    }
}

async fn serve(mut client: TcpStream, state: Arc<State>) {
    let (way, mut cut) = (state.way.subscribe(), state.way.subscribe());
    let target = state.target.lock().expect("no panic before").clone();
    tokio::select! {
        () = forward(&mut client, &target, &way) => {}
        _ = cut.wait_for(|way| *way == Way::Cut) => {}
    }
    // A server that is gone refuses or resets; it takes no leave.
    let _ = client.set_zero_linger();
}

async fn forward(client: &mut TcpStream, target: &str, way: &watch::Receiver<Way>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let delay = |way: Way| if let Way::Slow(delay) = way { delay } else { Duration::ZERO };
    // HTTP closes no connection by halves: the end of one direction is the end of both.
    tokio::select! {
        () = pipe(from_client, to_server, way.clone(), delay) => {}
        () = pipe(from_server, to_client, way.clone(), |_| Duration::ZERO) => {}
    }
}

/// Forwards in one direction, each piece so much later as `delay` says when it comes.
async fn pipe(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
    delay: impl Fn(Way) -> Duration,
) {
    let (pieces, mut waiting) = mpsc::channel(PIECES_MAX);
    let now = way.clone();
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let Ok(length @ 1..) = from.read(&mut piece).await else { return };
            piece.truncate(length);
            let due = Instant::now() + delay(*now.borrow());
            if pieces.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = waiting.recv().await {
            sleep_until(due).await;
            let silent = way.wait_for(|way| *way != Way::Silent).await.is_err();
            if silent || to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    // What was read is written before the connection ends.
    tokio::join!(read, write);
}
