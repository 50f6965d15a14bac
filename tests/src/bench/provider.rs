//! What stands for the provider, and for the collector of traces: as little work as there can be, so
//! that the machine is left to those who are measured.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Collected, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

use super::{question::Plan, servers::Tls};

/// Requests on a connection of HTTP/2: what most providers allow.
const STREAMS_MAX: u32 = 100;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers as the questions say. Never ends.
///
/// # Errors
///
/// Fails if its certificate cannot be used.
pub async fn serve(listener: TcpListener, tls: Option<&Tls>) -> Result<()> {
    let acceptor = tls.map(|tls| tls.acceptor(&[b"h2", b"http/1.1"])).transpose()?;
    while let Ok((connection, _)) = listener.accept().await {
        let _ = connection.set_nodelay(true);
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match acceptor {
                None => speak(connection).await,
                Some(acceptor) => {
                    if let Ok(connection) = acceptor.accept(connection).await {
                        speak(connection).await;
                    }
                }
            }
        });
    }
    Ok(())
}

async fn speak(connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(STREAMS_MAX).timer(TokioTimer::new());
    // Whoever leaves has what it wanted.
    let _ = builder.serve_connection(TokioIo::new(connection), service_fn(answer)).await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    let Some(plan) = Plan::of(&body) else {
        let mut refused = Response::new(Full::new(Bytes::from_static(b"{}")).boxed_unsync());
        *refused.status_mut() = http::StatusCode::BAD_REQUEST;
        return Ok(refused);
    };
    let body = if plan.pace.is_zero() {
        Full::new(plan.whole()).boxed_unsync()
    } else {
        StreamBody::new(pieces(plan).map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert("x-request-id", HeaderValue::from_static("req_bench"));
    Ok(response)
}

/// The pieces of an answer, each at its time. The first comes at once, the end with the last one's
/// successor.
fn pieces(plan: Plan) -> impl Stream<Item = Bytes> + Send + Unpin {
    let begin = Instant::now();
    let pieces = stream::unfold(0, move |number| async move {
        if number > plan.pieces {
            return None;
        }
        // A timer of tokio rings at the next millisecond, and the first piece has none to wait for.
        if number > 0 {
            sleep_until(begin + plan.pace * number).await;
        }
        let bytes = match number {
            0 => [&Plan::head()[..], &plan.piece(now())[..]].concat().into(),
            _ if number == plan.pieces => plan.tail(),
            _ => plan.piece(now()),
        };
        Some((bytes, number + 1))
    });
    Box::pin(pieces)
}

/// The time of the machine, which all processes share.
pub fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Takes exports over gRPC and forgets them. Never ends.
pub async fn sink(listener: TcpListener) {
    let empty = Arc::new(Bytes::from_static(&[0; 5]));
    while let Ok((connection, _)) = listener.accept().await {
        let empty = Arc::clone(&empty);
        tokio::spawn(take(connection, empty));
    }
}

async fn take(connection: TcpStream, empty: Arc<Bytes>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let empty = Bytes::clone(&empty);
        async move {
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            let trailers =
                HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
            let body = Full::new(empty).with_trailers(std::future::ready(Some(Ok(trailers))));
            let mut response = Response::new(body);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            Ok::<_, Infallible>(response)
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
}
