//! A way to a server that can lead to another one, or end after some words.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU16, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
};

/// Forwards connections to a port of 127.0.0.1. Ends with the runtime of its test.
pub(crate) struct Forwarder {
    port: u16,
    target: Arc<AtomicU16>,
    last_words: Arc<Mutex<Option<String>>>,
}

impl Forwarder {
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (target, last_words) = (Arc::new(AtomicU16::new(target)), Arc::new(Mutex::new(None)));
        let (to, words) = (Arc::clone(&target), Arc::clone(&last_words));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let words = Arc::clone(&words);
                let to = to.load(Ordering::Relaxed);
                tokio::spawn(async move {
                    // A target that is gone closes the connection, which is what the test is about.
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await {
                        forward(client, server, &words).await;
                    }
                });
            }
        });
        Self { port, target, last_words }
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

    /// Ends the next connection whose client says `words`, once the server has them.
    pub(crate) fn cut_after(&self, words: &str) {
        *self.last_words.lock().expect("no panic before") = Some(words.to_owned());
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, last_words: &Mutex<Option<String>>) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            // Before it is forwarded: the answer must not be quicker than we are.
            let cut = last_words
                .lock()
                .expect("no panic before")
                .take_if(|words| buffer[..count].windows(words.len()).any(|window| window == words.as_bytes()));
            if cut.is_some() {
                return Some(buffer[..count].to_vec());
            }
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        None
    };
    let last = tokio::select! {
        last = requests => last,
        _ = copy(&mut from_server, &mut to_client) => None,
    };
    if let Some(last) = last {
        let _ = to_server.write_all(&last).await;
    }
}
