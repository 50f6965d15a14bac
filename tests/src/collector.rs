//! Receives what services export over OTLP, and reads it: spans as trees, metrics by their names.
//!
//! One port speaks gRPC, and protobuf over HTTP at `/v1/traces` and `/v1/metrics`, in the clear
//! or over TLS. It can be told to hang, to be slow and to refuse.
//!
//! It keeps only so much of what comes, and says so when more came: a test that reads half of
//! what was exported would prove nothing.

mod measured;
mod server;
mod spans;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::HeaderMap;
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    resource::v1::Resource,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::certs::Authority;
pub use measured::{Kind as MetricKind, Metric, Point};
pub use spans::{Kind, Outcome, Span, Trace};

/// Most bytes of exports that are kept.
const KEPT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How long [`Collector::eventually`] waits: metrics leave every few seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// Attributes by their names.
pub type Attributes = BTreeMap<String, Value>;

/// A collector on a port of the system's choice. Stops when dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// How a collector meets an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Takes,
    /// Takes it after a time.
    Slow(Duration),
    /// Reads it and never answers.
    Hangs,
    /// Says that it is not available.
    Refuses,
}

/// How an export came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

/// What came, and how.
#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    manner: watch::Sender<Manner>,
    /// Exports that came, whatever became of them.
    asked: watch::Sender<usize>,
    /// Exports that were taken.
    taken: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Span>,
    /// The last state of each metric, by its service and its name.
    metrics: BTreeMap<(String, String), Metric>,
    resources: Vec<Attributes>,
    arrivals: Vec<Arrival>,
    raw: Vec<u8>,
    overflown: bool,
}

/// An export that came.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// How it came.
    pub protocol: Protocol,
    /// Whether it had spans. Otherwise it had metrics.
    pub spans: bool,
    /// Its headers.
    pub headers: HeaderMap,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            manner: watch::Sender::new(Manner::Takes),
            asked: watch::Sender::new(0),
            taken: watch::Sender::new(0),
        }
    }
}

impl Collector {
    /// Starts one that speaks in the clear.
    pub async fn start() -> Self {
        Self::with("http", None).await
    }

    /// Starts one over TLS. `authority` vouches for it.
    pub async fn over_tls(authority: &Authority) -> Self {
        Self::with("https", Some(server::acceptor(authority))).await
    }

    async fn with(scheme: &'static str, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::<Shared>::default();
        let server = tokio::spawn(server::serve(listener, tls, Arc::clone(&shared)));
        Self { address, scheme, shared, server }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Meets exports so from now on, those that hang too.
    pub fn set(&self, manner: Manner) {
        self.shared.manner.send_replace(manner);
    }

    /// How many exports came, whatever became of them.
    pub fn asked(&self) -> usize {
        *self.shared.asked.borrow()
    }

    /// Resolves once an export came for the `count`th time, whatever becomes of it.
    pub async fn is_asked(&self, count: usize) {
        let mut asked = self.shared.asked.subscribe();
        let came = timeout(PATIENCE, asked.wait_for(|asked| *asked >= count)).await;
        assert!(came.is_ok(), "{} exports came within {PATIENCE:?}, and not {count}", self.asked());
    }

    /// Waits until `ask` finds something in what was taken.
    pub async fn eventually<T>(&self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> T {
        let mut found = None;
        let mut taken = self.shared.taken.subscribe();
        let wait = async {
            loop {
                taken.borrow_and_update();
                found = ask(self);
                if found.is_some() {
                    return;
                }
                taken.changed().await.expect("the collector is here");
            }
        };
        let _ = timeout(PATIENCE, wait).await;
        found.unwrap_or_else(|| panic!("{what} did not arrive in {PATIENCE:?}: {}", self.summary()))
    }

    /// The spans of a trace.
    pub fn trace(&self, id: &str) -> Trace {
        let mut spans = self.spans();
        spans.retain(|span| span.trace == id);
        Trace::new(id, spans)
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        self.kept().spans.clone()
    }

    /// A metric as a service said it last.
    pub fn metric(&self, service: &str, name: &str) -> Option<Metric> {
        self.kept().metrics.get(&(service.to_owned(), name.to_owned())).cloned()
    }

    /// All metrics of a service, as it said them last.
    pub fn metrics(&self, service: &str) -> Vec<Metric> {
        let kept = self.kept();
        kept.metrics.iter().filter(|((of, _), _)| of == service).map(|(_, metric)| metric.clone()).collect()
    }

    /// What services say of themselves, each once.
    pub fn resources(&self) -> Vec<Attributes> {
        self.kept().resources.clone()
    }

    /// All exports that came.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.kept().arrivals.clone()
    }

    /// All bytes that came. Texts stand in them as they are.
    pub fn raw(&self) -> Vec<u8> {
        self.kept().raw.clone()
    }

    /// What came, in a line for people.
    pub fn summary(&self) -> String {
        let kept = self.kept();
        let names: Vec<_> = kept.spans.iter().map(|span| format!("{}: {}", span.service, span.name)).collect();
        let metrics: Vec<_> = kept.metrics.keys().map(|(service, name)| format!("{service}: {name}")).collect();
        format!("{} exports, spans {names:?}, metrics {metrics:?}", kept.arrivals.len())
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        let kept = self.shared.kept.lock().expect("no panic while receiving");
        assert!(!kept.overflown, "more was exported than is kept");
        kept
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn arrived(&self, protocol: Protocol, spans: bool, headers: HeaderMap) {
        self.kept.lock().expect("no panic").arrivals.push(Arrival { protocol, spans, headers });
        self.asked.send_modify(|asked| *asked += 1);
    }

    fn take_spans(&self, request: ExportTraceServiceRequest) {
        let mut kept = self.kept.lock().expect("no panic");
        kept.take_raw(&request.encode_to_vec());
        for of_resource in request.resource_spans {
            let resource = kept.take_resource(of_resource.resource);
            for of_scope in of_resource.scope_spans {
                kept.spans.extend(of_scope.spans.into_iter().map(|span| Span::read(&resource, span)));
            }
        }
        drop(kept);
        self.taken.send_modify(|taken| *taken += 1);
    }

    fn take_metrics(&self, request: ExportMetricsServiceRequest) {
        let mut kept = self.kept.lock().expect("no panic");
        kept.take_raw(&request.encode_to_vec());
        for of_resource in request.resource_metrics {
            let service = service(&kept.take_resource(of_resource.resource));
            for metric in of_resource.scope_metrics.into_iter().flat_map(|of_scope| of_scope.metrics) {
                let metric = Metric::read(metric);
                kept.metrics.insert((service.clone(), metric.name.clone()), metric);
            }
        }
        drop(kept);
        self.taken.send_modify(|taken| *taken += 1);
    }
}

impl Kept {
    fn take_raw(&mut self, bytes: &[u8]) {
        self.overflown |= self.raw.len() + bytes.len() > KEPT_BYTES_MAX;
        if !self.overflown {
            self.raw.extend_from_slice(bytes);
        }
    }

    fn take_resource(&mut self, resource: Option<Resource>) -> Attributes {
        let resource = attributes(resource.unwrap_or_default().attributes);
        if !self.resources.contains(&resource) {
            self.resources.push(resource.clone());
        }
        resource
    }
}

fn service(resource: &Attributes) -> String {
    resource.get("service.name").and_then(Value::as_str).unwrap_or("a service without a name").to_owned()
}

/// What is there twice gets a name that no table has.
fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    let mut attributes = Attributes::new();
    for pair in pairs {
        let name = if attributes.contains_key(&pair.key) { format!("{} twice", pair.key) } else { pair.key };
        attributes.insert(name, value(pair.value));
    }
    attributes
}

fn value(value: Option<AnyValue>) -> Value {
    match value.and_then(|value| value.value) {
        None => Value::Null,
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::BoolValue(flag)) => json!(flag),
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::DoubleValue(number)) => json!(number),
        Some(Any::ArrayValue(list)) => list.values.into_iter().map(|item| self::value(Some(item))).collect(),
        // No attribute of ours is one of these.
        Some(other) => json!(format!("{other:?}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
