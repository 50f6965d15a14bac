//! A way to a server that can lead to another one, fall silent, or end after some words.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU16, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Forwards connections to a port of 127.0.0.1. Ends with the runtime of its test.
pub(crate) struct Forwarder {
    port: u16,
    target: Arc<AtomicU16>,
    last_words: Arc<Mutex<Option<String>>>,
    silent: watch::Sender<bool>,
}

impl Forwarder {
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (target, last_words) = (Arc::new(AtomicU16::new(target)), Arc::new(Mutex::new(None)));
        let (to, words) = (Arc::clone(&target), Arc::clone(&last_words));
        let (silent, is_silent) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (words, is_silent) = (Arc::clone(&words), is_silent.clone());
                let to = to.load(Ordering::Relaxed);
                tokio::spawn(async move {
                    // A target that is gone closes the connection, which is what the test is about.
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await {
                        forward(client, server, &words, is_silent).await;
                    }
                });
            }
        });
        Self { port, target, last_words, silent }
    }

    /// A URL that takes this way.
    pub(crate) fn url(&self, url: &str) -> String {
        let (before, after) = url.split_once("@127.0.0.1:").expect("a URL of the server");
        let (_, database) = after.split_once('/').expect("a URL with a database");
        format!("{before}@127.0.0.1:{}/{database}", self.port)
    }

    /// Leads new connections to another port.
    pub(crate) fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
    }

    /// Keeps every connection, new ones too, and forwards nothing until it speaks again.
    pub(crate) fn falls_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// Ends the next connection whose client says `words`, once the server has them.
    pub(crate) fn cut_after(&self, words: &str) {
        *self.last_words.lock().expect("no panic before") = Some(words.to_owned());
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    last_words: &Mutex<Option<String>>,
    is_silent: watch::Receiver<bool>,
) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut silence = is_silent.clone();
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            silence.wait_for(|silent| !silent).await.ok()?;
            let said = &buffer[..count];
            let are_last = |words: &mut String| said.windows(words.len()).any(|window| window == words.as_bytes());
            // Before it is forwarded: the answer must not be quicker than we are.
            if last_words.lock().expect("no panic before").take_if(are_last).is_some() {
                return Some(said.to_vec());
            }
            to_server.write_all(said).await.ok()?;
        }
        None
    };
    let mut silence = is_silent;
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            silence.wait_for(|silent| !silent).await.ok()?;
            to_client.write_all(&buffer[..count]).await.ok()?;
        }
        None
    };
    let last = tokio::select! {
        last = requests => last,
        none = answers => none,
    };
    if let Some(last) = last {
        let _ = to_server.write_all(&last).await;
    }
}
