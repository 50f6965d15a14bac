//! A provider whose answers come at a pace, in numbered pieces, for as long as its callers want.
//! Some fall silent and some break off. The number of a question decides all of its answer.

use std::{convert::Infallible, ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::{Stream, stream};
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Collected, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

/// Of so many answers one falls silent, and one breaks off.
const SILENT_OF: u64 = 40;
const BROKEN_OF: u64 = 15;

/// The fewest pieces before an answer goes wrong: output has begun by then.
const PIECES_BEFORE: u32 = 5;

/// How answers are made.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The time between two pieces.
    pub pause: Duration,
    /// How many pieces an answer has.
    pub pieces: RangeInclusive<u32>,
}

/// What the answer to a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many pieces come.
    pub pieces: u32,
    /// What comes after them.
    pub end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is whole.
    Whole,
    /// Nothing more comes, and the connection stays open.
    Silent,
    /// The connection breaks.
    Broken,
}

impl Pace {
    /// The plan of a question.
    pub fn plan(&self, question: u64) -> Plan {
        let mut random = Rng::with_seed(question);
        let pieces = random.u32(self.pieces.clone());
        let end = if random.u64(..SILENT_OF) == 0 {
            End::Silent
        } else if random.u64(..BROKEN_OF) == 0 {
            End::Broken
        } else {
            return Plan { pieces, end: End::Whole };
        };
        Plan { pieces: random.u32(PIECES_BEFORE..=pieces.max(PIECES_BEFORE)), end }
    }
}

impl Plan {
    /// All pieces.
    pub fn text(self) -> String {
        (0..self.pieces).map(piece).collect()
    }
}

/// What is asked.
pub fn question(number: u64) -> String {
    format!("question {number}.")
}

fn number(body: &[u8]) -> Option<u64> {
    let body = String::from_utf8_lossy(body);
    let digits = body.split_once("question ")?.1.split_once('.')?.0;
    digits.parse().ok()
}

fn piece(number: u32) -> String {
    format!("{number} ")
}

/// A provider on a port of the system's choice, which speaks as `OpenAI` does. Takes no new
/// connections once dropped.
#[derive(Debug)]
pub struct PacedProvider {
    url: String,
    server: JoinHandle<()>,
}

impl PacedProvider {
    /// Starts it.
    pub async fn start(pace: Pace) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self { url: format!("http://{address}"), server: tokio::spawn(serve(listener, pace)) }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

impl Drop for PacedProvider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, pace: Pace) {
    while let Ok((connection, _)) = listener.accept().await {
        let _ = connection.set_nodelay(true);
        let pace = pace.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(request, pace.clone()));
            // A connection that breaks is what some answers want.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

async fn answer(request: Request<Incoming>, pace: Pace) -> Result<Response<Body>, Infallible> {
    let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    let plan = pace.plan(number(&body).expect("a numbered question"));
    let mut response = Response::new(UnsyncBoxBody::new(StreamBody::new(Box::pin(frames(plan, pace.pause)))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

fn frames(plan: Plan, pause: Duration) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send {
    let start = Instant::now();
    stream::unfold(0, move |number| async move {
        // By the clock, so that a late piece does not make all later ones late.
        tokio::time::sleep_until(start + pause * number).await;
        if number < plan.pieces {
            let delta = format!("{{\"content\":\"{}\"}}", piece(number));
            return Some((Ok(Frame::data(event(&delta, "null").into())), number + 1));
        }
        match plan.end {
            End::Whole if number == plan.pieces => {
                let end = format!("{}data: [DONE]\n\n", event("{}", "\"stop\""));
                Some((Ok(Frame::data(end.into())), number + 1))
            }
            End::Whole => None,
            End::Silent => std::future::pending().await,
            End::Broken => Some((Err(std::io::Error::other("broken")), number + 1)),
        }
    })
}

fn event(delta: &str, reason: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
    )
}
