//! A transit server of the barest kind, with faults on demand.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};

/// What it does to every request instead of answering.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Sends the client elsewhere.
    Redirect(u16, SocketAddr),
    /// Says nothing, and keeps the connection.
    Silence,
    /// Resets the connection.
    Reset,
    /// Answers with this.
    Answer(u16, String),
    /// Answers to what begins so with this, and to the rest as usual.
    AnswerTo(&'static str, u16, String),
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Value,
    pub(super) at: Instant,
}

/// What it is and what it saw.
pub(super) struct State {
    pub(super) fault: Option<Fault>,
    pub(super) requests: Vec<Seen>,
    pub(super) connections: usize,
    /// Tokens, and when they end.
    pub(super) tokens: HashMap<String, Instant>,
    pub(super) ttl: u64,
    pub(super) renewable: bool,
    /// Whether tokens are good for the engine, and for a look at themselves.
    pub(super) allows_engine: bool,
    pub(super) allows_lookup: bool,
    issued: usize,
}

impl State {
    pub(super) fn logins(&self) -> Vec<Instant> {
        let logins = self.requests.iter().filter(|seen| seen.path.ends_with("/login"));
        logins.map(|seen| seen.at).collect()
    }

    pub(super) fn count(&self, path: &str) -> usize {
        self.requests.iter().filter(|seen| seen.path.ends_with(path)).count()
    }

    fn answer(&mut self, seen: &Seen) -> (u16, String) {
        match &self.fault {
            Some(Fault::Answer(status, text)) => return (*status, text.clone()),
            Some(Fault::AnswerTo(path, status, text)) if seen.path.contains(path) => return (*status, text.clone()),
            _ => {}
        }
        let token = seen.headers.get("x-vault-token").cloned().unwrap_or_default();
        let end = self.tokens.get(&token).copied().filter(|end| *end > Instant::now());
        let refused = || (403, json!({"errors": ["permission denied"]}).to_string());
        let lease = json!({"lease_duration": self.ttl, "renewable": self.renewable});
        let path = seen.path.strip_prefix("/v1/").unwrap_or_default();
        match path {
            "sys/health" => (200, json!({"initialized": true, "sealed": false}).to_string()),
            "auth/approle/login" | "auth/kubernetes/login" => {
                self.issued += 1;
                let token = format!("hvs.token-{}", self.issued);
                self.tokens.insert(token.clone(), Instant::now() + Duration::from_secs(self.ttl));
                (200, granted(&token, lease))
            }
            _ if end.is_none() => refused(),
            "auth/token/renew-self" if self.renewable => {
                self.tokens.insert(token.clone(), Instant::now() + Duration::from_secs(self.ttl));
                (200, granted(&token, lease))
            }
            "auth/token/lookup-self" if self.allows_lookup => {
                let ttl = end.map_or(0, |end| end.saturating_duration_since(Instant::now()).as_secs());
                let known = json!({"ttl": ttl, "renewable": self.renewable, "expire_time": "some time"});
                (200, json!({ "data": known }).to_string())
            }
            "transit/encrypt/root" if self.allows_engine => (200, encrypted(&seen.body)),
            "transit/decrypt/root" if self.allows_engine => decrypted(&seen.body),
            _ => refused(),
        }
    }
}

fn granted(token: &str, mut lease: Value) -> String {
    lease["client_token"] = token.into();
    json!({ "auth": lease }).to_string()
}

/// Not encrypted: the plaintext and what it is bound to, in an alphabet that fits.
fn encrypted(body: &Value) -> String {
    let text = |name: &str| body[name].as_str().unwrap_or_default().replace('=', "");
    let ciphertext = format!("vault:v1:{}+++{}", text("plaintext"), text("associated_data"));
    json!({"data": {"ciphertext": ciphertext}}).to_string()
}

fn decrypted(body: &Value) -> (u16, String) {
    let ciphertext = body["ciphertext"].as_str().unwrap_or_default();
    let context = body["associated_data"].as_str().unwrap_or_default().replace('=', "");
    match ciphertext.strip_prefix("vault:v1:").and_then(|rest| rest.rsplit_once("+++")) {
        Some((plain, bound)) if bound == context => {
            (200, json!({"data": {"plaintext": format!("{plain}=")}}).to_string())
        }
        _ => (400, json!({"errors": ["cipher: message authentication failed"]}).to_string()),
    }
}

/// A running fake. Ends with its value.
pub(super) struct FakeServer {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl FakeServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = Arc::new(Mutex::new(State {
            fault: None,
            requests: Vec::new(),
            connections: 0,
            tokens: HashMap::new(),
            ttl: 3600,
            renewable: true,
            allows_engine: true,
            allows_lookup: true,
            issued: 0,
        }));
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        state.lock().unwrap().connections += 1;
        let state = Arc::clone(&state);
        // Whoever hangs up is none of our concern.
        connections.spawn(async move { drop(talk(stream, state).await) });
    }
}

async fn talk(mut stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    loop {
        let Some(seen) = read(&mut stream).await? else { return Ok(()) };
        let (status, headers, body) = {
            let mut state = state.lock().unwrap();
            state.requests.push(seen.clone());
            match &state.fault {
                Some(Fault::Redirect(status, to)) => {
                    (*status, format!("location: http://{to}{}\r\n", seen.path), String::new())
                }
                Some(Fault::Silence) => (0, String::new(), String::new()),
                Some(Fault::Reset) => return stream.set_zero_linger(),
                _ => {
                    let (status, body) = state.answer(&seen);
                    (status, String::new(), body)
                }
            }
        };
        if status == 0 {
            std::future::pending::<()>().await;
        }
        let head = format!("HTTP/1.1 {status} Fake\r\n{headers}content-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
    }
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return Ok(None),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let headers: HashMap<_, _> =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Seen { path, headers, body: serde_json::from_slice(&body).unwrap_or_default(), at: Instant::now() }))
}
