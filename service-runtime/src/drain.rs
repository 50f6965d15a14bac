//! How a server stops: in phases, each with a limit, and whoever is cut off is told so.
//!
//! 1. `Phase::Open`: health says `NOT_SERVING` already, and everything is served as before, so
//!    that whoever chooses among replicas learns of it first.
//! 2. `Phase::Refusing`: what is under way goes on. New calls are refused with a reason.
//! 3. `Phase::Parting`: clients are told to leave the connections that are older than that, and
//!    find other replicas behind the same address. Calls on newer ones are refused as before.
//! 4. `Phase::Cutting`: the time is over. Services end what they do, each as its contract says.
//! 5. `Phase::Over`: what has not ended by itself is ended here, and connections close.
//!
//! A [`Work`] is what a stopping server waits for: a call until its answer is handed over whole,
//! or what a service does beside its calls.
//!
//! Odd: health is neither refused nor waited for. It is what tells that the server stops, and
//! whoever watches it would hold the server until the end.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::warn;

use crate::failure::Failure;

/// How long calls are refused before clients are told to leave their connections. Some clients
/// (hyper's) fail a call without a reason that they begin just then; a caller that was refused
/// waits longer than this before it calls again.
const PARTING_AFTER: Duration = Duration::from_millis(500);

/// How long services may take to end what is cut.
const UNWIND_MAX: Duration = Duration::from_millis(500);

/// The paths of the health service.
pub(crate) const HEALTH: &str = "/grpc.health.v1.Health/";

/// How far a server has stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It serves.
    #[default]
    Open,
    /// It takes nothing new.
    Refusing,
    /// It wants its connections to end.
    Parting,
    /// It ends what is under way.
    Cutting,
    /// Nothing is left that says anything.
    Over,
}

/// What those who serve, and those who do the work, know of the end. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    state: watch::Sender<State>,
    /// Each work is a receiver: they can be counted, and their end can be waited for.
    work: watch::Sender<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    phase: Phase,
    /// When work is cut.
    end: Option<Instant>,
}

/// Something under way, which a server that stops waits for until its time is over.
#[derive(Debug)]
pub struct Work {
    _counted: watch::Receiver<()>,
}

impl Drain {
    /// Something begins that the server waits for when it stops.
    pub fn work(&self) -> Work {
        Work { _counted: self.work.subscribe() }
    }

    /// When work is cut. `None` while nobody asked the server to stop.
    pub fn end(&self) -> Option<Instant> {
        self.state.borrow().end
    }

    /// Whether work must end.
    pub fn is_cutting(&self) -> bool {
        self.state.borrow().phase >= Phase::Cutting
    }

    /// Resolves once work must end.
    pub fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        self.reached(Phase::Cutting)
    }

    /// Resolves once the server is in a phase, or a later one.
    pub(crate) fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        let (mut state, held) = (self.state.subscribe(), self.state.clone());
        async move {
            // It cannot fail: a sender is held here.
            let _ = state.wait_for(|state| state.phase >= phase).await;
            drop(held);
        }
    }

    /// Begins a call, unless there are to be no new ones.
    fn admit(&self) -> Option<Work> {
        // Counted first: a server that begins to refuse in between sees it, or it sees that.
        let work = self.work();
        (self.state.borrow().phase < Phase::Refusing).then_some(work)
    }

    fn enter(&self, phase: Phase) {
        self.state.send_modify(|state| state.phase = phase);
    }

    /// Goes through the phases: takes new work for `delay`, then waits for what is under way up to
    /// `limit`, then cuts it.
    pub(crate) async fn run_down(&self, delay: Duration, limit: Duration) {
        let end = Instant::now() + delay + limit;
        self.state.send_modify(|state| state.end = Some(end));
        sleep(delay).await;
        self.enter(Phase::Refusing);
        sleep(limit.min(PARTING_AFTER)).await;
        self.enter(Phase::Parting);
        if timeout_at(end, self.work.closed()).await.is_err() {
            let count = self.work.receiver_count();
            warn!(count, limit_s = limit.as_secs(), "what was still under way at the end of the drain time is cut");
            self.enter(Phase::Cutting);
            let _ = timeout(UNWIND_MAX, self.work.closed()).await;
        }
        self.enter(Phase::Over);
    }
}

/// What is said to the callers of a server that stops.
#[derive(Clone, Copy, Debug)]
pub struct Farewell {
    /// To those who call now.
    pub refused: fn() -> Failure,
    /// To those whose call did not end in time, and was not ended by its service.
    pub cut: fn() -> Failure,
}

/// Refuses new calls once the server stops, and ends those at last that do not end by themselves.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) drain: Drain,
    pub(crate) farewell: Farewell,
}

impl<S> Layer<S> for Gate {
    type Service = GateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GateService { inner, gate: self.clone() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct GateService<S> {
    inner: S,
    gate: Gate,
}

impl<S> Service<http::Request<Body>> for GateService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Gate { drain, farewell: Farewell { refused, cut } } = self.gate.clone();
        let is_health = request.uri().path().starts_with(HEALTH);
        let work = drain.admit();
        if work.is_none() && !is_health {
            return Box::pin(async move { Ok(Status::from(refused()).into_http()) });
        }
        let work = work.filter(|_| !is_health);
        let call = self.inner.call(request);
        Box::pin(async move {
            let over: BoxFuture<'static, ()> = Box::pin(drain.reached(Phase::Over));
            let answered = select(Box::pin(call), over).await;
            match answered {
                Either::Left((answer, over)) => {
                    let ending = |body| Body::new(Ending { body, over: Some(over), cut, _work: work });
                    answer.map(|response| response.map(ending))
                }
                Either::Right(_) => Ok(Status::from(cut()).into_http()),
            }
        })
    }
}

/// The body of an answer, which ends with a reason once everything is over.
struct Ending {
    body: Body,
    over: Option<BoxFuture<'static, ()>>,
    cut: fn() -> Failure,
    _work: Option<Work>,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let is_over = frame.is_pending() && self.over.as_mut().is_some_and(|over| over.as_mut().poll(cx).is_ready());
        if !is_over {
            return frame;
        }
        self.over = None;
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        Status::from((self.cut)()).add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
