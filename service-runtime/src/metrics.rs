//! Instruments: each is recorded once and read twice, by the OTLP exporter and at `/metrics`.
//!
//! The SDK of OpenTelemetry has no exemplars and no exposition, and `prometheus-client` no OTLP:
//! an instrument here is one of each. The set of series of an instrument is bounded; what is
//! beyond goes into one series that says so.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use opentelemetry::{KeyValue, global, metrics as otel, trace::TraceContextExt as _};
use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text, text},
    metrics::{
        counter,
        exemplar::HistogramWithExemplars,
        family::{self, MetricConstructor},
        gauge, info,
    },
    registry::{Metric, Registry, Unit},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The most series of one instrument, as in the SDK of OpenTelemetry.
const SERIES_MAX: usize = 2_000;

/// What the SDK of OpenTelemetry calls the series beyond.
const OVERFLOW: &str = "otel_metric_overflow";

/// The scope of our instruments.
const SCOPE: &str = "archestra";

type Labels = Vec<(String, String)>;

static EXPOSED: LazyLock<Mutex<Exposed>> = LazyLock::new(Mutex::default);

/// What `/metrics` shows: one of each instrument, however often it is asked for.
#[derive(Default)]
struct Exposed {
    registry: Registry,
    counters: BTreeMap<&'static str, Counter>,
    histograms: BTreeMap<&'static str, Histogram>,
    gauges: BTreeMap<&'static str, Gauge>,
    levels: BTreeMap<&'static str, Level>,
}

fn exposed() -> MutexGuard<'static, Exposed> {
    // Nothing that holds the lock panics.
    EXPOSED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How an instrument is called, counted and explained.
#[derive(Clone, Copy, Debug)]
pub struct Describe {
    /// As OpenTelemetry names it: `rpc.server.call.duration`.
    pub name: &'static str,
    /// A unit of UCUM: `s`, `{token}`, or nothing.
    pub unit: &'static str,
    /// What it tells, for people.
    pub help: &'static str,
}

fn register(registry: &mut Registry, describe: &Describe, metric: impl Metric) {
    let name = describe.name.replace('.', "_");
    match describe.unit {
        "s" => registry.register_with_unit(name, describe.help, Unit::Seconds, metric),
        // Those in braces are words for people, and no units of Prometheus.
        _ => registry.register(name, describe.help, metric),
    }
}

/// The series of one instrument at `/metrics`, as many as may be.
struct Family<M, C = fn() -> M> {
    series: family::Family<Labels, M, C>,
    count: Arc<AtomicUsize>,
}

impl<M, C: Clone> Clone for Family<M, C> {
    fn clone(&self) -> Self {
        Self { series: self.series.clone(), count: Arc::clone(&self.count) }
    }
}

impl<M: Clone, C: MetricConstructor<M> + Clone> Family<M, C> {
    fn new(constructor: C) -> Self {
        Self { series: family::Family::new_with_constructor(constructor), count: Arc::default() }
    }

    /// The series of these attributes, or the one of all that are too many.
    fn of(&self, attributes: &[KeyValue]) -> M {
        let label =
            |attribute: &KeyValue| (attribute.key.as_str().replace('.', "_"), attribute.value.as_str().into_owned());
        let labels: Labels = attributes.iter().map(label).collect();
        if let Some(series) = self.series.get(&labels) {
            return series.clone();
        }
        if self.count.fetch_add(1, Ordering::Relaxed) < SERIES_MAX {
            return self.series.get_or_create_owned(&labels);
        }
        self.series.get_or_create_owned(&vec![(OVERFLOW.to_owned(), "true".to_owned())])
    }
}

/// Counts what happens.
#[derive(Clone)]
pub struct Counter {
    otel: otel::Counter<u64>,
    family: Family<counter::Counter>,
}

impl Counter {
    /// The counter of this name. `without_attributes` are there with 0 from the start.
    pub fn new(describe: &Describe) -> Self {
        let Exposed { registry, counters, .. } = &mut *exposed();
        let make = || {
            let family = Family::new(Default::default as fn() -> _);
            register(registry, describe, family.series.clone());
            let meter = global::meter(SCOPE);
            let otel = meter.u64_counter(describe.name).with_unit(describe.unit).with_description(describe.help);
            Self { otel: otel.build(), family }
        };
        counters.entry(describe.name).or_insert_with(make).clone()
    }

    /// The counter of this name, which has no attributes and shows 0 before it is used.
    pub fn from_zero(describe: &Describe) -> Self {
        let counter = Self::new(describe);
        counter.add(0, &[]);
        counter
    }

    /// Counts `count` more.
    pub fn add(&self, count: u64, attributes: &[KeyValue]) {
        self.otel.add(count, attributes);
        self.family.of(attributes).inc_by(count);
    }
}

/// Measures how values are distributed.
#[derive(Clone)]
pub struct Histogram {
    otel: otel::Histogram<f64>,
    family: Family<HistogramWithExemplars<Exemplar>, Buckets>,
}

/// The trace of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exemplar {
    trace_id: String,
}

#[derive(Clone, Copy, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<HistogramWithExemplars<Exemplar>> for Buckets {
    fn new_metric(&self) -> HistogramWithExemplars<Exemplar> {
        HistogramWithExemplars::new(self.0.iter().copied())
    }
}

impl Histogram {
    /// The histogram of this name.
    pub fn new(describe: &Describe, buckets: &'static [f64]) -> Self {
        let Exposed { registry, histograms, .. } = &mut *exposed();
        let make = || {
            let family = Family::new(Buckets(buckets));
            register(registry, describe, family.series.clone());
            let meter = global::meter(SCOPE);
            let otel = meter.f64_histogram(describe.name).with_unit(describe.unit).with_description(describe.help);
            Self { otel: otel.with_boundaries(buckets.to_vec()).build(), family }
        };
        histograms.entry(describe.name).or_insert_with(make).clone()
    }

    /// Records a value, with the trace of the current span as its example.
    pub fn record(&self, value: f64, attributes: &[KeyValue]) {
        self.record_of(&Span::current(), value, attributes);
    }

    /// Records a value, with the trace of `span` as its example.
    pub fn record_of(&self, span: &Span, value: f64, attributes: &[KeyValue]) {
        self.otel.record(value, attributes);
        let series = self.family.of(attributes);
        series.observe(value, exemplar(span), Some(SystemTime::now()));
    }

    /// The series of these attributes, for a path that records often.
    pub fn series(&self, attributes: Vec<KeyValue>) -> Series {
        let exposed = self.family.of(&attributes);
        Series { otel: self.otel.clone(), attributes, bound: None, exposed }
    }
}

/// One series of a histogram. Records without examples, and from its second value on without looking
/// anything up.
#[derive(Clone)]
pub struct Series {
    otel: otel::Histogram<f64>,
    attributes: Vec<KeyValue>,
    /// From the first value on: a series without one is not exported.
    bound: Option<otel::BoundHistogram<f64>>,
    exposed: HistogramWithExemplars<Exemplar>,
}

impl Series {
    /// Records a value.
    pub fn record(&mut self, value: f64) {
        self.bound.get_or_insert_with(|| self.otel.bind(&self.attributes)).record(value);
        self.exposed.observe(value, None, None);
    }
}

/// A trace that is not exported is no example: nobody could look at it.
fn exemplar(span: &Span) -> Option<Exemplar> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    (span.is_valid() && span.is_sampled()).then(|| Exemplar { trace_id: span.trace_id().to_string() })
}

/// Shows a value as it is now.
#[derive(Clone)]
pub struct Gauge {
    otel: otel::Gauge<i64>,
    family: Family<gauge::Gauge>,
}

impl Gauge {
    /// The gauge of this name.
    pub fn new(describe: &Describe) -> Self {
        let Exposed { registry, gauges, .. } = &mut *exposed();
        let make = || {
            let family = Family::new(Default::default as fn() -> _);
            register(registry, describe, family.series.clone());
            let meter = global::meter(SCOPE);
            let otel = meter.i64_gauge(describe.name).with_unit(describe.unit).with_description(describe.help);
            Self { otel: otel.build(), family }
        };
        gauges.entry(describe.name).or_insert_with(make).clone()
    }

    /// Shows `value`.
    pub fn set(&self, value: i64, attributes: &[KeyValue]) {
        self.otel.record(value, attributes);
        self.family.of(attributes).set(value);
    }
}

/// Counts what there is at the moment.
#[derive(Clone)]
pub struct Level {
    otel: otel::UpDownCounter<i64>,
    gauge: gauge::Gauge,
}

impl Level {
    /// The level of this name.
    pub fn new(describe: &Describe) -> Self {
        let Exposed { registry, levels, .. } = &mut *exposed();
        let make = || {
            let gauge = gauge::Gauge::default();
            register(registry, describe, gauge.clone());
            let meter = global::meter(SCOPE);
            let otel = meter.i64_up_down_counter(describe.name).with_unit(describe.unit);
            Self { otel: otel.with_description(describe.help).build(), gauge }
        };
        let level = levels.entry(describe.name).or_insert_with(make).clone();
        level.otel.add(0, &[]);
        level
    }

    /// One more, until what is returned is dropped.
    pub fn enter(&self) -> Entered {
        self.otel.add(1, &[]);
        self.gauge.inc();
        Entered(self.clone())
    }
}

/// One of a [`Level`].
pub struct Entered(Level);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.otel.add(-1, &[]);
        self.0.gauge.dec();
    }
}

macro_rules! opaque {
    ($($name:ident)*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        })*
    };
}
opaque!(Counter Histogram Series Gauge Level Entered);

/// Says at `/metrics` which service this is.
pub(crate) fn introduce(service: &'static str) {
    let labels: Labels = [("service_name", service), ("service_version", env!("CARGO_PKG_VERSION"))]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    exposed().registry.register("target", "Which service this is", info::Info::new(labels));
}

/// All instruments in the form that `accept` asks for, and its content type.
///
/// Forms: `OpenMetrics` 1.0 with exemplars if it is asked for, as Prometheus does; else
/// Prometheus' own text format 0.0.4, which has none.
pub fn exposition(accept: Option<&str>) -> (&'static str, String) {
    let mut out = String::new();
    let exposed = exposed();
    // Writing to a string does not fail.
    if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        let _ = text::encode(&mut out, &exposed.registry);
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", out)
    } else {
        let _ = prometheus_text::encode(&mut out, &exposed.registry);
        ("text/plain; version=0.0.4; charset=utf-8", out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instrument_is_shown_in_both_forms() {
        let describe = Describe { name: "test.shown.duration", unit: "s", help: "A test" };
        let histogram = Histogram::new(&describe, &[0.5, 1.0]);
        histogram.record(0.7, &[KeyValue::new("rpc.method", "a \"quoted\" one")]);
        Counter::from_zero(&Describe { name: "test.counted", unit: "{thing}", help: "A test" });

        let (kind, plain) = exposition(None);
        assert!(kind.starts_with("text/plain; version=0.0.4"));
        assert!(
            plain.contains("test_shown_duration_seconds_bucket{rpc_method=\"a \\\"quoted\\\" one\",le=\"1\"} 1"),
            "{plain}"
        );
        assert!(plain.contains("\ntest_counted_total 0\n"), "{plain}");
        let (kind, open) = exposition(Some("application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"));
        assert!(kind.starts_with("application/openmetrics-text"));
        assert!(open.ends_with("# EOF\n"));
    }

    #[test]
    fn an_instrument_that_is_asked_for_twice_is_one() {
        let describe = Describe { name: "test.twice", unit: "{thing}", help: "A test" };
        Counter::new(&describe).add(1, &[]);
        Counter::new(&describe).add(2, &[]);
        assert!(exposition(None).1.contains("test_twice_total 3\n"));
    }

    #[test]
    fn series_beyond_the_limit_are_counted_together() {
        let counter = Counter::new(&Describe { name: "test.many", unit: "{thing}", help: "A test" });
        for n in 0..SERIES_MAX + 10 {
            counter.add(1, &[KeyValue::new("n", i64::try_from(n).expect("a number"))]);
        }
        let shown = exposition(None).1;
        assert_eq!(shown.lines().filter(|line| line.starts_with("test_many_total")).count(), SERIES_MAX + 1);
        assert!(shown.contains("test_many_total{otel_metric_overflow=\"true\"} 10"));
    }
}
