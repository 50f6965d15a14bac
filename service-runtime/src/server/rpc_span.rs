//! What is known of each RPC when it is over: one span that continues the caller's trace, one
//! measurement, one log line.
//!
//! An RPC is over when its trailers are sent or nobody wants them any more: a stream's span is as
//! long as the stream.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use opentelemetry::{KeyValue, trace};
use prost::{DecodeError, Message as _};
use prost_types::FileDescriptorSet;
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::{Layer, Service};
use tracing::{Span, debug, field, info, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{Arrived, HEALTH};
use crate::{
    incoming::Connection,
    metrics::{Describe, Histogram},
    semconv::{OTHER, attribute, buckets, seconds},
    telemetry,
};

/// Whose fault a reason of the contract is, in one word. `None` for one that is not of the
/// contract.
pub type FaultOf = fn(reason: &str) -> Option<&'static str>;

/// Gives each RPC its span, and says what came of it.
#[derive(Clone, Debug)]
pub(super) struct RpcSpans {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `package.Service/Method` of all that is served.
    methods: HashSet<String>,
    fault_of: FaultOf,
    /// Methods whose success nobody wants to read of.
    routine: &'static [&'static str],
    duration: Histogram,
}

impl RpcSpans {
    /// For the RPCs that `descriptors` have, of the services that `served` says.
    ///
    /// # Errors
    ///
    /// Fails if the descriptors cannot be read.
    pub(super) fn new(
        descriptors: &[u8],
        served: impl Fn(&str) -> bool,
        fault_of: FaultOf,
        routine: &'static [&'static str],
    ) -> Result<Self, DecodeError> {
        let describe = Describe {
            name: "rpc.server.call.duration",
            unit: "s",
            help: "How long calls of this service took, to the end of their streams",
        };
        let duration = Histogram::new(&describe, buckets::RPC);
        let methods = methods(descriptors, served)?;
        Ok(Self { shared: Arc::new(Shared { methods, fault_of, routine, duration }) })
    }
}

fn methods(descriptors: &[u8], served: impl Fn(&str) -> bool) -> Result<HashSet<String>, DecodeError> {
    let mut methods: HashSet<_> = ["Check", "Watch", "List"].map(|name| format!("{}{name}", &HEALTH[1..])).into();
    for file in FileDescriptorSet::decode(descriptors)?.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            if served(&name) {
                methods.extend(service.method.iter().map(|method| format!("{name}/{}", method.name())));
            }
        }
    }
    Ok(methods)
}

impl<S> Layer<S> for RpcSpans {
    type Service = RpcSpanService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RpcSpanService { inner, shared: Arc::clone(&self.shared) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct RpcSpanService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<http::Request<Body>> for RpcSpanService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let rpc = Rpc::begin(&request, Arc::clone(&self.shared));
        request.extensions_mut().insert(Arrived(rpc.begun));
        let answer = rpc.span.in_scope(|| self.inner.call(request));
        Answering { answer: Box::pin(answer), rpc: Some(rpc) }
    }
}

/// Until the head of the answer is there.
#[derive(Debug)]
pub(super) struct Answering<F> {
    answer: Pin<Box<F>>,
    rpc: Option<Rpc>,
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<http::Response<Body>, E>>,
{
    type Output = Result<http::Response<Body>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let answer = {
            let _entered = this.rpc.as_ref().map(|rpc| rpc.span.enter());
            ready!(this.answer.as_mut().poll(cx))
        };
        let Some(mut rpc) = this.rpc.take() else { return Poll::Ready(answer) };
        Poll::Ready(answer.map(|response| {
            // A call that is refused has its trailers in its head.
            if response.headers().contains_key(Status::GRPC_STATUS) {
                rpc.ends_with(response.headers());
                return response;
            }
            response.map(|body| Body::new(Told { body, rpc }))
        }))
    }
}

/// The body of an answer, which tells what it ends with.
struct Told {
    body: Body,
    rpc: Rpc,
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = {
            let _entered = this.rpc.span.enter();
            ready!(Pin::new(&mut this.body).poll_frame(cx))
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.rpc.ends_with(trailers);
                }
            }
            Some(Err(status)) => this.rpc.ends(status.code(), Some(status)),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// One RPC.
#[derive(Debug)]
struct Rpc {
    span: Span,
    /// `package.Service/Method` if it is one of ours.
    method: Option<String>,
    begun: Instant,
    shared: Arc<Shared>,
    over: bool,
}

impl Rpc {
    fn begin(request: &http::Request<Body>, shared: Arc<Shared>) -> Self {
        let asked = request.uri().path().trim_start_matches('/');
        let method = shared.methods.get(asked).cloned();
        let name = method.as_deref().unwrap_or(OTHER);
        let span = info_span!(
            "rpc",
            otel.name = name,
            otel.kind = "server",
            { attribute::RPC_SYSTEM_NAME } = "grpc",
            { attribute::RPC_METHOD } = name,
            { attribute::RPC_STATUS_CODE } = field::Empty,
            { attribute::ERROR_TYPE } = field::Empty,
            { attribute::FAULT } = field::Empty,
            // What a handler knows of its call.
            { attribute::ORGANIZATION_ID } = field::Empty,
            { attribute::PROFILE_ID } = field::Empty,
            { attribute::DETECT_RULE } = field::Empty,
            { attribute::GEN_AI_PROVIDER_NAME } = field::Empty,
            { attribute::GEN_AI_REQUEST_MODEL } = field::Empty,
            { attribute::KEY_ID } = field::Empty,
            { attribute::KEY_VERSION } = field::Empty,
            { attribute::RESOLUTION_SOURCE } = field::Empty,
            { attribute::CACHE } = field::Empty,
            { attribute::ATTEMPT_COUNT } = field::Empty,
            { attribute::FINISH } = field::Empty,
        );
        telemetry::adopt(&span, request.headers());
        if method.is_none() {
            span.set_attribute(attribute::RPC_METHOD_ORIGINAL, telemetry::words(asked));
        }
        if let Some(peer) = request.extensions().get::<Connection>().and_then(|connection| connection.address) {
            span.set_attribute(attribute::NETWORK_PEER_ADDRESS, peer.ip().to_string());
            span.set_attribute(attribute::NETWORK_PEER_PORT, i64::from(peer.port()));
        }
        if let Some(authority) = request.uri().authority() {
            span.set_attribute(attribute::SERVER_ADDRESS, telemetry::words(authority.host()));
            if let Some(port) = authority.port_u16() {
                span.set_attribute(attribute::SERVER_PORT, i64::from(port));
            }
        }
        Self { span, method, begun: Instant::now(), shared, over: false }
    }

    fn ends_with(&mut self, trailers: &HeaderMap) {
        let status = Status::from_header_map(trailers);
        self.ends(status.as_ref().map_or(Code::Unknown, Status::code), status.as_ref());
    }

    /// Says what came of it, once.
    fn ends(&mut self, code: Code, status: Option<&Status>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let mut attributes = vec![
            KeyValue::new(attribute::RPC_SYSTEM_NAME, "grpc"),
            KeyValue::new(attribute::RPC_METHOD, self.method.as_deref().unwrap_or(OTHER).to_owned()),
            KeyValue::new(attribute::RPC_STATUS_CODE, code_name(code)),
        ];
        self.span.record(attribute::RPC_STATUS_CODE, code_name(code));
        if code != Code::Ok {
            let (reason, fault) = self.why(code, status);
            self.span.record(attribute::ERROR_TYPE, reason.as_str());
            self.span.record(attribute::FAULT, fault);
            attributes.push(KeyValue::new(attribute::ERROR_TYPE, reason));
            attributes.push(KeyValue::new(attribute::FAULT, fault));
        }
        if is_error_of_a_server(code) {
            self.span.set_status(trace::Status::error(""));
        }
        let duration = self.begun.elapsed();
        self.shared.duration.record_of(&self.span, seconds(duration), &attributes);
        let _entered = self.span.enter();
        let duration_ms = (seconds(duration) * 1_000_000.0).round() / 1_000.0;
        if self.is_routine(code) {
            debug!(duration_ms, "RPC finished");
        } else {
            info!(duration_ms, "RPC finished");
        }
    }

    /// Whether nobody misses it in the log. Probes ask every few seconds, and what they hear is
    /// said where it changes.
    fn is_routine(&self, code: Code) -> bool {
        let method = self.method.as_deref().unwrap_or_default();
        method.starts_with(&HEALTH[1..]) || (code == Code::Ok && self.shared.routine.contains(&method))
    }

    /// The reason, or that of a stream that was cut, and whose fault it is.
    fn why(&self, code: Code, status: Option<&Status>) -> (String, &'static str) {
        let details = status.map(StatusExt::get_error_details).unwrap_or_default();
        let info = details.error_info();
        let reason = info.map(|info| info.reason.as_str()).unwrap_or_default();
        let cause = info.and_then(|info| info.metadata.get("cause")).map(String::as_str).unwrap_or_default();
        let fault_of = self.shared.fault_of;
        match (fault_of(reason), fault_of(cause)) {
            (Some(_), Some(fault)) if code == Code::Aborted => (reason.to_owned(), fault),
            (Some(fault), _) => (reason.to_owned(), fault),
            (None, _) => (OTHER.to_owned(), fault_of_code(code)),
        }
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        // Nobody waits for its end.
        self.ends(Code::Cancelled, None);
    }
}

/// Whose fault a status without a reason is: one that tonic made, or a caller who left.
fn fault_of_code(code: Code) -> &'static str {
    match code {
        Code::Cancelled | Code::Unimplemented | Code::InvalidArgument | Code::DeadlineExceeded => "caller",
        _ => "operator",
    }
}

/// What the conventions for RPC count as an error of the server.
fn is_error_of_a_server(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// A code as the conventions for RPC spell it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
