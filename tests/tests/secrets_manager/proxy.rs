//! Stands between a vault and its secrets manager, over plain HTTP, and misbehaves on demand.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What a proxy does instead of its work.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Takes requests and says nothing.
    Silence,
    /// Closes every connection at once.
    Reset,
    /// Sends everyone elsewhere.
    Redirect(String),
}

/// A proxy, with what it saw.
pub(crate) struct Proxy {
    url: String,
    state: Arc<State>,
}

struct State {
    target: Option<String>,
    fault: watch::Sender<Option<Fault>>,
    connections: AtomicU64,
    logins: Mutex<Vec<Instant>>,
}

impl Proxy {
    /// Passes on to `target`, or to nobody.
    pub(crate) async fn start(target: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let target = target.map(|url| url.trim_start_matches("http://").to_owned());
        let state = Arc::new(State {
            target,
            fault: watch::Sender::new(None),
            connections: AtomicU64::new(0),
            logins: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let state = Arc::clone(&shared);
                // Whoever hangs up is none of our concern.
                tokio::spawn(async move { drop(state.serve(stream).await) });
            }
        });
        Self { url, state }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Misbehaves from now on, on open connections too.
    pub(crate) fn set(&self, fault: Option<Fault>) {
        self.state.fault.send_replace(fault);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// When somebody logged in.
    pub(crate) fn logins(&self) -> Vec<Instant> {
        self.state.logins.lock().expect("no panic").clone()
    }
}

impl State {
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut fault = self.fault.subscribe();
        let now = fault.borrow_and_update().clone();
        match now {
            None => tokio::select! {
                passed = self.pass_on(&mut stream) => passed,
                // Connections that were open when it began to misbehave end there.
                _ = fault.changed() => Ok(()),
            },
            Some(Fault::Reset) => stream.set_zero_linger(),
            Some(Fault::Silence) => {
                let _ = fault.changed().await;
                Ok(())
            }
            Some(Fault::Redirect(to)) => {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await?;
                let answer = format!("HTTP/1.1 307 Elsewhere\r\nlocation: {to}/v1\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await
            }
        }
    }

    async fn pass_on(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let mut upstream = TcpStream::connect(target).await?;
        let (mut request, mut response) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
        loop {
            tokio::select! {
                // Requests are small: the line with the path is in one read.
                length = stream.read(&mut request) => match length? {
                    0 => return Ok(()),
                    length => {
                        if String::from_utf8_lossy(&request[..length]).contains("/login ") {
                            self.logins.lock().expect("no panic").push(Instant::now());
                        }
                        upstream.write_all(&request[..length]).await?;
                    }
                },
                length = upstream.read(&mut response) => match length? {
                    0 => return Ok(()),
                    length => stream.write_all(&response[..length]).await?,
                },
            }
        }
    }
}
