//! Logs, spans, metrics, their export, and the trace context that travels between processes.
//!
//! Every process has a tracer, with or without an exporter, so every log line and
//! every failure can carry a trace id. Context travels as W3C `traceparent` in gRPC
//! metadata.

use std::{
    io::IsTerminal as _,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use futures_util::Stream;
use opentelemetry::{
    Context, KeyValue, global,
    propagation::{Extractor, Injector},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How long the last spans may take to leave at the end of the process.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// How long one export may take. A collector that hangs longer loses the batch.
const EXPORT_MAX: Duration = Duration::from_secs(5);

/// How often metrics are sent.
const METRICS_INTERVAL: Duration = Duration::from_secs(15);

/// What a process logs and where its spans and metrics go.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Telemetry")]
pub struct TelemetryOptions {
    /// How log lines look. `auto` is `pretty` on a terminal and `json` elsewhere
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives such as `info,key_vault=debug`
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log_filter: String,

    /// Sends spans and metrics to this OTLP/gRPC collector, for example
    /// `http://127.0.0.1:4317`
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Holds what must be flushed at the end. Dropping it sends the last spans and metrics.
#[derive(Debug)]
#[must_use = "spans are lost if this is dropped at once"]
pub struct Guard {
    provider: SdkTracerProvider,
    meters: SdkMeterProvider,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nothing can be done about a collector that is gone, and nobody is left to log to.
        let _ = self.provider.shutdown_with_timeout(FLUSH_MAX);
        let _ = self.meters.shutdown_with_timeout(FLUSH_MAX);
    }
}

/// Starts logging to standard error and, if configured, exporting spans.
///
/// Must be called inside a Tokio runtime, once in a process.
///
/// # Errors
///
/// Fails if the filter or the endpoint cannot be read, or if it was called before.
pub fn init(service: &'static str, options: &TelemetryOptions) -> anyhow::Result<Guard> {
    let filter = EnvFilter::try_new(&options.log_filter)
        .with_context(|| format!("--log-filter {:?} cannot be read", options.log_filter))?;
    let provider = provider(service, options)?;
    let meters = meters(service, options)?;
    global::set_meter_provider(meters.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());

    let pretty = match options.log_format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if pretty {
        lines.with_ansi(std::io::stderr().is_terminal()).compact().boxed()
    } else {
        lines.json().flatten_event(true).with_span_list(false).boxed()
    };
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_error_events_to_exceptions(false)
        .with_error_records_to_exceptions(false)
        .with_filter(EnvFilter::new(SPANS));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans)
        .try_init()
        .context("telemetry is initialized already")?;
    Ok(Guard { provider, meters })
}

/// Which spans exist for the tracer, whatever is logged: ours, and not those of the
/// libraries below, which would drown them.
const SPANS: &str = "off,key_vault=info,chat_gateway=info,service_runtime=info";

fn provider(service: &'static str, options: &TelemetryOptions) -> anyhow::Result<SdkTracerProvider> {
    let mut provider = SdkTracerProvider::builder()
        .with_resource(resource(service))
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
    if let Some(endpoint) = &options.otlp_endpoint {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_MAX)
            .build()
            .with_context(|| format!("--otlp-endpoint {endpoint:?} cannot be used"))?;
        provider = provider.with_batch_exporter(exporter);
    }
    Ok(provider.build())
}

fn meters(service: &'static str, options: &TelemetryOptions) -> anyhow::Result<SdkMeterProvider> {
    let mut meters = SdkMeterProvider::builder().with_resource(resource(service));
    if let Some(endpoint) = &options.otlp_endpoint {
        let exporter = opentelemetry_otlp::MetricExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_MAX)
            .build()
            .with_context(|| format!("--otlp-endpoint {endpoint:?} cannot be used"))?;
        meters = meters.with_reader(PeriodicReader::builder(exporter).with_interval(METRICS_INTERVAL).build());
    }
    Ok(meters.build())
}

fn resource(service: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The trace id of the current span, as 32 hexadecimal digits.
pub fn current_trace_id() -> Option<String> {
    trace_id(&Span::current())
}

fn trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// Makes `span` a child of the span that the caller sent along, if it sent one, and
/// records the trace id in its field `trace_id`.
pub(crate) fn adopt(span: &Span, headers: &http::HeaderMap) {
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&HeaderReader(headers)));
    if parent.span().span_context().is_valid() {
        // It fails only without a tracer, and then there is no context to lose.
        let _ = span.set_parent(parent);
    }
    if let Some(id) = trace_id(span) {
        span.record("trace_id", id);
    }
}

/// Sends the current span's context along with an outgoing call.
pub fn inject(metadata: &mut MetadataMap) {
    let context: Context = Span::current().context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut MetadataWriter(metadata));
    });
}

/// Polls `stream` inside `span`, so that what happens while it is relayed belongs to
/// the RPC that opened it. Dropping it drops the stream.
pub fn in_span<S: Stream + Unpin>(span: Span, stream: S) -> impl Stream<Item = S::Item> {
    InSpan { stream, span }
}

struct InSpan<S> {
    stream: S,
    span: Span,
}

impl<S: Stream + Unpin> Stream for InSpan<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<S::Item>> {
        let this = &mut *self;
        let _entered = this.span.enter();
        Pin::new(&mut this.stream).poll_next(cx)
    }
}

struct HeaderReader<'a>(&'a http::HeaderMap);

impl Extractor for HeaderReader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct MetadataWriter<'a>(&'a mut MetadataMap);

impl Injector for MetadataWriter<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(&value)) {
            self.0.insert(key, value);
        }
    }
}
