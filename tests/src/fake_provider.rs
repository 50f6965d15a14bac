//! A server that stands for a provider: it answers what it was told to, byte by byte if
//! asked, and remembers what it was sent and who hung up.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// A provider on a port of the system's choice. Stops when dropped.
#[derive(Debug)]
pub struct FakeProvider {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// Chooses the answer to a request.
struct Choice(Box<dyn Fn(&Received) -> Answer + Send + Sync>);

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Choice(..)")
    }
}

#[derive(Debug)]
struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    chooses: Mutex<Option<Choice>>,
    received: Mutex<Vec<Received>>,
    /// Requests whose caller left before the answer was whole.
    hung_up: watch::Sender<usize>,
    /// Answers of which something was sent.
    begun: watch::Sender<usize>,
    /// Requests that were received whole.
    asked: watch::Sender<usize>,
    holds_back: watch::Sender<bool>,
}

/// A request that was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Received {
    /// A header as text. Empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The key that it came with.
    pub fn key(&self) -> &str {
        let bearer = self.header("authorization").trim_start_matches("Bearer ");
        [self.header("x-api-key"), self.header("x-goog-api-key"), bearer]
            .into_iter()
            .max_by_key(|key| key.len())
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a request is JSON")
    }
}

/// How to answer a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How many bytes are written at a time; 0 writes all at once.
    pub write_size: usize,
    /// How it ends.
    pub end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Clean,
    /// The connection breaks.
    Cut,
    /// Nothing more comes, and the connection stays open.
    Silence,
    /// Not even headers come.
    SilenceBeforeHeaders,
}

impl Answer {
    /// An event stream.
    pub fn stream(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".to_owned(), "text/event-stream".to_owned())],
            body: body.into(),
            write_size: 0,
            end: End::Clean,
        }
    }

    /// JSON.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.into(),
            write_size: 0,
            end: End::Clean,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes so many bytes at a time.
    #[must_use]
    pub fn in_writes_of(mut self, bytes: usize) -> Self {
        self.write_size = bytes;
        self
    }

    /// Ends otherwise.
    #[must_use]
    pub fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

impl FakeProvider {
    /// Starts it. It speaks HTTP/1.1 and HTTP/2 in the clear.
    ///
    /// # Errors
    ///
    /// Fails if no port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            chooses: Mutex::default(),
            received: Mutex::default(),
            hung_up: watch::Sender::new(0),
            begun: watch::Sender::new(0),
            asked: watch::Sender::new(0),
            holds_back: watch::Sender::new(false),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, server })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
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

    /// Resolves once `count` callers have left before their answer was whole.
    ///
    /// # Errors
    ///
    /// Fails if they do not leave within `limit`.
    pub async fn sees_hang_ups(&self, count: usize, limit: Duration) -> Result<()> {
        let mut hung_up = self.shared.hung_up.subscribe();
        tokio::time::timeout(limit, hung_up.wait_for(|callers| *callers >= count)).await??;
        Ok(())
    }
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((connection, _)) = listener.accept().await {
        // Each byte leaves when it is written.
        let _ = connection.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&shared)));
            // A connection that breaks is what many tests want.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Infallible> {
    let mut unfinished = Unfinished { shared: Arc::clone(&shared), finished: false };
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let method = parts.method.to_string();
    let received = Received { method, path, headers: parts.headers, body };
    let chosen = shared.chooses.lock().expect("no panic").as_ref().map(|choice| choice.0(&received));
    shared.received.lock().expect("no panic").push(received);
    shared.asked.send_modify(|asked| *asked += 1);
    // It runs as long as this.
    let _ = shared.holds_back.subscribe().wait_for(|holds_back| !holds_back).await;
    let answer = if let Some(chosen) = chosen {
        chosen
    } else {
        let mut answers = shared.answers.lock().expect("no panic");
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.unwrap_or_else(|| Answer::json(500, "{\"error\":{\"message\":\"no answer was set\"}}"))
    };
    if answer.end == End::SilenceBeforeHeaders {
        std::future::pending::<()>().await;
    }
    let mut response =
        Response::new(UnsyncBoxBody::new(StreamBody::new(Box::pin(frames(&answer, &shared)).map(move |frame| {
            // Held by the stream: dropped when the caller leaves or the answer ends.
            unfinished.note(&frame);
            frame.map(|piece| Frame::data(piece.0))
        }))));
    *response.status_mut() = StatusCode::from_u16(answer.status).expect("a status");
    for (name, value) in &answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        response.headers_mut().append(name, HeaderValue::from_str(value).expect("a header's value"));
    }
    Ok(response)
}

/// A piece of a body, and whether it is the last.
struct Piece(Bytes, bool);

fn frames(answer: &Answer, shared: &Arc<Shared>) -> impl Stream<Item = Result<Piece, std::io::Error>> + Send + 'static {
    let size = if answer.write_size == 0 { answer.body.len().max(1) } else { answer.write_size };
    let body = Bytes::from(answer.body.clone());
    let clean = answer.end == End::Clean;
    let pieces: Vec<_> = (0..body.len()).step_by(size).map(|at| body.slice(at..body.len().min(at + size))).collect();
    let last = pieces.len();
    let begun = Arc::clone(shared);
    let pieces = stream::iter(pieces.into_iter().enumerate()).map(move |(n, piece)| {
        if n == 0 {
            begun.begun.send_modify(|begun| *begun += 1);
        }
        Ok(Piece(piece, clean && n + 1 == last))
    });
    let end = answer.end;
    let tail = stream::once(async move {
        match end {
            End::Clean => None,
            End::Cut => {
                // hyper sends what it holds when the body has nothing more for now.
                tokio::task::yield_now().await;
                Some(Err(std::io::Error::other("cut")))
            }
            End::Silence | End::SilenceBeforeHeaders => {
                std::future::pending::<()>().await;
                None
            }
        }
    });
    pieces.chain(tail.filter_map(std::future::ready))
}

/// Counts a caller who left before the end.
struct Unfinished {
    shared: Arc<Shared>,
    finished: bool,
}

impl Unfinished {
    fn note(&mut self, frame: &Result<Piece, std::io::Error>) {
        self.finished = frame.as_ref().map_or(true, |piece| piece.1);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.hung_up.send_modify(|callers| *callers += 1);
        }
    }
}
