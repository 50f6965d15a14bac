//! A limit on the bytes of all requests that a service has in hand together.
//!
//! Each request is bounded by itself, and so are the calls of a connection; what all of them
//! hold together is bounded here. A request that does not fit any more is refused at once:
//! waiting would hold what has arrived of it already.
//!
//! A message counts with the length that it announces, from its first bytes on: that much
//! memory is set aside for it before the rest arrives. It is held until the handler has its
//! answer or the caller has left, or until the handler says that it needs the request no
//! more ([`Held::release`]). A caller that stops sending would hold it for ever, so a request
//! must arrive in time.
//!
//! Odd: a layer around single services, not around the server. Health is asked by whoever
//! decides where requests go, and must answer when there is no room.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::Map};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::warn;

use crate::failure::Failure;

/// A gRPC message begins with a flag and its length:
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
const PREFIX_BYTES: usize = 5;

/// How long a request may take to arrive. 32 MiB come in that time over 2 Mbit/s.
const ARRIVAL_MAX: Duration = Duration::from_mins(2);

/// How much may be in hand, and how much is. Clones count together.
#[derive(Clone)]
pub struct InHand {
    room: Arc<Room>,
    /// A longer message is refused by whoever reads it, and sets nothing aside.
    message_bytes_max: usize,
    arrival_max: Duration,
    refusals: Refusals,
}

/// What is said to the caller of a request that is not taken.
#[derive(Clone, Copy, Debug)]
pub struct Refusals {
    /// There is no room for it: the argument is how many bytes there is room for.
    pub no_room: fn(usize) -> Failure,
    /// It did not arrive in the time of the argument.
    pub late: fn(Duration) -> Failure,
}

impl InHand {
    /// Room for `bytes_max` bytes of requests, whose messages have up to `message_bytes_max`.
    pub fn new(bytes_max: usize, message_bytes_max: usize, refusals: Refusals) -> Self {
        let room = Arc::new(Room { bytes_max, bytes: AtomicUsize::new(0) });
        Self { room, message_bytes_max, arrival_max: ARRIVAL_MAX, refusals }
    }
}

impl fmt::Debug for InHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InHand").field("room", &self.room).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Room {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl Room {
    /// Whether there was room.
    fn take(&self, bytes: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.bytes_max);
        // A count: it orders nothing else.
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one request holds, in its extensions. Given back when the call ends at the latest.
#[derive(Clone, Debug)]
pub struct Held(Arc<Share>);

#[derive(Debug)]
struct Share {
    room: Arc<Room>,
    bytes: AtomicUsize,
}

impl Held {
    fn nothing_of(room: &Arc<Room>) -> Self {
        Self(Arc::new(Share { room: Arc::clone(room), bytes: AtomicUsize::new(0) }))
    }

    /// Gives back what is held: neither the request nor anything made of it is in memory any
    /// more.
    pub fn release(&self) {
        self.0.release();
    }
}

impl Share {
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let has_room = self.room.take(bytes);
        if has_room {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        has_room
    }

    fn release(&self) {
        self.room.give_back(self.bytes.swap(0, Ordering::Relaxed));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

impl<S> Layer<S> for InHand {
    type Service = InHandService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        InHandService { inner, in_hand: self.clone() }
    }
}

/// A service whose requests count.
#[derive(Clone, Debug)]
pub struct InHandService<S> {
    inner: S,
    in_hand: InHand,
}

type Ended<T> = Box<dyn FnOnce(T) -> T + Send>;

impl<S> Service<http::Request<Body>> for InHandService<S>
where
    S: Service<http::Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Map<S::Future, Ended<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let held = Held::nothing_of(&self.in_hand.room);
        let mut request = request.map(|body| {
            let prefix = Prefix { bytes: [0; PREFIX_BYTES], read: 0 };
            let late = Box::pin(sleep(self.in_hand.arrival_max));
            Body::new(Counted { body, in_hand: self.in_hand.clone(), held: held.clone(), arrived: 0, prefix, late })
        });
        request.extensions_mut().insert(held.clone());
        self.inner.call(request).map(Box::new(move |ended| {
            drop(held);
            ended
        }))
    }
}

/// A body that takes room for what arrives, before anyone reads it.
struct Counted {
    body: Body,
    in_hand: InHand,
    held: Held,
    arrived: usize,
    prefix: Prefix,
    late: Pin<Box<Sleep>>,
}

/// The beginning of the first message. A call of ours has one.
struct Prefix {
    bytes: [u8; PREFIX_BYTES],
    read: usize,
}

impl Prefix {
    /// The bytes of the message with its prefix, once they are known.
    fn announced(&mut self, data: &[u8]) -> Option<usize> {
        let missing = &mut self.bytes[self.read..];
        let count = missing.len().min(data.len());
        missing[..count].copy_from_slice(&data[..count]);
        self.read += count;
        let [_, length @ ..] = self.bytes;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        (self.read == PREFIX_BYTES).then(|| length.saturating_add(PREFIX_BYTES))
    }
}

impl Counted {
    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        self.arrived += data.len();
        let announced =
            self.prefix.announced(data).filter(|bytes| *bytes <= self.in_hand.message_bytes_max + PREFIX_BYTES);
        let due = self.arrived.max(announced.unwrap_or(0));
        if self.held.0.take(due.saturating_sub(self.held.0.bytes())) {
            return Ok(());
        }
        let bytes_max = self.in_hand.room.bytes_max;
        warn!(bytes_max, "a request is refused: as many bytes of others are in hand as may be");
        Err((self.in_hand.refusals.no_room)(bytes_max).into())
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx)?;
        if polled.is_pending() && self.late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err((self.in_hand.refusals.late)(self.in_hand.arrival_max).into())));
        }
        let Some(frame) = ready!(polled) else { return Poll::Ready(None) };
        if let Some(data) = frame.data_ref() {
            self.count(data)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
