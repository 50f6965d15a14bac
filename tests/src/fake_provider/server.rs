//! The connections of a fake provider, and the bytes that it writes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Answer, End, Received,
    record::{Connected, Shared, Unfinished},
};

/// Requests that it carries on a connection of HTTP/2: half of what providers do.
const STREAMS_MAX: u32 = 50;

/// How much of an endless answer is written at a time.
const ENDLESS_WRITE_BYTES: usize = 64 * 1024;

pub(super) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((connection, _)) = listener.accept().await {
        // Each byte leaves when it is written.
        let _ = connection.set_nodelay(true);
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            let _connected = Connected::new(&shared);
            let line = Arc::new(Line::default());
            let wire = Wire { stream: connection, line: Arc::clone(&line) };
            match tls {
                None => speak(wire, line, shared).await,
                Some(tls) => {
                    // Otherwise it is a caller who does not trust us.
                    if let Ok(stream) = tls.accept(wire).await {
                        speak(stream, line, shared).await;
                    }
                }
            }
        });
    }
}

/// Answers all requests of a connection, until it ends or is to be reset.
async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, line: Arc<Line>, shared: Arc<Shared>) {
    let of_requests = Arc::clone(&line);
    let service =
        hyper::service::service_fn(move |request| answer(request, Arc::clone(&of_requests), Arc::clone(&shared)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(STREAMS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // A connection that breaks is what many tests want.
        _ = connection => {}
        () = line.breaks.notified() => line.resets.store(true, Ordering::Relaxed),
    }
}

/// Whether a connection is to be reset.
#[derive(Debug, Default)]
struct Line {
    breaks: Notify,
    resets: AtomicBool,
}

/// A connection that can end with a reset in place of a farewell.
struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.resets.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

async fn answer(request: Request<Incoming>, line: Arc<Line>, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let mut unfinished = shared.begin();
    let received = receive(request, unfinished.number).await;
    let version = received.version;
    let chosen = shared.choose(&received);
    shared.received.lock().expect("no panic").push(received);
    shared.asked.send_modify(|asked| *asked += 1);
    // It runs as long as this.
    let _ = shared.holds_back.subscribe().wait_for(|holds_back| !holds_back).await;
    let answer = chosen.unwrap_or_else(|| shared.next());
    if !answer.thinks.is_zero() {
        tokio::time::sleep(answer.thinks).await;
    }
    match answer.end {
        End::SilenceBeforeHeaders => std::future::pending().await,
        End::ResetBeforeHeaders => {
            unfinished.is_finished(true);
            if version != Version::HTTP_2 {
                line.breaks.notify_one();
                std::future::pending::<()>().await;
            }
            // Of HTTP/2, this resets the stream.
            return Err(io::Error::other("reset"));
        }
        End::Clean | End::Cut | End::Silence | End::Endless => {}
    }
    unfinished.is_finished(answer.body.is_empty() && answer.end == End::Clean);
    Ok(response(&answer, &shared, unfinished))
}

async fn receive(request: Request<Incoming>, number: usize) -> Received {
    let at = Instant::now();
    let (parts, body) = request.into_parts();
    Received {
        number,
        at,
        version: parts.version,
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers,
        body: body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default(),
    }
}

fn response(answer: &Answer, shared: &Arc<Shared>, mut unfinished: Unfinished) -> Response<Body> {
    let frames = Box::pin(frames(answer, shared)).map(move |frame| {
        // Held by the stream: dropped when the caller leaves or the answer ends.
        unfinished.is_finished(frame.as_ref().map_or(true, |piece| piece.1));
        frame.map(|piece| Frame::data(piece.0))
    });
    let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(frames)));
    *response.status_mut() = StatusCode::from_u16(answer.status).expect("a status");
    for (name, value) in &answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        response.headers_mut().append(name, HeaderValue::from_str(value).expect("a header's value"));
    }
    response
}

/// A piece of a body, and whether it is the last.
struct Piece(Bytes, bool);

fn frames(answer: &Answer, shared: &Arc<Shared>) -> impl Stream<Item = io::Result<Piece>> + Send + 'static {
    let clean = answer.end == End::Clean;
    let pieces = pieces(answer);
    let last = pieces.len();
    let begun = Arc::clone(shared);
    let pieces = stream::iter(pieces.into_iter().enumerate()).then(move |(n, (pause, piece))| {
        let begun = Arc::clone(&begun);
        async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            if n == 0 {
                begun.begun.send_modify(|begun| *begun += 1);
            }
            Ok(Piece(piece, clean && n + 1 == last))
        }
    });
    pieces.chain(tail(answer))
}

/// The body as it is written: cut at its pauses and into the size of a write.
fn pieces(answer: &Answer) -> Vec<(Option<std::time::Duration>, Bytes)> {
    let body = Bytes::from(answer.body.clone());
    let size = if answer.write_size == 0 { body.len().max(1) } else { answer.write_size };
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let pause = answer.pauses.iter().find(|(place, _)| *place == at).map(|(_, pause)| *pause);
        let next_pause = answer.pauses.iter().map(|(place, _)| *place).find(|place| *place > at);
        let to = (at + size).min(next_pause.unwrap_or(body.len())).min(body.len());
        pieces.push((pause, body.slice(at..to)));
        at = to;
    }
    pieces
}

/// What comes after the body.
fn tail(answer: &Answer) -> impl Stream<Item = io::Result<Piece>> + Send + 'static {
    let last = answer.body.last().copied().unwrap_or(b'x');
    let endless = Bytes::from(vec![last; ENDLESS_WRITE_BYTES]);
    stream::unfold(answer.end, move |end| {
        let endless = endless.clone();
        async move {
            match end {
                End::Clean => None,
                End::Cut => {
                    // hyper sends what it holds when the body has nothing more for now.
                    tokio::task::yield_now().await;
                    Some((Err(io::Error::other("cut")), End::Clean))
                }
                End::Silence | End::SilenceBeforeHeaders | End::ResetBeforeHeaders => std::future::pending().await,
                End::Endless => Some((Ok(Piece(endless, false)), end)),
            }
        }
    })
}
