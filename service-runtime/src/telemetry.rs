//! Logs, spans, metrics, their export, and the trace context that travels between processes.
//!
//! Every process has a tracer, with or without an exporter, so every log line and
//! every failure can carry a trace id. Context travels as W3C `traceparent` in gRPC
//! metadata.

mod lines;
mod otlp;

use std::{io::IsTerminal as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use opentelemetry::{
    Context, KeyValue, global,
    propagation::{Extractor, Injector},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{FilterExt as _, FilterFn, filter_fn},
    layer::SubscriberExt as _,
    reload as reloading,
    util::SubscriberInitExt as _,
};

use crate::{metrics, reload::Reloading};
use lines::{Fields, Lines};
pub use otlp::{OtlpOptions, OtlpProtocol};

/// How long the last spans may take to leave at the end of the process.
pub const FLUSH_MAX: Duration = Duration::from_secs(5);

/// What is taken over of a caller's `tracestate`: as much as
/// <https://www.w3.org/TR/trace-context/#tracestate-limits> has everybody pass on. A longer one is
/// dropped: it would stand in each span, and go on to the next process.
const TRACESTATE_BYTES_MAX: usize = 512;

/// The longest text that a span has of somebody else.
const WORDS_BYTES_MAX: usize = 256;

/// A text of somebody else, as a span may have it: its beginning.
pub fn words(text: &str) -> String {
    text.get(..text.floor_char_boundary(WORDS_BYTES_MAX)).unwrap_or_default().to_owned()
}

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

    /// A file with what is logged, in place of --log-filter. Read anew when it changes
    #[arg(long, value_name = "PATH")]
    pub log_filter_file: Option<PathBuf>,

    /// How many traces that begin here are exported: all with 1, none with 0. A caller that sends
    /// a trace along decides for it
    #[arg(long, value_name = "RATIO", default_value_t = 1.0)]
    pub trace_sample_ratio: f64,

    /// Where spans and metrics go.
    #[command(flatten)]
    pub otlp: OtlpOptions,
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
    filter: Option<Arc<Reloading<()>>>,
}

impl Guard {
    /// Follows the file of --log-filter-file. Never ends.
    pub async fn follow(&self) {
        match &self.filter {
            Some(filter) => filter.follow().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nothing can be done about a collector that is gone, and nobody is left to log to. Both at
        // once: one that hangs is not waited for twice.
        std::thread::scope(|threads| {
            threads.spawn(|| self.provider.shutdown_with_timeout(FLUSH_MAX));
            let _ = self.meters.shutdown_with_timeout(FLUSH_MAX);
        });
    }
}

/// Starts logging to standard error and, if configured, exporting spans and metrics.
///
/// Must be called inside a Tokio runtime, once in a process.
///
/// # Errors
///
/// Fails if an option or a file that it names cannot be used, or if it was called before.
pub fn init(service: &'static str, options: &TelemetryOptions) -> anyhow::Result<Guard> {
    let ratio = options.trace_sample_ratio;
    ensure!((0.0..=1.0).contains(&ratio), "--trace-sample-ratio {ratio} must be from 0 to 1");
    let mut provider = SdkTracerProvider::builder()
        .with_resource(resource(service))
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))));
    let mut meters = SdkMeterProvider::builder().with_resource(resource(service));
    if let Some(exporters) = otlp::exporters(&options.otlp)? {
        provider = provider.with_span_processor(exporters.spans);
        meters = meters.with_reader(exporters.metrics);
    }
    let (provider, meters) = (provider.build(), meters.build());
    global::set_meter_provider(meters.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    metrics::introduce(service);
    let filter = log(service, options, &provider)?;
    Ok(Guard { provider, meters, filter })
}

/// Sets the subscriber of the process. Its filter follows what is returned, if that is a file.
fn log(
    service: &'static str,
    options: &TelemetryOptions,
    provider: &SdkTracerProvider,
) -> anyhow::Result<Option<Arc<Reloading<()>>>> {
    let filter = filter(&options.log_filter).context("--log-filter")?;
    let (filter, reload) = reloading::Layer::<_, Registry>::new(filter);
    let colours = std::io::stderr().is_terminal();
    let json = match options.log_format {
        LogFormat::Auto => !colours,
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(Fields)
        .event_format(Lines { json, colours })
        .with_writer(std::io::stderr)
        // Lines have the fields of our spans, however little is logged.
        .with_filter(filter.or(ours()));
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_error_events_to_exceptions(false)
        .with_error_records_to_exceptions(false)
        .with_error_events_to_status(false)
        .with_tracked_inactivity(false)
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        .with_filter(ours());
    tracing_subscriber::registry().with(lines).with(spans).try_init().context("telemetry is initialized already")?;
    lines::know_traces();
    let follow = |path: &PathBuf| {
        Reloading::open("the log filter", vec![path.clone()], move |contents| {
            let text =
                contents.first().map(|bytes| std::str::from_utf8(bytes)).transpose().context("it is not text")?;
            reload.reload(self::filter(text.unwrap_or_default())?).context("the subscriber is gone")
        })
    };
    options.log_filter_file.as_ref().map(follow).transpose()
}

fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(text.trim()).with_context(|| format!("{text:?} cannot be read as a filter"))
}

/// Which spans exist, whatever is logged: ours, and not those of the libraries below, which
/// would drown them. Of events none: they are log lines, and a stream may have many.
fn ours() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    const OURS: [&str; 3] = ["key_vault", "chat_gateway", "service_runtime"];
    filter_fn(|metadata| metadata.is_span() && OURS.iter().any(|ours| metadata.target().starts_with(ours)))
}

fn resource(service: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The trace id of the current span, as 32 hexadecimal digits.
pub fn current_trace_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// Makes `span` a child of the span that the caller sent along, if it sent one.
pub(crate) fn adopt(span: &Span, headers: &http::HeaderMap) {
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&HeaderReader(headers)));
    if is_traceparent(headers) && parent.span().span_context().is_valid() {
        // It fails only without a tracer, and then there is no context to lose.
        let _ = span.set_parent(parent);
    }
}

/// Whether the ids of `traceparent` have their lengths: the SDK fills up those that are too short.
/// <https://www.w3.org/TR/trace-context/#traceparent-header>
fn is_traceparent(headers: &http::HeaderMap) -> bool {
    let value = headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let lengths: Vec<_> = value.trim().split('-').take(4).map(str::len).collect();
    lengths == [2, 32, 16, 2]
}

/// Sends the current span's context along with an outgoing call.
pub fn inject(metadata: &mut MetadataMap) {
    let context: Context = Span::current().context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut MetadataWriter(metadata));
    });
}

struct HeaderReader<'a>(&'a http::HeaderMap);

impl Extractor for HeaderReader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(key).and_then(|value| value.to_str().ok())?;
        (key != "tracestate" || value.len() <= TRACESTATE_BYTES_MAX).then_some(value)
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
