//! How a log line looks: one JSON object, or one line for people.
//!
//! Fields of the spans that enclose an event stand beside the event's own, so a line says of
//! which call it is without being read with others; so do the ids of the trace and the span.

use std::{fmt, sync::OnceLock};

use anstyle::{AnsiColor, Style};
use chrono::{SecondsFormat, Utc};
use opentelemetry::trace::TraceContextExt as _;
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    dispatcher::{self, WeakDispatch},
    field::{Field, Visit},
    span,
};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatFields, FormattedFields,
        format::{FormatEvent, Writer},
    },
    registry::LookupSpan,
};

/// What stands between the name of a field and its value, and after a value. Neither is in JSON.
const BETWEEN: char = '\u{1}';
const AFTER: char = '\u{2}';

/// The subscriber of this process, in which spans are looked up.
static DISPATCH: OnceLock<WeakDispatch> = OnceLock::new();

/// Lets lines have the ids of their traces. Call it once the subscriber is set.
pub(super) fn know_traces() {
    dispatcher::get_default(|dispatch| {
        // A second one would be of another test in the same process.
        let _ = DISPATCH.set(dispatch.downgrade());
    });
}

/// Writes log lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    pub(super) json: bool,
    pub(super) colours: bool,
}

/// How fields are kept until a line needs them: in the order in which they are recorded, each with its
/// value as JSON. To record one more is to write it behind the others, and nothing is read again for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut taker = Taker { out: writer, outcome: Ok(()) };
        fields.record(&mut taker);
        taker.outcome
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &span::Record<'_>) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

/// The fields that are kept in `text`. Of one that was recorded again the last value counts.
fn kept(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let fields: Vec<_> = text.split(AFTER).filter_map(|field| field.split_once(BETWEEN)).collect();
    let last = fields.clone();
    fields.into_iter().enumerate().filter_map(move |(n, field)| {
        let again = last.get(n + 1..).is_some_and(|later| later.iter().any(|later| later.0 == field.0));
        (!again).then_some(field)
    })
}

impl<S> FormatEvent<S, Fields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, Fields>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut own = String::with_capacity(256);
        Fields.format_fields(Writer::new(&mut own), event)?;
        let message = kept(&own).find(|(name, _)| *name == "message").map_or("null", |(_, value)| value);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let mut line = Line { out: out.by_ref(), form: *self, names: Vec::with_capacity(32) };
        line.begin(*level, target, message)?;
        line.fields(&own)?;
        // The innermost first: its fields go before those of the spans around it.
        for span in ctx.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(formatted) = extensions.get::<FormattedFields<Fields>>() {
                line.fields(&formatted.fields)?;
            }
        }
        if let Some((trace, span)) =
            ctx.event_scope().and_then(|mut scope| scope.next()).and_then(|span| trace(&span.id()))
        {
            line.field("trace_id", &trace)?;
            line.field("span_id", &span)?;
        }
        out.write_str(if self.json { "}\n" } else { "\n" })
    }
}

/// The ids of the trace and of the span, as JSON.
fn trace(span: &span::Id) -> Option<(String, String)> {
    let context = get_otel_context(span, &DISPATCH.get().and_then(WeakDispatch::upgrade)?)?;
    let context = context.span().span_context().clone();
    context.is_valid().then(|| (format!("\"{}\"", context.trace_id()), format!("\"{}\"", context.span_id())))
}

/// A line that is being written.
struct Line<'a> {
    out: Writer<'a>,
    form: Lines,
    /// Of the fields that are written.
    names: Vec<String>,
}

impl Line<'_> {
    fn begin(&mut self, level: Level, target: &str, message: &str) -> fmt::Result {
        let Self { out, form, .. } = self;
        if form.json {
            write!(out, "{{\"timestamp\":\"{}\",\"level\":\"{level}\",\"target\":", now())?;
            string(out, target)?;
            return write!(out, ",\"message\":{message}");
        }
        let style = if form.colours { style(level) } else { Style::new() };
        let dim = if form.colours { Style::new().dimmed() } else { Style::new() };
        write!(out, "{dim}{}{dim:#} {style}{:>5}{style:#} ", now(), level.as_str())?;
        write!(out, "{dim}{target}:{dim:#} {}", word(message))
    }

    fn fields(&mut self, kept: &str) -> fmt::Result {
        for (name, value) in self::kept(kept) {
            if name != "message" && !self.names.iter().any(|written| written == name) {
                self.field(name, value)?;
            }
        }
        Ok(())
    }

    fn field(&mut self, name: &str, value: &str) -> fmt::Result {
        self.names.push(name.to_owned());
        if self.form.json {
            return write!(self.out, ",\"{name}\":{value}");
        }
        let dim = if self.form.colours { Style::new().dimmed() } else { Style::new() };
        write!(self.out, " {dim}{name}={dim:#}{}", word(value))
    }
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A value of JSON, for people.
fn word(value: &str) -> String {
    match serde_json::from_str(value) {
        // Control characters of others do not reach a terminal.
        Ok(Value::String(text)) if !text.chars().any(char::is_control) => text,
        _ => value.to_owned(),
    }
}

/// A string of JSON.
fn string(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        return out.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?);
    }
    out.write_char('"')?;
    out.write_str(text)?;
    out.write_char('"')
}

fn style(level: Level) -> Style {
    let colour = match level {
        Level::ERROR => AnsiColor::Red,
        Level::WARN => AnsiColor::Yellow,
        Level::INFO => AnsiColor::Green,
        Level::DEBUG => AnsiColor::Blue,
        Level::TRACE => AnsiColor::Magenta,
    };
    colour.on_default()
}

/// Writes fields down as they are recorded. Those that only the exporter reads are not kept.
struct Taker<'a> {
    out: Writer<'a>,
    outcome: fmt::Result,
}

impl Taker<'_> {
    fn take(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let name = field.name();
        if self.outcome.is_ok() && !name.starts_with("otel.") {
            self.outcome = write!(self.out, "{name}{BETWEEN}")
                .and_then(|()| value(&mut self.out))
                .and_then(|()| self.out.write_char(AFTER));
        }
    }
}

impl Visit for Taker<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        self.take(field, |out| write!(out, "{}", Value::from(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, |out| write!(out, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, |out| write!(out, "{value}"));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.record_u64(field, u64::try_from(value).unwrap_or(u64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, |out| write!(out, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, |out| string(out, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, |out| string(out, &format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing::{info, info_span};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of what `says` logs.
    fn written(json: bool, says: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(Fields)
            .event_format(Lines { json, colours: false })
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), says);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_has_the_fields_of_its_spans_and_the_innermost_and_last_value_counts() {
        let line = written(true, || {
            let outer = info_span!(
                "outer",
                call = "Chat",
                model = "outer",
                "otel.kind" = "server",
                late = tracing::field::Empty
            );
            let _outer = outer.enter();
            let inner = info_span!("inner", model = "in\"ner", tries = 1);
            let _inner = inner.enter();
            inner.record("tries", 2);
            outer.record("late", 0.5);
            info!(call = true, nan = f64::NAN, shown = ?Some(1), "done\n");
        });
        let mut line: serde_json::Map<String, Value> = serde_json::from_str(&line).unwrap();
        assert!(line.remove("timestamp").is_some() && line.remove("target").is_some());
        let expected = serde_json::json!({"level": "INFO", "message": "done\n", "call": true, "nan": null,
            "shown": "Some(1)", "model": "in\"ner", "tries": 2, "late": 0.5});
        assert_eq!(Value::Object(line), expected);
    }

    #[test]
    fn a_line_for_people_is_one_line() {
        let line = written(false, || info!(who = "a\u{1}b\u{2}c\nd", times = 3, "hello"));
        assert!(line.ends_with(": hello who=\"a\\u0001b\\u0002c\\nd\" times=3\n"), "{line}");
    }

    #[test]
    fn what_others_say_cannot_forge_a_line() {
        assert_eq!(word("\"plain words\""), "plain words");
        assert_eq!(word("\"two\\nlines \\u001b[31m\""), "\"two\\nlines \\u001b[31m\"");
    }
}
